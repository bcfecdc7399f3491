"""TLS Secrets: what is read of a certificate beside whether it can be used."""

import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controller.resources import Secret, parse_object


def certificate(*more: x509.ExtensionType) -> dict[str, Any]:
    """A Secret whose certificate has these extensions."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example.com")])
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), day, day + dt.timedelta(90))
    for one in more:
        made = made.add_extension(one, critical=False)
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    data = {
        "tls.crt": made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(),
        "tls.key": key.private_bytes(*private).decode(),
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "t"}, "type": "kubernetes.io/tls", "stringData": data}


@pytest.mark.parametrize(
    ("extensions", "names"),
    [
        (
            [x509.SubjectAlternativeName([x509.DNSName("B.example.com"), x509.DNSName("*.a.example.com")])],
            ("*.a.example.com", "b.example.com"),
        ),
        ([], ()),
        ([x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\xff")], None),
    ],
    ids=["names", "a common name alone", "unreadable"],
)
def test_names_of_a_certificate_are_its_dns_names(extensions: list[x509.ExtensionType], names: tuple[str, ...] | None) -> None:
    secret = parse_object(certificate(*extensions))

    assert isinstance(secret, Secret)
    assert secret.names == names
