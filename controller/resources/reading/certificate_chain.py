"""Certificate chains and private keys in PEM: read, and judged by what OpenSSL serves and clients take.

What it takes of PEM is more than OpenSSL does (indented lines, CR line ends, no line end between two certificates), so a text
that was read here is never passed on: `write_chain` and `write_key` write what was read.
"""

import re
import ssl
from collections.abc import Sequence
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes, PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, PublicKeyAlgorithmOID

RSA_BITS = range(2048, 8193)
"""Less is refused by OpenSSL at security level 2 and by browsers. More is refused by Go's and Chrome's TLS, and a handshake with it
would hold a worker for tenths of a second."""
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""P-256, P-384 and P-521: those of TLS 1.3 (RFC 8446, 4.2.3). OpenSSL loads keys of others and then fails every handshake."""
MIN_CURVE_BITS, MIN_DIGEST_BYTES = 224, 28
"""What has 112 bits of strength, as OpenSSL's security level 2 asks of everything that signs in a chain."""
MAX_MESSAGE = 100 * 1024
"""Bytes of a Certificate message that OpenSSL and BoringSSL read as clients; more ends their handshake."""

MAX_KEY = 16 * 1024
"""Bytes of a private key in PEM; RSA of 8192 bits takes 6.4 KiB. To read what is much larger would take minutes."""

_BEGIN_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_BEGIN = re.compile(rb"-----BEGIN (?:(?:X509|TRUSTED) )?CERTIFICATE-----")
_CHAIN = "a chain of certificates in PEM, the leaf first, would be accepted."
_LEAF_KEYS = "RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, Ed25519 or Ed448 would be accepted."
_CHAIN_KEYS = "RSA of 2048 to 8192 bits, a curve of at least 224 bits, Ed25519 or Ed448 would be accepted."
# As OpenSSL's clients have it, whose last two were for browsers that export laws had weakened; other clients take `any` too.
_SERVER = {
    ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string,
    "2.16.840.1.113730.4.1",
    "1.3.6.1.4.1.311.10.3.3",
}
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    InternalError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def read_chain(text: bytes) -> list[x509.Certificate] | str:
    """Read every certificate of a text; or a sentence that says why clients could not use them.

    Whatever stands between them is skipped. Whether clients trust the chain is theirs to say, as their clock is and the host.
    """
    chain = _load(text)
    return chain if isinstance(chain, str) else _chain_problem(chain) or chain


def _load(text: bytes) -> list[x509.Certificate] | str:
    begins = [match.start() for match in _BEGIN.finditer(text)]
    chain: list[x509.Certificate] = []
    for start, end in pairwise([*begins, len(text)]):
        try:
            chain.append(x509.load_pem_x509_certificate(text[start:end]))
        except _UNREADABLE:
            if len(begins) > 1:
                return f"certificate {len(chain) + 1} of {len(begins)} could not be read, {_CHAIN}"
            break
    if not chain or not _is_read_by_openssl(chain):
        return f"no certificate could be read, {_CHAIN}"
    return chain


def _is_read_by_openssl(chain: Sequence[x509.Certificate]) -> bool:
    """Tell whether OpenSSL reads what cryptography does, which looks at names and times only when it is asked for them."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=b"".join(certificate.public_bytes(serialization.Encoding.DER) for certificate in chain)
        )
    except ssl.SSLError:
        return False
    return True


def _chain_problem(chain: Sequence[x509.Certificate]) -> str:
    leaf = chain[0]
    for number, certificate in enumerate(chain, 1):
        place = f"certificate {number} of {len(chain)}" if number > 1 else "the first certificate"
        accepted = _LEAF_KEYS if certificate is leaf else _CHAIN_KEYS
        try:
            key = certificate.public_key()
        except _UNREADABLE:
            return f"a key of a kind that is not known was found in {place}, {accepted}"
        if not (_serves(key, leaf) if certificate is leaf else _signs_certificates(key)):
            return f"{_named(key, certificate)} was found in {place}, {accepted}"
        if not _is_self_signed(certificate) and (weak := _weak_digest(certificate)):
            return f"{weak} was found in {place}, one with SHA-256 or better would be accepted."
    # RFC 8446, 4.4.2: the lengths of context, list, certificates and their extensions.
    size = 4 + sum(len(certificate.public_bytes(serialization.Encoding.DER)) + 5 for certificate in chain)
    if size > MAX_MESSAGE:
        return (
            f"{len(chain)} certificates of {size} bytes were found, the leaf and its issuers in at most 100 KiB would be accepted."
        )
    return _usage_problem(leaf)


def _serves(key: CertificatePublicKeyTypes, leaf: x509.Certificate) -> bool:
    """Tell whether a leaf's key signs handshakes that clients take."""
    if isinstance(key, rsa.RSAPublicKey):
        # Browsers and Go know no key that is restricted to PSS (RFC 4055, 1.2), and only OpenSSL's clients ask for one.
        return key.key_size in RSA_BITS and leaf.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name in CURVES
    return isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)


