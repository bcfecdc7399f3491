"""Secrets of type kubernetes.io/tls: a certificate chain and its key, checked before anything uses them."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from controller.resources.fields import metadata_ref
from controller.resources.problems import Malformed, Problem, Reason
from controller.resources.refs import ObjectRef
from proxy.model.sensitive import Sensitive

TYPE = "kubernetes.io/tls"
MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Secret:
    """A certificate chain with the key of its leaf."""

    ref: ObjectRef
    chain: bytes
    """PEM, leaf first."""
    key: Sensitive
    """PEM."""
    not_after: float
    """Unix time of the leaf's expiry."""
    names: tuple[str, ...] | None = None
    """Hosts that the leaf is for, in order; None: its extensions cannot be read."""


def parse_secret(raw: Mapping[str, Any]) -> Secret | Malformed | None:
    """Read a TLS Secret; None: it is of another type."""
    if raw.get("type") != TYPE:
        return None
    ref = metadata_ref(raw, "Secret")

    def refuse(field: str, sentence: str) -> Malformed:
        return Malformed(ref, (Problem(ref, Reason.SECRET_INVALID, field, f"{field}: {sentence}"),))

    found: dict[str, bytes] = {}
    for name in ("tls.crt", "tls.key"):
        data = _data(raw, name)
        field = f"data[{name}]"
        if data is None:
            return refuse(field, "nothing that can be read was found, PEM in base64 would be accepted.")
        if not data.strip() or len(data) > MAX_BYTES:
            return refuse(field, f"{len(data)} bytes were found, PEM of at most 1 MiB would be accepted.")
        found[name] = data
    try:
        chain = x509.load_pem_x509_certificates(found["tls.crt"])
    except (ValueError, UnsupportedAlgorithm):
        return refuse(
            "data[tls.crt]", "no certificate could be read, a chain of certificates in PEM, the leaf first, would be accepted."
        )
    try:
        key = serialization.load_pem_private_key(found["tls.key"], password=None)
    except TypeError:
        return refuse("data[tls.key]", "an encrypted key was found, a key without a password would be accepted.")
    except (ValueError, UnsupportedAlgorithm):
        return refuse("data[tls.key]", "no private key could be read, a key in PEM would be accepted.")
    public = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*public) != chain[0].public_key().public_bytes(*public):
        return refuse(
            "data[tls.key]", "the key is not that of the first certificate in tls.crt, the leaf's own key would be accepted."
        )
    leaf = chain[0]
    return Secret(ref, found["tls.crt"], Sensitive(found["tls.key"]), leaf.not_valid_after_utc.timestamp(), _names(leaf))


def _names(leaf: x509.Certificate) -> tuple[str, ...] | None:
    """Return the DNS names of a certificate. Its subject's common name counts for nothing (RFC 9525, 2)."""
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    except ValueError:
        return None
    return tuple(sorted(name.lower() for name in found.get_values_for_type(x509.DNSName)))


def _data(raw: Mapping[str, Any], name: str) -> bytes | None:
    plain = raw.get("stringData")
    if isinstance(plain, Mapping) and isinstance(plain.get(name), str):
        return str(plain[name]).encode()
    data = raw.get("data")
    value = data.get(name) if isinstance(data, Mapping) else None
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
