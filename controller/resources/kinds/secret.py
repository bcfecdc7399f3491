"""Secrets of type kubernetes.io/tls: a certificate chain and its key, checked before anything uses them."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.reading.fields import metadata_ref
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Malformed, Problem, Reason
from proxy.model.sensitive import Sensitive

TYPE = "kubernetes.io/tls"
MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Secret:
    """A certificate chain with the key of its leaf."""

    ref: ObjectRef
    chain: bytes
    """PEM, leaf first: as it was read, not as it was written."""
    key: Sensitive
    """PEM, as it was read."""
    not_after: float
    """Unix time of the leaf's expiry."""
    names: tuple[str, ...] | None = None
    """Hosts that the leaf is for, in order; None: they cannot be read."""
    not_before: float = 0.0
    """Unix time when the leaf begins to be valid."""
    last_good: "Secret | None" = None
    """What was there before, where that was valid when this came and this was not."""
    misdated: str = ""
    """What is wrong with its dates, as what follows the certificate in a sentence; empty: nothing, or they were not checked."""


def is_valid(secret: Secret, now: float) -> bool:
    """Tell whether a time (Unix) is within the dates of a certificate, both of which belong to it (RFC 5280, 4.1.2.5)."""
    return secret.not_before <= now < secret.not_after + 1


def parse_secret(raw: Mapping[str, Any]) -> Secret | Malformed | None:
    """Read a TLS Secret; None: it is of another type."""
    if raw.get("type") != TYPE:
        return None
    # Imported here: cryptography takes 3 MB, and where no Secret of this type is nobody needs it.
    from controller.resources.reading import certificate_chain as pem  # noqa: PLC0415

    ref = metadata_ref(raw, "Secret")

    def refuse(field: str, sentence: str) -> Malformed:
        return Malformed(ref, (Problem(ref, Reason.SECRET_INVALID, field, f"{field}: {sentence}"),))

    contents: dict[str, bytes] = {}
    for name in ("tls.crt", "tls.key"):
        data = _data(raw, name)
        field = f"data[{name}]"
        if data is None:
            return refuse(field, "nothing that can be read was found, PEM in base64 would be accepted.")
        if not data.strip() or len(data) > MAX_BYTES:
            return refuse(field, f"{len(data)} bytes were found, PEM of at most 1 MiB would be accepted.")
        contents[name] = data
    chain = pem.read_chain(contents["tls.crt"])
    key = chain if isinstance(chain, str) else pem.read_key(contents["tls.key"], chain[0])
    if isinstance(chain, str) or isinstance(key, str):
        if order := pem.order_problem(contents["tls.crt"], contents["tls.key"]):
            return refuse("data[tls.crt]", order)
        return refuse("data[tls.crt]", chain) if isinstance(chain, str) else refuse("data[tls.key]", str(key))
    leaf = chain[0]
    begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    return Secret(ref, pem.write_chain(chain), Sensitive(pem.write_key(key)), end, pem.names_of(leaf), begin)


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
