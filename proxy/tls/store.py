"""Which certificate a host gets: exact name, wildcard of one label, default. Contexts are made at first use.

All hosts share the base context that the supervisor made before forking, because ticket keys belong to it: `choose` swaps only
the certificate, so that sessions resume in every worker and across changes of certificates.
"""

import hashlib
import logging
import ssl
import weakref
from collections.abc import Mapping

from proxy.model.config import Certificate
from proxy.tls.contexts import UnusableCertificateError, make_context

_log = logging.getLogger("sluice.tls")


class _Slot:
    """A certificate under its key, its context once made, and what to use if OpenSSL does not take it."""

    __slots__ = ("certificate", "context", "previous", "tried")

    def __init__(self, certificate: Certificate, previous: "_Slot | None") -> None:
        self.certificate = certificate
        self.context: ssl.SSLContext | None = None
        self.previous = previous
        self.tried = False


class CertificateStore:
    """The certificates of one worker. Changed only by `apply`, between two handshakes."""

    def __init__(self, *, strict_sni: bool = False) -> None:
        self._strict = strict_sni
        self._slots: dict[str, _Slot] = {}
        self._hosts: dict[str, str] = {}
        self._default = ""
        self._contexts: weakref.WeakValueDictionary[bytes, ssl.SSLContext] = weakref.WeakValueDictionary()

    def apply(self, certificates: Mapping[str, Certificate], hosts: Mapping[str, str], default: str | None) -> None:
        """Hold these and no others: certificates by key, host (exact or `*.suffix`) to key, and the key of the default.

        Unchanged certificates keep their contexts. Nothing is loaded here.
        """
        slots = {}
        for key, certificate in certificates.items():
            old = self._slots.get(key)
            if old is not None and (old.certificate is certificate or old.certificate == certificate):
                slots[key] = old
            else:
                slots[key] = _Slot(certificate, _last_good(old))
        self._slots = slots
        self._hosts = dict(hosts)
        self._default = default or ""

    def scope(self, host: str | None) -> str:
        """Return the key of the certificate that `host` gets (lower case, no port); empty: the one made at start.

        Two hosts of different scope do not share a TLS connection (421).
        """
        return self._own(host) or self._default

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
        return self._hosts.get(host) or self._hosts.get("*." + host.partition(".")[2], "")

    def _context(self, key: str, slot: _Slot) -> ssl.SSLContext | None:
        if slot.context is None and not slot.tried:
            slot.tried = True
            try:
                slot.context = self._make(slot.certificate)
                slot.previous = None
            except UnusableCertificateError as error:
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
