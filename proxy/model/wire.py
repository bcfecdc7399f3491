"""How configuration travels: entries of msgpack under keys, each with a digest, and one root digest for the whole.

A receiver names the root that it holds; the sender answers with what changed since, or with everything. The receiver checks the
new root after applying, so a torn or foreign message is refused whole and the old configuration stays.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any, cast

import msgspec

from proxy.model.config import Certificate, ProxyConfig, Route, Upstream

VERSION = 2
MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""5,000 routes are 0.7 MB; a message above this is refused unread."""


class WireError(Exception):
    """A message is no configuration that can be held: malformed, of another version, or torn."""


class RouteEntry(msgspec.Struct, frozen=True, tag="route"):
    """A route, under ``r/`` and its id."""

    value: Route


class UpstreamEntry(msgspec.Struct, frozen=True, tag="upstream"):
    """An upstream, under ``u/`` and its key."""

    value: Upstream


class CertificateEntry(msgspec.Struct, frozen=True, tag="certificate"):
    """A certificate, under ``c/`` and its key."""

    value: Certificate


class TlsHostEntry(msgspec.Struct, frozen=True, tag="tls-host"):
    """The certificate of a host, under ``h/`` and the host."""

    value: str


class DefaultEntry(msgspec.Struct, frozen=True, tag="default"):
    """The default certificate, under ``d/``."""

    value: str


Entry = RouteEntry | UpstreamEntry | CertificateEntry | TlsHostEntry | DefaultEntry


class ProblemReport(msgspec.Struct, frozen=True):
    """One problem with one user's object, as the admin port shows it."""

    kind: str
    namespace: str
    name: str
    reason: str
    message: str
    field: str = ""
    note: bool = False
    """It harms nothing that is served, and no alert counts it."""


class Report(msgspec.Struct, frozen=True):
    """The controller's remarks on a configuration; no part of its digest."""

    problems: tuple[ProblemReport, ...] = ()
    objects: int = 0
    observed_at: float = 0.0
    """CLOCK_MONOTONIC of the newest object event in this configuration; 0: unknown."""
    classless: tuple[str, ...] = ()
    """Objects whose IngressClass does not exist, as ids of routes begin: what it was that took their routes away."""


class SyncRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request for the next configuration, which acknowledges the one that is held."""

    version: int = VERSION
    digest: str = ""
    """Root that every worker has applied; empty: nothing yet."""
    rejected: Mapping[str, str] = {}
    """Route id to the reason why it could not be compiled and answers 500."""


class SyncReply(msgspec.Struct, frozen=True):
    """The change between two roots."""

    version: int
    base: str
    """Root that this is relative to; empty: everything follows."""
    digest: str
    upsert: Mapping[str, bytes]
    remove: tuple[str, ...]
    report: Report


_ROOTS = 1 << 128


class Encoded:
    """A configuration as its entries: key to (bytes, digest), and the root. Immutable; shares entries with its predecessor.

    The root is the sum of the digests modulo 2^128: it depends on every entry and on no order, and a change of one entry changes it
    without a look at the others. It tells whole messages from torn ones; who may send is the socket's to say.
    """

    __slots__ = ("changed", "config", "entries", "parent", "removed", "root", "total")

    def __init__(
        self,
        entries: Mapping[str, tuple[bytes, bytes]],
        before: "Encoded | None" = None,
        changed: Collection[str] = (),
        removed: Collection[str] = (),
        config: ProxyConfig | None = None,
    ) -> None:
        self.entries = entries
        """`changed` and `removed` are the keys in which they differ from those of `before`."""
        if before is None:
            total = sum(int.from_bytes(digest, "big") for _, digest in entries.values())
        else:
            total = before.total
            for key in (*changed, *removed):
                known = before.entries.get(key)
                total -= int.from_bytes(known[1], "big") if known is not None else 0
            total += sum(int.from_bytes(entries[key][1], "big") for key in changed)
        self.total: int = total % _ROOTS
        self.root = f"{self.total:032x}"
        self.parent = before.root if before is not None else ""
        self.changed, self.removed = changed, removed
        self.config = config
        """The encoded values, on the sender's side, so that an unchanged one is not encoded again."""


# msgspec lets the codec's own error through for a key that is not UTF-8.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)
_reply_decoder = msgspec.msgpack.Decoder(SyncReply)
_request_decoder = msgspec.msgpack.Decoder(SyncRequest)


def _entry(key: str, data: bytes) -> tuple[bytes, bytes]:
    return data, hashlib.blake2b(data, digest_size=16, person=hashlib.blake2b(key.encode(), digest_size=16).digest()).digest()


