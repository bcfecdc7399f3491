"""One worker: builds its objects, obeys the supervisor, counts, drains, ends.

It runs in a process that the supervisor forked, on a loop of its own, and never leaves `run_worker`.
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import uvloop

from proxy.http1.reference_parser import assert_c_parser
from proxy.listeners.accept import Listener
from proxy.listeners.tls import HandshakeQueue, TlsTermination
from proxy.model.policy import Drain as DrainPolicy
from proxy.model.sharing import Sharer
from proxy.model.wire import SyncReply, WireError, decode_reply
from proxy.observability.access_log import AccessLog
from proxy.observability.metrics import ACCESS_LOG_DROPPED, WORKER_TASKS
from proxy.platform.malloc import limit_free_memory
from proxy.processes.channel import (
    Applied,
    Configure,
    Counted,
    Drain,
    Drained,
    DrainSockets,
    Listed,
    ListSockets,
    Refused,
    Release,
    Retire,
    SendCounts,
    Serve,
    ToWorker,
    worker_end,
)
from proxy.runtime.state import Runtime
from proxy.settings import Settings
from proxy.shared_memory.counters import Counters
from proxy.shared_memory.session_table import SessionTable
from proxy.tls.certificates import CertificateStore
from proxy.websocket.socket_rows import describe
from proxy.websocket.tunnel import Tunnel

COUNT_SECONDS = 1.0
"""How often counts go to the supervisor: what a killed worker loses at most."""
DRAIN_TICK = 0.05
"""How often a draining worker looks whether it can end."""
LIST_PER_TURN = 500
"""Sockets that are described in one turn of the loop, so that open ones are not kept waiting."""

TRIM_BYTES = 4 * 1024 * 1024
"""Free bytes at the top of the heap that are kept for the next burst."""

_PR_SET_PDEATHSIG = 1

_log = logging.getLogger("sluice.processes")


@dataclass(frozen=True, slots=True)
class Slot:
    """The listening sockets of one worker; its successors inherit them."""

    http: socket.socket
    https: socket.socket


@dataclass(frozen=True, slots=True)
class Inheritance:
    """State that a worker inherits by fork."""

    settings: Settings
    tls_context: ssl.SSLContext
    """The context that all workers share with their predecessors, for its ticket keys."""
    slots: tuple[Slot, ...]
    http_port: int
    """The ports that clients see."""
    https_port: int
    counters: Counters
    """Of limits and load balancing, over all workers."""
    session_table: SessionTable
    """Sessions of Engine.IO, known to all workers."""


class Worker:
    """The state of this process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, inheritance: Inheritance, slot: int) -> None:
        settings = inheritance.settings
        self._loop = loop
        self._settings = settings
        self._root = ""
        self._ended: asyncio.Future[int] = loop.create_future()
        self._drain: asyncio.Task[None] | None = None
        self._log = AccessLog(settings.access_log, loop)
        self._store = CertificateStore(strict_sni=settings.strict_sni)
        inheritance.tls_context.sni_callback = self._store.choose
        self._runtime = Runtime(
            loop,
            settings,
            accesslog=self._log,
            certificates=self._store,
            public_https_port=inheritance.https_port,
            counters=inheritance.counters,
            session_table=inheritance.session_table,
            phase=slot / len(inheritance.slots),
        )
        self._channel = worker_end(self.received, self.lost)
        tls = TlsTermination(inheritance.tls_context, self._store, HandshakeQueue(loop), settings.tls_handshake_timeout)
        self._listeners = [
            (
                Listener(self._runtime, slot.http, "http", inheritance.http_port),
                Listener(self._runtime, slot.https, "https", inheritance.https_port, tls),
            )
            for slot in inheritance.slots
        ]

    async def run(self, channel_socket: socket.socket) -> int:
        """Work until the supervisor says that it is over, or is gone; return the exit status."""
        await self._loop.create_unix_connection(lambda: self._channel, sock=channel_socket)
        self._loop.call_later(COUNT_SECONDS, self._tick)
        return await self._ended

    def received(self, message: ToWorker) -> None:
        """Carry out a message of the supervisor."""
        match message:
            case Configure(reply):
                self._configure(reply)
            case Serve(slot):
                if not self._runtime.draining:
                    for listener in self._listeners[slot]:
                        listener.start()
            case Release(slot):
                for listener in self._listeners[slot]:
                    listener.pause()
            case SendCounts(number):
                self._count(number)
            case ListSockets(number):
                self._list(number, list(self._runtime.tunnels))
            case DrainSockets(number, order):
                drain = DrainPolicy(order.over, order.code, order.reason)
                self._channel.send(Drained(number, self._runtime.closer.drain(order.target, drain)))
            case Retire():
                for connection in self._runtime.connections:
                    connection.retire()
            case Drain(within) if self._drain is None:
                self._drain = self._loop.create_task(self._drain_within(within))
            case Drain():
                pass

    def lost(self) -> None:
        """End: without the supervisor nobody would ever configure or drain this worker."""
        if not self._ended.done():
            self._ended.set_result(0 if self._runtime.draining else 1)

    def _configure(self, data: bytes) -> None:
        digest = ""
        try:
            reply = decode_reply(data)
            digest = reply.digest
            self._apply(reply)
        except Exception as error:  # noqa: BLE001  a worker that ended over a configuration would end again in its next life
            _log.exception("digest=%s the configuration is refused", digest)
            self._channel.send(Refused(digest, f"{type(error).__name__}: {error}"))
            return
        self._channel.send(Applied(digest, dict(self._runtime.rejected)))

    def _apply(self, reply: SyncReply) -> None:
        if reply.base != self._root:
            raise WireError(f"the change is relative to {reply.base!r}, this worker holds {self._root!r}")
        sharer = Sharer()
        changed = {key: sharer.decode(key, entry) for key, entry in reply.upsert.items()}
        self._runtime.closer.classless = frozenset(reply.report.classless)
        self._runtime.apply(changed, reply.remove)
        self._root = reply.digest

    def _tick(self) -> None:
        self._loop.call_later(COUNT_SECONDS, self._tick)
        self._count(0)

    def _count(self, number: int) -> None:
        runtime = self._runtime
        runtime.flush_tunnel_stats()
        runtime.stats.count(ACCESS_LOG_DROPPED, self._log.dropped)
        self._log.dropped = 0
        runtime.stats.stand_ins = self._store.stand_ins()
        runtime.stats.set(WORKER_TASKS, len(asyncio.all_tasks(self._loop)))
        self._channel.send(Counted(number, runtime.stats.take_delta()))

    def _list(self, number: int, tunnels: list[Tunnel]) -> None:
        """Send a part of the list, and the rest in the next turns of the loop."""
        now = self._loop.time()
        part, rest = tunnels[:LIST_PER_TURN], tunnels[LIST_PER_TURN:]
        rows = [describe(tunnel, now) for tunnel in part if tunnel in self._runtime.tunnels]
        self._channel.send(Listed(number, rows, last=not rest))
        if rest:
            self._loop.call_soon(self._list, number, rest)

    async def _drain_within(self, within: float) -> None:
        runtime = self._runtime
        started = self._loop.time()
        deadline = started + within
        runtime.draining = True
        for connection in list(runtime.connections):
            connection.drain()
        for pair in self._listeners:
            for listener in pair:
                listener.stop()
        # What is closed last still needs its time to answer.
        spread = max(0.0, min(self._settings.drain_time, within - self._settings.close_wait - 1.0))
        runtime.closer.end(spread)
        while self._loop.time() < deadline and self._busy():  # noqa: ASYNC110  nothing announces that the last one ended
            await asyncio.sleep(DRAIN_TICK)
        if self._busy():
            _log.warning("connections=%d sockets=%d cut off at the end of --grace", len(runtime.connections), len(runtime.tunnels))
        for connection in list(runtime.connections):
            connection.abort()
        self._count(0)
        self._log.close()
        self._channel.close()

    def _busy(self) -> bool:
        runtime = self._runtime
        return bool(
            runtime.connections or runtime.tunnels or any(listener.pending for pair in self._listeners for listener in pair)
        )


