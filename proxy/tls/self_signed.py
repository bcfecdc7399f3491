"""The default certificate that the supervisor makes at start, where no other is named."""

import datetime as dt

import msgspec

from proxy.model.config import Certificate
from proxy.model.sensitive import Sensitive
from proxy.platform.forked import made_apart

SELF_SIGNED_DAYS = 365
"""Life of the default certificate that is made at start."""


def self_signed_apart(now: float) -> Certificate:
    """Make the same as `self_signed` in a process of its own: cryptography takes 3 MB, and nothing else here needs it."""
    return msgspec.msgpack.decode(made_apart(lambda: msgspec.msgpack.encode(self_signed(now))), type=Certificate)


def self_signed(now: float) -> Certificate:
    """Make the certificate for hosts that have none (EC P-256), valid from an hour before `now` (Unix time)."""
    from cryptography import x509  # noqa: PLC0415  see self_signed_apart
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sluice default certificate")])
    start = dt.datetime.fromtimestamp(now, dt.UTC)
    end = start + dt.timedelta(days=SELF_SIGNED_DAYS)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - dt.timedelta(hours=1))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("sluice.invalid")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(certificate.public_bytes(serialization.Encoding.PEM), Sensitive(pem), end.timestamp())