def _signs_certificates(key: CertificatePublicKeyTypes) -> bool:
    """Tell whether OpenSSL's security level 2 takes a certificate of this key in a chain."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size in RSA_BITS
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.key_size >= MIN_CURVE_BITS
    if isinstance(key, dsa.DSAPublicKey):
        return key.key_size >= RSA_BITS.start
    return isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)


def _named(key: CertificatePublicKeyTypes, certificate: x509.Certificate) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        pss = certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS
        return f"an RSA{'-PSS' if pss else ''} key of {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"a key on the curve {key.curve.name}"
    return f"a DSA key of {key.key_size} bits" if isinstance(key, dsa.DSAPublicKey) else "a key that signs nothing"


def _weak_digest(certificate: x509.Certificate) -> str:
    """Name a signature that OpenSSL's security level 2 does not take; empty: it takes it."""
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "a signature of a kind that is not known"
    return "" if digest is None or digest.digest_size >= MIN_DIGEST_BYTES else f"a signature with {digest.name.upper()}"


def _is_self_signed(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate is its own issuer, by its names as OpenSSL has it: its signature is not checked."""
    try:
        if certificate.subject != certificate.issuer:
            return False
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return True
    except _UNREADABLE:
        return False
    if issuer.authority_cert_serial_number not in (None, certificate.serial_number):
        return False
    try:
        own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return True
    return issuer.key_identifier in (None, own)


def _usage_problem(leaf: x509.Certificate) -> str:
    """Say why a leaf is not one of a server."""
    try:
        extensions = leaf.extensions
    except x509.UnsupportedGeneralNameType:
        return ""  # a name of a kind that is not in use, and that OpenSSL passes over
    except _UNREADABLE:
        return "an extension of the first certificate cannot be read, one as RFC 5280 has them would be accepted."
    ecdsa = isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.ExtendedKeyUsage) and not any(usage.dotted_string in _SERVER for usage in value):
            return "an extended key usage without serverAuth was found in the first certificate, one with it would be accepted."
        # OpenSSL, as a server of TLS 1.2, asks it of ECDSA alone, and some home-made RSA certificates lack it.
        if isinstance(value, x509.KeyUsage) and ecdsa and not value.digital_signature:
            return "a key usage without digitalSignature was found in the first certificate, one with it would be accepted."
    return ""


def names_of(leaf: x509.Certificate) -> tuple[str, ...] | None:
    """Return the DNS names of a certificate, in order; None: they cannot be read.

    Its subject's common name counts for nothing (RFC 9525, 2).
    """
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    except _UNREADABLE:
        return None
    return tuple(sorted(name.lower() for name in names.get_values_for_type(x509.DNSName)))


def order_problem(crt: bytes, key: bytes) -> str:
    """Say that the certificate to which a key belongs stands behind another; empty: it does not, or that is not known.

    An authority's certificate that stands first is refused for what it lacks as a server's, or for its key: neither says why.
    """
    chain, own = _load(crt), _load_key(key)
    if isinstance(chain, str) or isinstance(own, str):
        return ""
    spki = _public(own.public_key())
    place = next((number for number, certificate in enumerate(chain, 1) if _key_of(certificate) == spki), 1)
    if place == 1:
        return ""
    return (
        f"the key is that of certificate {place} of {len(chain)}; that one first, the leaf, and then its issuers would be accepted."
    )


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _key_of(certificate: x509.Certificate) -> bytes:
    try:
        return _public(certificate.public_key())
    except _UNREADABLE:
        return b""


def read_key(text: bytes, leaf: x509.Certificate) -> PrivateKeyTypes | str:
    """Read the key of a certificate that is fit to be served; or a sentence that says why there is none."""
    key = _load_key(text)
    if isinstance(key, str):
        return key
    own = leaf.public_key()
    if _public(key.public_key()) != _public(own):
        return "the key is not that of the first certificate in tls.crt, the leaf's own key would be accepted."
    if isinstance(key, rsa.RSAPrivateKey) and isinstance(own, rsa.RSAPublicKey) and not _is_whole(key, own):
        return "numbers of an RSA key that do not belong together were found, a key as it was made would be accepted."
    return key


def _load_key(text: bytes) -> PrivateKeyTypes | str:
    begin = _BEGIN_KEY.search(text)
    end = text.find(b"-----END", begin.start()) if begin is not None else -1
    if begin is None or end < 0:
        return "no private key could be read, a key in PEM would be accepted."
    block = text[begin.start() : end] + begin[0].replace(b"BEGIN", b"END")
    if len(block) > MAX_KEY:
        return f"a private key of {len(block)} bytes was found, one of at most 16 KiB would be accepted."
    try:
        # Its check of an RSA key takes a tenth of a second, of one that is huge minutes; `_is_whole` does it in a hundredth.
        return serialization.load_pem_private_key(block, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        return "an encrypted key was found, a key without a password would be accepted."
    except _UNREADABLE:
        return "no private key could be read, a key in PEM would be accepted."


def _is_whole(key: rsa.RSAPrivateKey, own: rsa.RSAPublicKey) -> bool:
    """Tell whether what a key signs is what its certificate's key verifies."""
    try:
        numbers = key.private_numbers()
        if numbers.p * numbers.q != numbers.public_numbers.n:
            return False
        signature = key.sign(b"sluice", padding.PKCS1v15(), hashes.SHA256())
        own.verify(signature, b"sluice", padding.PKCS1v15(), hashes.SHA256())
    except (*_UNREADABLE, InvalidSignature):
        return False
    return True


def write_chain(chain: Sequence[x509.Certificate]) -> bytes:
    """Write a chain in PEM."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def write_key(key: PrivateKeyTypes) -> bytes:
    """Write a key in PEM (PKCS#8, RFC 5958), unencrypted."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
