"""The long poll on the controller: each request says what the pod holds, each answer says what changed.

The last configuration is kept whatever happens to the controller; what cannot be read or applied changes nothing.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp

from proxy.model.wire import (
    MAX_MESSAGE_BYTES,
    CertificateEntry,
    DefaultEntry,
    Encoded,
    Entry,
    Report,
    SyncReply,
    SyncRequest,
    TlsHostEntry,
    WireError,
    apply_reply,
    decode_entry,
    decode_reply,
    encode_message,
)

ENDPOINT = "http://controller/v1/sync"
CONTENT_TYPE = "application/msgpack"
BACKOFF_FIRST = 0.05
BACKOFF_MOST = 2.0
"""Seconds between attempts, doubling from the first to this."""
START = 10.0
"""Seconds in which the socket may be missing at the start: the controller's container comes up beside the proxy's."""
SILENCE = 75.0
"""Seconds without a byte after which the controller is taken for dead; it answers after 30 s at the latest."""

_COMING = "coming"
"""Instead of an error: there is none, the controller takes a second longer to start than the proxy."""
_log = logging.getLogger("sluice.processes")


class SyncError(Exception):
    """This round brought nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class HeldConfig:
    """A complete configuration: its entries as they travel, and what the supervisor looks at after each change, decoded.

    Routes and upstreams are decoded when somebody asks: decoded they take several times as much memory.
    """

    encoded: Encoded
    tls_hosts: Mapping[str, str]
    """Host to the key of its certificate."""
    expiries: Mapping[str, float]
    """Key of a certificate to the Unix time of its end."""
    default: str = ""
    """Key of the default certificate; empty: the one that is made at start."""

    def entry(self, key: str) -> Entry | None:
        """Decode what stands under a key of the wire; None: nothing."""
        encoded = self.encoded.entries.get(key)
        return decode_entry(key, encoded[0]) if encoded is not None else None


NO_CONFIG = HeldConfig(Encoded({}), {}, {})


def advance(held: HeldConfig | None, reply: SyncReply) -> HeldConfig:
    """Return what is held after `reply`; raises `WireError` and changes nothing if an entry cannot be read or the root differs."""
    encoded = apply_reply(held.encoded if held is not None else None, reply)
    before = held if held is not None and reply.base else NO_CONFIG
    tls_hosts, expiries, default = dict(before.tls_hosts), dict(before.expiries), before.default
    for key in reply.remove:
        for kind, known in (("h/", tls_hosts), ("c/", expiries)):
            if key.startswith(kind):
                known.pop(key[2:], None)
        if key.startswith("d/"):
            default = ""
    for key, data in reply.upsert.items():
        entry = decode_entry(key, data)
        if isinstance(entry, TlsHostEntry):
            tls_hosts[key[2:]] = entry.value
        elif isinstance(entry, CertificateEntry):
            expiries[key[2:]] = entry.value.not_after
        elif isinstance(entry, DefaultEntry):
            default = entry.value
    return HeldConfig(encoded, tls_hosts, expiries, default)


class Sync:
    """The one client of the controller."""

    def __init__(
        self,
        path: str,
        apply: Callable[[HeldConfig, Report], Awaitable[Mapping[str, str]]],
        reported: Callable[[Report], None],
        controller_uid: int | None = None,
    ) -> None:
        self._path = path
        self._owners = {0, os.geteuid()} | (set() if controller_uid is None else {controller_uid})
        self._apply = apply
        """Put a configuration in place in every worker and return the rejected routes; raises `SyncError`."""
        self._reported = reported
        """Takes what the controller says about the configuration that is in place."""
        self._held: HeldConfig | None = None
        self._rejected: Mapping[str, str] = {}

    async def run(self) -> None:
        """Poll the controller until cancelled."""
        backoff = BACKOFF_FIRST
        failing = ""
        began = time.monotonic()
        while True:
            try:
                async with aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(path=self._path),
                    timeout=aiohttp.ClientTimeout(total=None, connect=5.0, sock_read=SILENCE),
                    auto_decompress=False,
                ) as session:
                    while True:
                        await self._round(session)
                        if failing:
                            _log.info("socket=%s the controller answers%s", self._path, "" if failing == _COMING else " again")
                        backoff, failing = BACKOFF_FIRST, ""
            except (aiohttp.ClientError, OSError, TimeoutError, WireError, SyncError) as error:
                if self._held is None and isinstance(error, FileNotFoundError) and time.monotonic() - began < START:
                    reason = _COMING
                    if failing != reason:
                        _log.info("socket=%s is waited for: the controller starts beside the proxy", self._path)
                else:
                    reason = f"{type(error).__name__}: {error}"
                    if failing != reason:
                        _log.warning("socket=%s error=%r what is held stays; trying again", self._path, reason)
                failing = reason
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, BACKOFF_MOST)

    async def _round(self, session: aiohttp.ClientSession) -> None:
        self._check_owner()
        digest = self._held.encoded.root if self._held is not None else ""
        request = encode_message(SyncRequest(digest=digest, rejected=self._rejected))
        async with session.post(ENDPOINT, data=request, headers={"Content-Type": CONTENT_TYPE}) as response:
            if response.status != HTTPStatus.OK:
                raise SyncError(f"the controller answers {response.status}")
            data = await _read(response)
        reply = decode_reply(data)
        if self._held is None or reply.digest != digest:
            started = time.monotonic()
            held = advance(self._held, reply)
            self._rejected = await self._apply(held, reply.report)
            self._held = held
            _log.info(
                "digest=%s entries=%d changed=%d removed=%d rejected=%d ms=%.1f",
                reply.digest,
                len(held.encoded.entries),
                len(reply.upsert),
                len(reply.remove),
                len(self._rejected),
                1000 * (time.monotonic() - started),
            )
        self._reported(reply.report)

    def _check_owner(self) -> None:
        # A process that can replace the socket could hand us certificates and routes.
        owner = Path(self._path).stat().st_uid
        if owner not in self._owners:
            accepted = " or ".join(map(str, sorted(self._owners)))
            raise SyncError(
                f"the socket belongs to user {owner}; {accepted} would be accepted, or the user that --controller-uid names"
            )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_MESSAGE_BYTES:
            raise SyncError(f"the controller's answer is over {MAX_MESSAGE_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
