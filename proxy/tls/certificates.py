# Compiled by mypyc: see setup.py.
"""Which certificate a host gets: exact name, wildcard of one label, default. Contexts are made at first use.

All hosts share the base context that the supervisor made before forking, because ticket keys belong to it: `choose` swaps only
the certificate, so that sessions resume in every worker and across changes of certificates.

A connection keeps what its handshake proved (`record_handshake`), so that its requests can be told from those that belong on
another connection (`misdirected`), whatever became of certificates since.
"""

import hashlib
import logging
import re
import ssl
import weakref
from collections.abc import Mapping
from typing import Final

from proxy.http.message import NOTHING, Client
from proxy.model.config import Certificate
from proxy.tls.contexts import UnusableCertificateError, make_context

_log = logging.getLogger("sluice.tls")

_LEAF: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class _LoadedCertificate:
    """A certificate under its key, its context once made, and what to use if OpenSSL does not take it."""

    __slots__ = ("_fingerprint", "certificate", "context", "previous", "tried")

    def __init__(self, certificate: Certificate, previous: "_LoadedCertificate | None") -> None:
        self.certificate = certificate
        self.context: ssl.SSLContext | None = None
        self.previous = previous
        self.tried = False
        self._fingerprint = b""

    def fingerprint(self) -> bytes:
        """Return the SHA-256 of the leaf's DER: the same for copies of a certificate, however their PEM is laid out."""
        if not self._fingerprint:
            self._fingerprint = hashlib.sha256(_leaf(self.certificate.chain)).digest()
        return self._fingerprint


def _leaf(chain: bytes) -> bytes:
    """Return the DER of a chain's first certificate; of what is no certificate, the chain as it is."""
    match = _LEAF.search(chain)
    if match is None:
        return chain
    try:
        return ssl.PEM_cert_to_DER_cert(match[0].decode("ascii"))
    except ValueError:
        return chain


