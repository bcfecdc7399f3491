# Compiled by mypyc: see setup.py.
"""Which certificate a host gets: exact name, wildcard of one label, default. Contexts are made at first use.

All hosts share the base context that the supervisor made before forking, because ticket keys belong to it: `choose` swaps only
the certificate, so that sessions resume in every worker and across changes of certificates.

A connection remembers what its handshake settled (`remember`), so that its requests can be told from those that belong on another
connection (`misdirected`), whatever became of certificates since.
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


class _Slot:
    """A certificate under its key, its context once made, and what to use if OpenSSL does not take it."""

    __slots__ = ("_fingerprint", "certificate", "context", "previous", "tried")

    def __init__(self, certificate: Certificate, previous: "_Slot | None") -> None:
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
    found = _LEAF.search(chain)
    if found is None:
        return chain
    try:
        return ssl.PEM_cert_to_DER_cert(found[0].decode("ascii"))
    except ValueError:
        return chain


class CertificateStore:
    """The certificates of one worker. Changed only by `apply`, between two handshakes."""

    def __init__(self, *, strict_sni: bool = False) -> None:
        self._strict = strict_sni
        self._slots: dict[str, _Slot] = {}
        self._hosts: dict[str, str] = {}
        self._default = ""
        self._demands: dict[str, frozenset[str]] = {}
        self._refused: set[str] = set()
        """Keys whose certificate OpenSSL does not take."""
        self._contexts: weakref.WeakValueDictionary[bytes, ssl.SSLContext] = weakref.WeakValueDictionary()

    def apply(
        self,
        certificates: Mapping[str, Certificate],
        hosts: Mapping[str, str],
        default: str | None,
        demands: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        """Hold these and no others: certificates by key, host (exact or `*.suffix`) to key, and the key of the default.

        `demands`: of hosts (exact or `*.suffix`) that ask more of TLS than all do, what they ask; see `asks`. Unchanged
        certificates keep their contexts. Nothing is loaded here.
        """
        slots = {}
        for key, certificate in certificates.items():
            old = self._slots.get(key)
            if old is not None and (old.certificate is certificate or old.certificate == certificate):
                slots[key] = old
            else:
                slots[key] = _Slot(certificate, _last_good(old))
        self._refused = {key for key in self._refused if slots.get(key) is self._slots.get(key)}
        self._slots = slots
        self._hosts = dict(hosts)
        self._default = default or ""
        self._demands = dict(demands) if demands else {}

    def stand_ins(self) -> dict[str, float]:
        """Return the keys whose certificate is not taken, with the end of what is served instead (Unix time); 0: the default."""
        return {key: _end_of(self._slots.get(key)) for key in self._refused}

    def asks(self, host: str | None) -> frozenset[str]:
        """Return what a host asks of TLS beyond what every handshake proves, one string for each thing.

        Such are verified clients of one CA, a least version, a list of ciphers. A handshake for its name proves all of it, so
        equal strings must mean equal things.
        """
        if not self._demands or not host:
            return NOTHING
        return self._demands.get(host) or self._demands.get(_wildcard(host), NOTHING)

    def fingerprint(self, host: str | None) -> bytes:
        """Return the fingerprint of the certificate that `host` gets (lower case, no port); empty: the one made at start.

        Of one that no handshake asked for yet, it is taken on trust that OpenSSL takes it: that it does not costs one 421.
        """
        for key in (self._own(host), self._default):
            slot = self._slots.get(key)
            while slot is not None:
                if slot.context is not None or not slot.tried:
                    return slot.fingerprint()
                slot = slot.previous
        return b""

    def remember(self, client: Client) -> None:
        """Record in a connection what the handshake that begins now settles for it."""
        self.context_for(client.sni)
        client.certificate = self.fingerprint(client.sni)
        client.proved = self.asks(client.sni)

    def misdirected(self, client: Client, host: str) -> bool:
        """Tell whether a TLS connection is the wrong one for a request's host (RFC 9110, 15.5.20).

        It is not where its server name is the host, or its certificate the one that a handshake for the host would get now: else
        a change of certificates would end every connection that is open. It is, whatever its name and certificate, where the host
        asks of TLS what its handshake did not prove, or would be refused one (--strict-sni). A client that sent no name says
        nothing about hosts.
        """
        if self._demands and not self.asks(host) <= client.proved:
            return True
        sni = client.sni
        if sni is None:
            return False
        if self._strict and not self._own(host):
            return True
        return host != sni and self.fingerprint(host) != client.certificate

    def serves(self, host: str | None) -> bool:
        """Tell whether a handshake for this server name goes ahead: always, but for unknown names under --strict-sni."""
        return not self._strict or host is None or bool(self._own(host))

    def context_for(self, host: str | None) -> ssl.SSLContext | None:
        """Return the context whose certificate `host` gets; None: the base context's own."""
        for key in (self._own(host), self._default):
            slot = self._slots.get(key)
            if slot is not None and (context := self._context(key, slot)) is not None:
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

    def _own(self, host: str | None) -> str:
        if not host:
            return ""
        return self._hosts.get(host) or self._hosts.get(_wildcard(host), "")

    def _context(self, key: str, slot: _Slot) -> ssl.SSLContext | None:
        if slot.context is None and not slot.tried:
            slot.tried = True
            try:
                slot.context = self._make(slot.certificate)
                slot.previous = None
            except UnusableCertificateError as error:
                self._refused.add(key)
                kept = "the previous certificate stays" if slot.previous is not None else "the default certificate is used"
                _log.error("certificate=%s error=%r %s", key, str(error), kept)
        if slot.context is None and slot.previous is not None:
            return self._context(key, slot.previous)
        return slot.context

    def _make(self, certificate: Certificate) -> ssl.SSLContext:
        digest = hashlib.blake2b(len(certificate.chain).to_bytes(8, "big") + certificate.chain + certificate.key.data).digest()
        context = self._contexts.get(digest)
        if context is None:
            context = self._contexts[digest] = make_context(certificate)
        return context


def _wildcard(host: str) -> str:
    return "*." + host.partition(".")[2]


def _end_of(slot: _Slot | None) -> float:
    while slot is not None:
        if slot.context is not None:
            return slot.certificate.not_after
        slot = slot.previous
    return 0.0


def _last_good(old: _Slot | None) -> _Slot | None:
    """Return what stands in for a successor of `old` that does not load: `old` unless it is known to be bad."""
    if old is None:
        return None
    if old.tried and old.context is None:
        return old.previous
    # Certificates that no handshake ever asked for do not pile up; the one that was served last is kept behind them.
    while old.previous is not None and old.previous.context is None:
        old.previous = old.previous.previous
    return old
