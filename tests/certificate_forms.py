"""Forms in which certificates and keys stand in Secrets: each with what is to be said of it; the authorities behind them."""

import base64
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "a.example.com"
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
CHAIN = "a chain of certificates in PEM, the leaf first, would be accepted."
LEAF = "RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, Ed25519 or Ed448 would be accepted."
ISSUER = "RSA of 2048 to 8192 bits, a curve of at least 224 bits, Ed25519 or Ed448 would be accepted."
DIGEST = "one with SHA-256 or better would be accepted."

_SHA256_WITH_RSA = bytes.fromhex("2a864886f70d01010b")
_OTHER_WITH_RSA: Mapping[str, tuple[bytes, hashes.HashAlgorithm]] = {
    "MD5": (bytes.fromhex("2a864886f70d010104"), hashes.MD5()),  # noqa: S303  what is to be refused
    "SHA1": (bytes.fromhex("2a864886f70d010105"), hashes.SHA1()),  # noqa: S303  what is to be refused
}
_KEYS: Mapping[str, Callable[[], Key]] = {
    "RSA 1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505  what is to be refused
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
    "P-192": lambda: ec.generate_private_key(ec.SECP192R1()),
    "P-224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "brainpoolP256r1": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    "DSA 1024": lambda: dsa.generate_private_key(1024),  # noqa: S505  what is to be refused
    "DSA 2048": lambda: dsa.generate_private_key(2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


@cache
def key_of(kind: str, purpose: str = "leaf") -> Key:
    """A key of its own for each kind and purpose."""
    del purpose
    return _KEYS[kind]()


def sign(
    name: str,
    key: Key,
    issuer: str,
    by: Key,
    *more: x509.ExtensionType,
    authority: bool = False,
    digest: str = "SHA256",
    usage: x509.KeyUsage | None = None,
) -> x509.Certificate:
    """Make a certificate that is good for years around today, a leaf's for `HOST`."""
    start = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(days=1)
    public = key.public_key()
    usage = usage or x509.KeyUsage(not authority, *[False] * 4, authority, authority, *[False] * 2)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (issuer, name)]
    made = x509.CertificateBuilder(*names, public, x509.random_serial_number(), start, start + dt.timedelta(days=800))
    made = made.add_extension(x509.BasicConstraints(authority, None), critical=True).add_extension(usage, critical=True)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    if not authority and not any(one.oid == x509.SubjectAlternativeName.oid for one in more):
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    for one in more:
        made = made.add_extension(one, critical=False)
    signed = made.sign(by, None if isinstance(by, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256())
    return signed if digest == "SHA256" else _signed_again(signed, by, digest)


def _signed_again(one: x509.Certificate, by: Key, digest: str) -> x509.Certificate:
    """Sign with a digest with which cryptography signs no certificates any more."""
    assert isinstance(by, rsa.RSAPrivateKey)
    oid, algorithm = _OTHER_WITH_RSA[digest]
    body = one.tbs_certificate_bytes.replace(_SHA256_WITH_RSA, oid)
    whole = one.public_bytes(serialization.Encoding.DER).replace(one.tbs_certificate_bytes, body)
    whole = whole.replace(_SHA256_WITH_RSA, oid).replace(one.signature, by.sign(body, padding.PKCS1v15(), algorithm))
    return x509.load_der_x509_certificate(whole)


@cache
def root(kind: str = "P-256", digest: str = "SHA256") -> x509.Certificate:
    """The root of a kind: clients trust it."""
    key = key_of(kind, "root")
    return sign(f"root {kind}", key, f"root {kind}", key, authority=True, digest=digest)


def pem(*chain: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)


def key_pem(
    key: Key,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
    encryption: serialization.KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, encryption or serialization.NoEncryption())


@dataclass(frozen=True, slots=True)
class Form:
    """What stands in a Secret."""

    crt: bytes
    key: bytes
    field: str = ""
    sentence: str = ""
    """What is said of the field; empty: it is served."""

    def secret(self, name: str = "t", namespace: str = "default") -> dict[str, object]:
        data = {name: base64.b64encode(value).decode() for name, value in (("tls.crt", self.crt), ("tls.key", self.key))}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": name, "namespace": namespace},
            "data": data,
        }


def bad(crt: bytes, key: bytes, sentence: str, field: str = "data[tls.crt]") -> Form:
    return Form(crt, key, field, sentence)


def leaf(kind: str = "P-256", *more: x509.ExtensionType, usage: x509.KeyUsage | None = None) -> x509.Certificate:
    return sign("leaf", key_of(kind), "root P-256", key_of("P-256", "root"), *more, usage=usage)


@cache
def ours() -> tuple[bytes, bytes]:
    """The leaf of which most forms are made, and its key."""
    return pem(leaf()), key_pem(key_of("P-256"))


def of_key(kind: str, found: str = "") -> Form:
    crt, key = pem(leaf(kind)), key_pem(key_of(kind))
    return bad(crt, key, f"{found} was found in the first certificate, {LEAF}") if found else Form(crt, key)


def behind(kind: str, found: str = "", digest: str = "SHA256") -> Form:
    """A leaf behind which an intermediate stands."""
    middle = sign("middle", key_of(kind, "middle"), "root RSA 2048", key_of("RSA 2048", "root"), authority=True, digest=digest)
    crt = pem(sign("leaf", key_of("P-256"), "middle", key_of(kind, "middle")), middle)
    accepted = ISSUER if digest == "SHA256" else DIGEST
    key = key_pem(key_of("P-256"))
    return bad(crt, key, f"{found} was found in certificate 2 of 2, {accepted}") if found else Form(crt, key)


def of_digest(digest: str) -> Form:
    one = sign("leaf", key_of("P-256"), "root RSA 2048", key_of("RSA 2048", "root"), digest=digest)
    return bad(pem(one), key_pem(key_of("P-256")), f"a signature with {digest} was found in the first certificate, {DIGEST}")


def of_old_root() -> Form:
    """A chain down to a root that signed itself with SHA-1, as roots did: nobody checks that signature."""
    one = sign("leaf", key_of("P-256"), "root RSA 2048", key_of("RSA 2048", "root"))
    return Form(pem(one, root("RSA 2048", "SHA1")), key_pem(key_of("P-256")))


def changed(one: x509.Certificate, old: str, new: str) -> bytes:
    """A certificate in which some bytes are others."""
    whole = one.public_bytes(serialization.Encoding.DER)
    assert bytes.fromhex(old) in whole
    text = base64.encodebytes(whole.replace(bytes.fromhex(old), bytes.fromhex(new), 1))
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


def mismatched() -> Form:
    sentence = "the key is not that of the first certificate in tls.crt, the leaf's own key would be accepted."
    return bad(ours()[0], key_pem(key_of("P-256", "other")), sentence, "data[tls.key]")


def behind_its_issuer(kind: str) -> Form:
    """A root, and then the leaf whose key it is: what is wrong with the root as a server's certificate is not what is said."""
    one = sign("leaf", key_of("P-256"), f"root {kind}", key_of(kind, "root"))
    sentence = "the key is that of certificate 2 of 2; that one first, the leaf, and then its issuers would be accepted."
    return bad(pem(root(kind), one), key_pem(key_of("P-256")), sentence)


def encrypted() -> Form:
    text = key_pem(key_of("P-256"), encryption=serialization.BestAvailableEncryption(b"secret"))
    return bad(ours()[0], text, "an encrypted key was found, a key without a password would be accepted.", "data[tls.key]")


def broken_rsa() -> Form:
    """An RSA key whose private exponent is another's: it loads, and nothing that it signs verifies."""
    key = key_of("RSA 2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    other = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d ^ 2, numbers.dmp1 ^ 2, numbers.dmq1 ^ 2, numbers.iqmp, numbers.public_numbers
    )
    text = key_pem(other.private_key(unsafe_skip_rsa_key_validation=True))
    sentence = "numbers of an RSA key that do not belong together were found, a key as it was made would be accepted."
    return bad(pem(leaf("RSA 2048")), text, sentence, "data[tls.key]")


def unfit(sentence: str, *more: x509.ExtensionType, usage: x509.KeyUsage | None = None) -> Form:
    return bad(pem(leaf("P-256", *more, usage=usage)), key_pem(key_of("P-256")), sentence)


def _indented(text: bytes) -> bytes:
    return b"".join(b"    " + line + b"\n" for line in text.splitlines())


def _half(one: x509.Certificate) -> bytes:
    return pem(one)[: len(pem(one)) // 2]


def written(
    crt: Callable[[bytes], bytes] = lambda crt: crt, key: Callable[[bytes], bytes] = lambda key: key, sentence: str = ""
) -> Form:
    """The usual leaf and key, written otherwise."""
    form = Form(crt(ours()[0]), key(ours()[1]))
    return bad(form.crt, form.key, sentence) if sentence else form


BOM = b"\xef\xbb\xbf"
_EC_PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
_WRAPPED = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
_ENCIPHERS = x509.KeyUsage(False, False, True, *[False] * 6)
UNREADABLE = "an extension of the first certificate cannot be read, one as RFC 5280 has them would be accepted."
UNKNOWN = f"a key of a kind that is not known was found in the first certificate, {LEAF}"

FORMS: Mapping[str, Callable[[], Form]] = {
    "as usual": written,
    "joined without a line end": lambda: written(lambda crt: crt.rstrip() + pem(root())),
    "CR line ends": lambda: written(lambda crt: crt.replace(b"\n", b"\r"), lambda key: key.replace(b"\n", b"\r")),
    "CRLF line ends": lambda: written(lambda crt: crt.replace(b"\n", b"\r\n"), lambda key: key.replace(b"\n", b"\r\n")),
    "indented": lambda: written(_indented, _indented),
    "a BOM before the key": lambda: written(key=lambda key: BOM + key),
    "a BOM before the certificate": lambda: written(lambda crt: BOM + crt),
    "a second key behind the certificate": lambda: written(lambda crt: crt + key_pem(key_of("P-256", "other"))),
    "a second key before the certificate": lambda: written(lambda crt: key_pem(key_of("P-256", "other")) + crt),
    "a second key behind the key": lambda: written(key=lambda key: key + key_pem(key_of("P-256", "other"))),
    "a certificate before the key": lambda: written(key=lambda key: pem(root()) + key),
    "parameters before the key": lambda: written(
        key=lambda _: _EC_PARAMETERS + key_pem(key_of("P-256"), serialization.PrivateFormat.TraditionalOpenSSL)
    ),
    "text around": lambda: written(lambda crt: b"subject=CN = leaf\n" + crt + b"\n# the end\n"),
    "one line": lambda: written(lambda crt: crt.replace(b"\n", b"")),
    "trailing blanks": lambda: written(lambda crt: crt.replace(b"\n", b"  \n"), lambda key: key.replace(b"\n", b" \n")),
    "label X509": lambda: written(lambda crt: crt.replace(b"CERTIFICATE", b"X509 CERTIFICATE")),
    "half a certificate behind": lambda: written(
        lambda crt: crt + _half(root()), sentence=f"certificate 2 of 2 could not be read, {CHAIN}"
    ),
    "half a certificate before": lambda: written(
        lambda crt: _half(root()) + b"\n" + crt, sentence=f"certificate 1 of 2 could not be read, {CHAIN}"
    ),
    "something else as a certificate behind": lambda: written(
        lambda crt: crt + _WRAPPED, sentence=f"certificate 2 of 2 could not be read, {CHAIN}"
    ),
    "UTF-16": lambda: written(lambda crt: crt.decode().encode("utf-16"), sentence=f"no certificate could be read, {CHAIN}"),
    "blank lines": lambda: written(lambda crt: crt.replace(b"\n", b"\n\n"), sentence=f"no certificate could be read, {CHAIN}"),
    "a bundle of roots behind": lambda: written(
        lambda crt: crt + 300 * pem(root()),
        sentence="301 certificates of {} bytes were found, the leaf and its issuers in at most 100 KiB would be accepted.",
    ),
    "another's key": mismatched,
    "a leaf behind its root": lambda: behind_its_issuer("P-256"),
    "a leaf behind its root of RSA": lambda: behind_its_issuer("RSA 2048"),
    "an encrypted key": encrypted,
    "an RSA key that does not sign": broken_rsa,
    "RSA 2048": lambda: of_key("RSA 2048"),
    "P-384": lambda: of_key("P-384"),
    "P-521": lambda: of_key("P-521"),
    "Ed25519": lambda: of_key("Ed25519"),
    "Ed448": lambda: of_key("Ed448"),
    "RSA 1024": lambda: of_key("RSA 1024", "an RSA key of 1024 bits"),
    "secp256k1": lambda: of_key("secp256k1", "a key on the curve secp256k1"),
    "brainpoolP256r1": lambda: of_key("brainpoolP256r1", "a key on the curve brainpoolP256r1"),
    "P-224": lambda: of_key("P-224", "a key on the curve secp224r1"),
    "DSA 2048": lambda: of_key("DSA 2048", "a DSA key of 2048 bits"),
    "a curve that nobody knows": lambda: bad(changed(leaf(), "2a8648ce3d030107", "2a8648ce3d030108"), ours()[1], UNKNOWN),
    "RSA 2048 in the chain": lambda: behind("RSA 2048"),
    "P-224 in the chain": lambda: behind("P-224"),
    "Ed25519 in the chain": lambda: behind("Ed25519"),
    "DSA 2048 in the chain": lambda: behind("DSA 2048"),
    "RSA 1024 in the chain": lambda: behind("RSA 1024", "an RSA key of 1024 bits"),
    "P-192 in the chain": lambda: behind("P-192", "a key on the curve secp192r1"),
    "DSA 1024 in the chain": lambda: behind("DSA 1024", "a DSA key of 1024 bits"),
    "signed with MD5": lambda: of_digest("MD5"),
    "signed with SHA-1": lambda: of_digest("SHA1"),
    "signed with SHA-1 in the chain": lambda: behind("RSA 2048", "a signature with SHA1", "SHA1"),
    "a root that signed itself with SHA-1": of_old_root,
    "for clients": lambda: unfit(
        "an extended key usage without serverAuth was found in the first certificate, one with it would be accepted.",
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
    ),
    "for servers": lambda: Form(pem(leaf("P-256", x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))), ours()[1]),
    "ECDSA that may only encipher": lambda: unfit(
        "a key usage without digitalSignature was found in the first certificate, one with it would be accepted.", usage=_ENCIPHERS
    ),
    "RSA that may only encipher": lambda: Form(pem(leaf("RSA 2048", usage=_ENCIPHERS)), key_pem(key_of("RSA 2048"))),
    "names that cannot be read": lambda: unfit(UNREADABLE, x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\xff")),
    "names that stand twice": lambda: bad(
        changed(leaf("P-256", x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), b"\5\0")), "0603551d63", "0603551d11"),
        ours()[1],
        UNREADABLE,
    ),
    "a version that there is not": lambda: bad(
        changed(leaf(), "a003020102", "a003020104"), ours()[1], f"no certificate could be read, {CHAIN}"
    ),
}
"""By name: made when somebody asks, as some keys take their time."""
