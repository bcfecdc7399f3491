"""TLS contexts: the policy towards clients, and certificates loaded from memory.

Which context a connection gets is decided in certificates.py. Keys never touch a disk: OpenSSL reads them through a memfd.
"""

import os
import ssl

from proxy.model.config import Certificate

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: what RFC 9325, 4.2 recommends and its ChaCha20 sibling; no CBC, no key exchange without forward secrecy."""


class UnusableCertificateError(Exception):
    """OpenSSL does not take this chain and key."""


def make_context(certificate: Certificate) -> ssl.SSLContext:
    """Make a server context of the default policy for `certificate`; raises `UnusableCertificateError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # A client spends at most one for each connection and gets one from each. OpenSSL's second is a twentieth of a handshake.
    context.num_tickets = 1
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION
    # A context swapped in `sni_callback` brings its own ALPN list, so every context has it.
    context.set_alpn_protocols(["http/1.1"])
    _load(context, certificate)
    return context


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(certificate.chain + b"\n" + certificate.key.data)
        # The password keeps OpenSSL from asking the terminal for one when a key is encrypted.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise UnusableCertificateError(f"OpenSSL does not take the certificate: {error}") from None
    finally:
        os.close(descriptor)
