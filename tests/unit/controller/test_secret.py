"""TLS Secrets: what is read of a certificate, and what no object may do to whoever reads it.

Which forms are served, and which are refused as OpenSSL and clients would, is in tests/wire/test_certificate_forms.py.
"""

import base64
import datetime as dt
import random
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from certificate_forms import FORMS, LEAF, Form, key_of, key_pem, leaf, pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from controller.resources import Malformed, Secret, parse_object


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
        # An x400Address, which nothing reads (RFC 5280, 4.2.1.6).
        ([x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, bytes.fromhex("3004a3020500"))], None),
    ],
    ids=["names", "a common name alone", "unreadable"],
)
def test_names_of_a_certificate_are_its_dns_names(extensions: list[x509.ExtensionType], names: tuple[str, ...] | None) -> None:
    secret = parse_object(certificate(*extensions))

    assert isinstance(secret, Secret)
    assert secret.names == names


def refused(form: Form) -> str:
    result = parse_object(form.secret())
    assert isinstance(result, Malformed)
    (problem,) = result.problems
    return problem.message


def block(label: bytes, data: bytes) -> bytes:
    return b"-----BEGIN " + label + b"-----\n" + base64.encodebytes(data) + b"-----END " + label + b"-----\n"


def test_certificate_of_an_rsa_key_above_8192_bits_is_refused() -> None:
    """Go's and Chrome's clients refuse it, in the chain too, and each handshake would hold a worker for long."""
    modulus = random.Random(1).getrandbits(8200) | 1 | 1 << 8199  # noqa: S311  no key of anybody's
    huge = rsa.RSAPublicNumbers(65537, modulus).public_key()
    signer = key_of("P-256", "root")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "huge")])
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    made = x509.CertificateBuilder(name, name, huge, 1, day, day + dt.timedelta(90)).sign(signer, hashes.SHA256())
    key = key_pem(key_of("P-256"))

    assert refused(Form(pem(made), key)) == f"data[tls.crt]: an RSA key of 8200 bits was found in the first certificate, {LEAF}"
    assert "an RSA key of 8200 bits was found in certificate 2 of 2, " in refused(Form(pem(leaf(), made), key))


@pytest.mark.programs
def test_certificate_whose_key_is_for_pss_alone_is_refused(tmp_path: Path) -> None:
    """OpenSSL serves it, and browsers know no such key."""
    key, crt = tmp_path / "key", tmp_path / "crt"
    for command in (
        ["genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(key)],
        ["req", "-x509", "-new", "-key", str(key), "-subj", "/CN=a.example.com", "-days", "90", "-out", str(crt)],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=30)

    message = refused(Form(crt.read_bytes(), key.read_bytes()))
    assert message == f"data[tls.crt]: an RSA-PSS key of 2048 bits was found in the first certificate, {LEAF}"


@pytest.mark.parametrize("bits", [20_000, 400_000])
def test_huge_key_of_another_is_refused_at_once(bits: int) -> None:
    """What it takes to check it takes minutes: whoever may write a Secret would hold up the controller."""
    half = random.Random(2).getrandbits(bits // 2) | 1 | 1 << (bits // 2 - 1)  # noqa: S311  no key of anybody's
    numbers = [0, half * (half + 2), 65537, half, half, half + 2, 3, 3, 3]
    parts = b"".join(_der(2, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in numbers)
    started = time.process_time()
    message = refused(Form(FORMS["as usual"]().crt, block(b"RSA PRIVATE KEY", _der(0x30, parts))))

    assert time.process_time() - started < 0.5
    assert message.startswith(
        "data[tls.key]: the key is not that of the first certificate" if bits == 20_000 else "data[tls.key]: a private key of "
    )


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, *(length if size < 128 else (0x80 | len(length), *length))]) + content


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:cryptography.utils.CryptographyDeprecationWarning")
def test_any_bytes_in_a_certificate_or_key_give_a_record_or_a_sentence() -> None:
    """Bytes change at random in whole certificates: nothing else reaches what is read after the outermost structure."""
    chance = random.Random(3)  # noqa: S311  not for secrets
    forms = [FORMS[name]() for name in ("as usual", "RSA 2048 in the chain", "Ed25519", "for servers")]
    kinds = set()
    for _ in range(1500):
        form = chance.choice(forms)
        blocks = [base64.b64decode(found) for found in re.findall(rb"CERTIFICATE-----\n(.*?)-----END", form.crt, re.DOTALL)]
        blocks.append(base64.b64decode(form.key.split(b"-----")[2]))
        at = chance.randrange(len(blocks))
        changed = bytearray(blocks[at])
        for _ in range(chance.choice((1, 1, 2, 4))):
            place = chance.randrange(len(changed))
            changed[place] ^= 1 << chance.randrange(8)
        blocks[at] = bytes(changed)
        *chain, key = blocks
        result = parse_object(Form(b"".join(block(b"CERTIFICATE", one) for one in chain), block(b"PRIVATE KEY", key)).secret())
        kinds.add(type(result))
        if isinstance(result, Malformed):
            assert all(problem.message.isprintable() and problem.message.endswith(".") for problem in result.problems)

    assert kinds == {Secret, Malformed}