def encode_config(config: ProxyConfig, previous: Encoded | None = None) -> Encoded:
    """Encode and digest `config`; values identical to those of `previous` are taken over without work."""
    before = previous.config if previous is not None else None
    entries = dict(previous.entries) if previous is not None and before is not None else {}
    changed: list[str] = []
    removed: list[str] = []
    for field, (prefix, wrap) in _KINDS.items():
        new: Mapping[str, Any] = _mapping(config, field)
        old: Mapping[str, Any] = _mapping(before, field) if before is not None else {}
        if new is old:
            continue
        for name, value in new.items():
            if old.get(name) is not value:
                key = prefix + name
                entry = _entry(key, _encoder.encode(wrap(value)))
                known = entries.get(key)
                if known is None or known[1] != entry[1]:
                    entries[key] = entry
                    changed.append(key)
        for name in old:
            if name not in new:
                removed.append(prefix + name)
                del entries[prefix + name]
    if previous is None or before is None:
        return Encoded(entries, config=config)
    return Encoded(entries, previous, changed, removed, config)


def _mapping(config: ProxyConfig, field: str) -> Mapping[str, Any]:
    value = getattr(config, field)
    if field != "default_certificate":
        return cast("Mapping[str, Any]", value)
    return {} if value is None else {"": value}


_KINDS: Mapping[str, tuple[str, type]] = {
    "routes": ("r/", RouteEntry),
    "upstreams": ("u/", UpstreamEntry),
    "certificates": ("c/", CertificateEntry),
    "tls_hosts": ("h/", TlsHostEntry),
    "default_certificate": ("d/", DefaultEntry),
}


def reply_between(base: Encoded | None, to: Encoded, report: Report) -> SyncReply:
    """Return the change that turns `base` (None: nothing) into `to`."""
    if base is not None and to.parent == base.root:
        upsert = {key: to.entries[key][0] for key in to.changed}
        remove = tuple(to.removed)
    else:
        old = base.entries if base is not None else {}
        upsert = {key: entry[0] for key, entry in to.entries.items() if (held := old.get(key)) is None or held[1] != entry[1]}
        remove = tuple(key for key in old if key not in to.entries)
    return SyncReply(
        version=VERSION,
        base=base.root if base is not None else "",
        digest=to.root,
        upsert=upsert,
        remove=remove,
        report=report,
    )


def apply_reply(held: Encoded | None, reply: SyncReply) -> Encoded:
    """Return what the receiver holds after `reply`; raises `WireError` and changes nothing if it does not fit."""
    if reply.version != VERSION:
        raise WireError(f"the configuration is of version {reply.version}, this program reads version {VERSION}")
    if reply.base and (held is None or held.root != reply.base):
        raise WireError(f"the change is relative to {reply.base}, which is not held")
    before = held if reply.base else None
    entries = dict(before.entries) if before is not None else {}
    removed = [key for key in dict.fromkeys(reply.remove) if entries.pop(key, None) is not None and key not in reply.upsert]
    for key, data in reply.upsert.items():
        entries[key] = _entry(key, data)
    result = Encoded(entries, before, tuple(reply.upsert), removed)
    if result.root != reply.digest:
        raise WireError(f"the root is {result.root} after applying, {reply.digest} was announced")
    return result


def decode_entry(key: str, data: bytes) -> Entry:
    """Decode one entry; raises `WireError` if it is malformed or not of the kind that its key says."""
    try:
        entry = _decoder.decode(data)
    except _UNREADABLE as error:
        raise WireError(f"entry {key!r} cannot be read: {error}") from None
    if key[:2] != _PREFIXES[type(entry)]:
        raise WireError(f"entry {key!r} holds a {type(entry).__name__}")
    return entry


_PREFIXES: Mapping[type, str] = {
    RouteEntry: "r/",
    UpstreamEntry: "u/",
    CertificateEntry: "c/",
    TlsHostEntry: "h/",
    DefaultEntry: "d/",
}


def encode_message(message: SyncRequest | SyncReply) -> bytes:
    """Encode a message for the control socket."""
    return _encoder.encode(message)


def decode_reply(data: bytes) -> SyncReply:
    """Decode a `SyncReply`; raises `WireError`."""
    try:
        return _reply_decoder.decode(data)
    except _UNREADABLE as error:
        raise WireError(f"the reply cannot be read: {error}") from None


def decode_request(data: bytes) -> SyncRequest:
    """Decode a `SyncRequest`; raises `WireError`."""
    try:
        return _request_decoder.decode(data)
    except _UNREADABLE as error:
        raise WireError(f"the request cannot be read: {error}") from None
