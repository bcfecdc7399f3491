"""The certificate of the benchmarks: a leaf signed by an intermediate that a root signed, as those of clusters are."""

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _signed(
    name: str,
    public: ec.EllipticCurvePublicKey,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    further: bool,
    hosts: tuple[str, ...] = (),
) -> bytes:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=further, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
    return builder.sign(key, hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()).public_bytes(
        serialization.Encoding.PEM
    )


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files."""

    chain: bytes
    """Leaf and intermediate: what a Secret holds."""
    key: bytes
    root: bytes


def make_certificate() -> Certificate:
    """Make a certificate for *.localhost."""
    # The kinds of keys that Let's Encrypt's ECDSA chain has.
    root, intermediate, leaf = (ec.generate_private_key(curve) for curve in (ec.SECP384R1(), ec.SECP384R1(), ec.SECP256R1()))
    hosts = ("bench.localhost", "*.localhost", "localhost")
    chain = (
        _signed("bench.localhost", leaf.public_key(), "Sluice bench intermediate", intermediate, further=False, hosts=hosts),
        _signed("Sluice bench intermediate", intermediate.public_key(), "Sluice bench root", root, further=True),
    )
    return Certificate(
        b"".join(chain),
        leaf.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        _signed("Sluice bench root", root.public_key(), "Sluice bench root", root, further=True),
    )
