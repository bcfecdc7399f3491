"""The certificate of the benchmarks: a leaf signed by an intermediate that a root signed, as those of clusters are."""

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

ECDSA = "ECDSA P-256"
RSA = "RSA 2048"
"""Kinds of a leaf's key."""


def _signed(
    name: str,
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    issuer: str,
    key: Key,
    *,
    further: bool,
    hosts: tuple[str, ...] = (),
) -> bytes:
    now = dt.datetime.now(dt.UTC)
    # RFC 5280, 4.2.1.3: an authority must say what its key is for; Python 3.13 and newer ask it.
    usage = x509.KeyUsage(
        digital_signature=not further,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=further,
        crl_sign=further,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=further, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
    digest = hashes.SHA384() if isinstance(key, ec.EllipticCurvePrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files."""

    chain: bytes
    """Leaf and intermediate: what a Secret holds."""
    key: bytes
    root: bytes


def _keys(kind: str) -> list[Key]:
    """Make keys of root, intermediate and leaf, of the kinds that Let's Encrypt's chains have."""
    if kind == RSA:
        return [rsa.generate_private_key(65537, bits) for bits in (4096, 2048, 2048)]
    return [ec.generate_private_key(curve) for curve in (ec.SECP384R1(), ec.SECP384R1(), ec.SECP256R1())]


def make_certificate(kind: str = ECDSA) -> Certificate:
    """Make a certificate for *.localhost."""
    root, intermediate, leaf = _keys(kind)
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
