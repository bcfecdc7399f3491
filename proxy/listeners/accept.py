# Compiled by mypyc: see setup.py.
"""The accept loop of a worker: a plain connection goes to the exchange, one that begins with TLS to listeners/tls first."""

import asyncio
import errno
import logging
import os
import resource
import socket
import sys
from typing import Final

from proxy.exchange.http1_downstream import Http1Downstream
from proxy.http.addresses import packed, written
from proxy.http.message import Client
from proxy.listeners.tls import TlsHandshake, TlsTermination
from proxy.runtime.state import Runtime
from proxy.transport.protocol_adapter import ProtocolAdapter, Stream

ACCEPT_BATCH: Final = 64
"""Connections accepted per turn of the loop, so that open ones are not kept waiting."""
DESCRIPTOR_SHARE: Final = 0.9
"""Share of the descriptors from which on new connections wait in the kernel's queue; those that are open need some to go on."""
RESUME_SHARE: Final = 0.95
"""Share of that from which on accepting goes on, so that it does not stop again at once."""
PAUSE_SECONDS: Final = 0.25
"""How long accepting rests when descriptors or memory ran out."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger("sluice.listeners")


class Listener:
    """One listening socket, which the supervisor bound and keeps open."""

    def __init__(self, runtime: Runtime, sock: socket.socket, name: str, port: int, tls: TlsTermination | None = None) -> None:
        """`name`: of the listener in metrics; `port`: the one that clients see."""
        self.runtime = runtime
        self.tls = tls
        self.handshakes: set[TlsHandshake] = set()
        """TLS connections whose handshake is not done."""
        self._loop = runtime.loop
        self._sock = sock
        self._name = name
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting = False
        self._ceiling = int(DESCRIPTOR_SHARE * resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._exhausted = False
        """Said already; once until something is accepted again."""
        self._pause: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> int:
        """Connections that were accepted and are not the exchange's yet."""
        return len(self.handshakes) + len(self._tasks)

    def start(self) -> None:
        """Accept from now on."""
        if not self._accepting:
            self._accepting = True
            self._loop.add_reader(self._sock, self._accept)

    def pause(self) -> None:
        """Accept no more; what waits in the queue waits for another worker or for `start`."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        elif self._accepting:
            self._loop.remove_reader(self._sock)
        self._accepting = False

    def stop(self) -> None:
        """Take what waits in the queue, then listen no more, in any process."""
        for handshake in [handshake for handshake in self.handshakes if handshake.silent]:
            handshake.abort()
        if self._accepting:
            self.pause()
            self._ceiling = sys.maxsize
            while self._accept_some():
                pass
            self._sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        self._accept_some()

    def _accept_some(self) -> bool:
        """Accept a batch; tell whether there may be more."""
        for _ in range(ACCEPT_BATCH):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(str(error))
                    return False
                continue  # accept(2): the connection died in the queue; the next one may be well
            sock.setblocking(False)
            # A new descriptor is the lowest that is free (open(2)): nothing need be counted.
            at_ceiling = sock.fileno() >= self._ceiling
            self._take(sock, address[0])
            if at_ceiling:
                self._rest(f"{self._ceiling} descriptors are in use")
                return False
        return True

    def _rest(self, reason: str) -> None:
        if self._accepting and self._pause is None:
            if not self._exhausted:
                self._exhausted = True
                _log.error("listener=%s reason=%r new connections wait", self._name, reason)
            self._loop.remove_reader(self._sock)
            self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._crowded():
            self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)
            return
        self._pause = None
        self._exhausted = False
        self._loop.add_reader(self._sock, self._accept)

    def _crowded(self) -> bool:
        try:
            probe = os.dup(self._sock.fileno())
        except OSError:
            return True
        os.close(probe)
        return probe >= RESUME_SHARE * self._ceiling

    def _take(self, sock: socket.socket, address: str) -> None:
        packed_address = packed(address)
        assert packed_address is not None, address  # noqa: S101  the kernel wrote it
        client = Client(
            peer=written(packed_address),
            secure=self.tls is not None,
            port=self._port,
            trusted=self.runtime.trusts(packed_address),
            listener=self._name,
            accepted_at=self._loop.time(),
        )
        stream: Stream
        if self.tls is None:
            stream = Http1Downstream(self.runtime, client)
        else:
            stream = TlsHandshake(self.runtime, self.tls, client, self.handshakes)
        task = self._loop.create_task(self._serve(sock, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket, stream: Stream) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: ProtocolAdapter(stream), sock)
        except OSError:
            sock.close()