def run_worker(inheritance: Inheritance, channel_socket: socket.socket, supervisor: int, slot: int) -> int:
    """Be the worker of a slot, in a process that `supervisor` just forked; return its exit status. `channel_socket` leads there."""
    inheritance.counters.use_slot(slot)
    inheritance.session_table.region = slot
    # What the supervisor's objects refer to is closed below; collecting one of them would close a descriptor that is ours by then.
    gc.freeze()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        # A terminal's Ctrl-C and a container's end reach the whole group; the supervisor's word counts.
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    listening = [sock.fileno() for slot in inheritance.slots for sock in (slot.http, slot.https)]
    _close_all_but({0, 1, 2, channel_socket.fileno(), inheritance.counters.descriptor, *listening})
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        return 1  # it ended before the call above
    # The 256 KiB that uvloop sets aside for each TLS connection are mapped, so that what is never touched is never there: from the
    # heap they cost 46 KB per connection, mapped 24. A threshold that is set no longer grows; less than it is as cheap as ever.
    limit_free_memory(TRIM_BYTES)
    assert_c_parser()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(inheritance, channel_socket, slot))


async def _run(inheritance: Inheritance, channel_socket: socket.socket, slot: int) -> int:
    return await Worker(asyncio.get_running_loop(), inheritance, slot).run(channel_socket)


def _close_all_but(kept: Collection[int]) -> None:
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(entry.name))