class CertificateStore:
    """The certificates of one worker. Changed only by `apply`, between two handshakes."""

    def __init__(self, *, strict_sni: bool = False) -> None:
        self._strict = strict_sni
        self._loaded: dict[str, _LoadedCertificate] = {}
        self._hosts: dict[str, str] = {}
        self._default = ""
        self._requirements: dict[str, frozenset[str]] = {}
        self._refused: set[str] = set()
        """Keys whose certificate OpenSSL does not take."""
        self._contexts: weakref.WeakValueDictionary[bytes, ssl.SSLContext] = weakref.WeakValueDictionary()

    def apply(
        self,
        certificates: Mapping[str, Certificate],
        hosts: Mapping[str, str],
        default: str | None,
        requirements: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        """Hold these and no others: certificates by key, host (exact or `*.suffix`) to key, and the key of the default.

        `requirements`: of hosts (exact or `*.suffix`) that ask more of TLS than all do; see `requirements_of`. Unchanged
        certificates keep their contexts. Nothing is loaded here.
        """
        loaded = {}
        for key, certificate in certificates.items():
            old = self._loaded.get(key)
            if old is not None and (old.certificate is certificate or old.certificate == certificate):
                loaded[key] = old
            else:
                loaded[key] = _LoadedCertificate(certificate, _last_good(old))
        self._refused = {key for key in self._refused if loaded.get(key) is self._loaded.get(key)}
        self._loaded = loaded
        self._hosts = dict(hosts)
        self._default = default or ""
        self._requirements = dict(requirements) if requirements else {}

    def stand_ins(self) -> dict[str, float]:
        """Return the keys whose certificate is not taken, with the end of what is served instead (Unix time); 0: the default."""
        return {key: _end_of(self._loaded.get(key)) for key in self._refused}

    def requirements_of(self, host: str | None) -> frozenset[str]:
        """Return what a host asks of TLS beyond what every handshake proves, one string for each thing.

        Such are verified clients of one CA, a least version, a list of ciphers. A handshake for its name proves all of it, so
        equal strings must mean equal things.
        """
        if not self._requirements or not host:
            return NOTHING
        return self._requirements.get(host) or self._requirements.get(_wildcard(host), NOTHING)

    def fingerprint(self, host: str | None) -> bytes:
        """Return the fingerprint of the certificate that `host` gets (lower case, no port); empty: the one made at start.

        Of one that no handshake asked for yet, it is taken on trust that OpenSSL takes it: that it does not costs one 421.
        """
        for key in (self._key_for(host), self._default):
            entry = self._loaded.get(key)
            while entry is not None:
                if entry.context is not None or not entry.tried:
                    return entry.fingerprint()
                entry = entry.previous
        return b""

    def record_handshake(self, client: Client) -> None:
        """Record in a connection what the handshake that begins now settles for it."""
        self.context_for(client.sni)
        client.certificate = self.fingerprint(client.sni)
        client.proved = self.requirements_of(client.sni)

    def misdirected(self, client: Client, host: str) -> bool:
        """Tell whether a TLS connection is the wrong one for a request's host (RFC 9110, 15.5.20).

        It is not where its server name is the host, or its certificate the one that a handshake for the host would get now: else
        a change of certificates would end every connection that is open. It is, whatever its name and certificate, where the host
        asks of TLS what its handshake did not prove, or would be refused one (--strict-sni). A client that sent no name says
        nothing about hosts.
        """
        if self._requirements and not self.requirements_of(host) <= client.proved:
            return True
        sni = client.sni
        if sni is None:
            return False
        if self._strict and not self._key_for(host):
            return True
        return host != sni and self.fingerprint(host) != client.certificate

    def serves(self, host: str | None) -> bool:
        """Tell whether a handshake for this server name goes ahead: always, but for unknown names under --strict-sni."""
        return not self._strict or host is None or bool(self._key_for(host))

    def context_for(self, host: str | None) -> ssl.SSLContext | None:
        """Return the context whose certificate `host` gets; None: the base context's own."""
        for key in (self._key_for(host), self._default):
            entry = self._loaded.get(key)
            if entry is not None and (context := self._context(key, entry)) is not None:
                return context
        return None

    def choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
        """Swap the certificate for the server name; this is the base context's `sni_callback`."""
        host = None if name is None else name.lower().rstrip(".")
        if not self.serves(host):
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        context = self.context_for(host)
        if context is not None:
            connection.context = context
        return None

    def _key_for(self, host: str | None) -> str:
        if not host:
            return ""
        return self._hosts.get(host) or self._hosts.get(_wildcard(host), "")

    def _context(self, key: str, entry: _LoadedCertificate) -> ssl.SSLContext | None:
        if entry.context is None and not entry.tried:
            entry.tried = True
            try:
                entry.context = self._make(entry.certificate)
                entry.previous = None
            except UnusableCertificateError as error:
                self._refused.add(key)
                kept = "the previous certificate stays" if entry.previous is not None else "the default certificate is used"
                _log.error("certificate=%s error=%r %s", key, str(error), kept)
        if entry.context is None and entry.previous is not None:
            return self._context(key, entry.previous)
        return entry.context

    def _make(self, certificate: Certificate) -> ssl.SSLContext:
        digest = hashlib.blake2b(len(certificate.chain).to_bytes(8, "big") + certificate.chain + certificate.key.data).digest()
        context = self._contexts.get(digest)
        if context is None:
            context = self._contexts[digest] = make_context(certificate)
        return context


def _wildcard(host: str) -> str:
    return "*." + host.partition(".")[2]


def _end_of(entry: _LoadedCertificate | None) -> float:
    while entry is not None:
        if entry.context is not None:
            return entry.certificate.not_after
        entry = entry.previous
    return 0.0


def _last_good(old: _LoadedCertificate | None) -> _LoadedCertificate | None:
    """Return what stands in for a successor of `old` that does not load: `old` unless it is known to be bad."""
    if old is None:
        return None
    if old.tried and old.context is None:
        return old.previous
    # Certificates that no handshake ever asked for do not pile up; the one that was served last is kept behind them.
    while old.previous is not None and old.previous.context is None:
        old.previous = old.previous.previous
    return old
