# Compiled by mypyc: see setup.py.
"""Accepting connections: the worker's own accept loop, and for TLS the look at the ClientHello before the handshake.

What a connection says over HTTP is the server's; which certificate it gets is the store's.
"""

import asyncio
import errno
import logging
import os
import resource
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.exchange.accounting import refusal
from proxy.exchange.http1_downstream import ServerConnection
from proxy.http.addresses import packed, written
from proxy.http.local_replies import PLAIN_ON_TLS
from proxy.http.message import Client
from proxy.platform.socket_queues import unread
from proxy.runtime.state import Runtime
from proxy.tls.certificates import CertificateStore
from proxy.tls.client_hello import (
    ALERT_DECODE_ERROR,
    ALERT_NO_APPLICATION_PROTOCOL,
    ALERT_PROTOCOL_VERSION,
    ALERT_UNRECOGNIZED_NAME,
    TLS_1_2,
    ClientHello,
    HelloReader,
    Peek,
    alert,
)
from proxy.tls.stream import TlsStream
from proxy.transport.lingering import Lingering
from proxy.transport.protocol_adapter import CLOSED_TRANSPORT, ProtocolAdapter, Stream
from proxy.transport.timer_wheel import Deadline, nothing

ACCEPT_BATCH = 64
"""Connections accepted per turn of the loop, so that open ones are not kept waiting."""
HANDSHAKES_PER_TURN = 4
"""A handshake takes about 1 ms: 400 at once stalled the loop for 74 to 183 ms, four per turn 12 ms."""
DESCRIPTOR_SHARE = 0.9
"""Share of the descriptors from which on new connections wait in the kernel's queue; those that are open need some to go on."""
RESUME_SHARE = 0.95
"""Share of that from which on accepting goes on, so that it does not stop again at once."""
PAUSE_SECONDS = 0.25
"""How long accepting rests when descriptors or memory ran out."""
LINGER_SECONDS = 1.0
"""How long a refused connection may be silent before it is closed."""

HELLO: Final = 0
TURN: Final = 1
HANDSHAKING: Final = 2
REFUSED: Final = 3
"""What a connection to a TLS port waits for: its hello, its turn, the end of the handshake, or nothing more."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger("sluice.listeners")


@dataclass(frozen=True, slots=True)
class Termination:
    """What a TLS listener needs: the context that was made before forking, and who knows the certificates."""

    base: ssl.SSLContext
    store: CertificateStore
    timeout: float
    """Seconds for the whole handshake, its first byte included."""


class HandshakeQueue:
    """Starts handshakes, a few per turn of the loop."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, start: Callable[[], None]) -> None:
        """Start now or in one of the next turns, in order."""
        self._waiting.append(start)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        try:
            for _ in range(min(HANDSHAKES_PER_TURN, len(self._waiting))):
                self._waiting.popleft()()
        finally:  # one that cannot start must not hold up the others
            if self._waiting:
                self._loop.call_soon(self._turn)


class Listener:
    """One listening socket, which the supervisor bound and keeps open."""

    def __init__(
        self, runtime: Runtime, sock: socket.socket, name: str, port: int, turns: HandshakeQueue, tls: Termination | None
    ) -> None:
        self.runtime = runtime
        self.tls = tls
        self.turns = turns
        self.greetings: set[TlsHandshake] = set()
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
        """Connections that were accepted and are not yet the server's."""
        return len(self.greetings) + len(self._tasks)

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
        for greeting in [one for one in self.greetings if one.silent]:
            greeting.drop()
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
            full = sock.fileno() >= self._ceiling
            self._take(sock, address[0])
            if full:
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
        found = packed(address)
        assert found is not None, address  # noqa: S101  the kernel wrote it
        client = Client(
            peer=written(found),
            secure=self.tls is not None,
            port=self._port,
            trusted=self.runtime.trusts(found),
            listener=self._name,
            accepted_at=self._loop.time(),
        )
        stream: Stream = ServerConnection(self.runtime, client) if self.tls is None else TlsHandshake(self, self.tls, client)
        task = self._loop.create_task(self._serve(sock, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket, stream: Stream) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: ProtocolAdapter(stream), sock)
        except OSError:
            sock.close()


class TlsHandshake:
    """A connection to a TLS port until its handshake is done or it is refused."""

    __slots__ = ("_client", "_deadline", "_hello", "_listener", "_reader", "_started", "_state", "_tls", "_transport")

    def __init__(self, listener: Listener, tls: Termination, client: Client) -> None:
        self._listener = listener
        self._tls = tls
        self._client = client
        self._hello = bytearray()
        self._reader = HelloReader()
        self._state = HELLO
        self._started = listener.runtime.loop.time()
        self._deadline = Deadline(nothing)
        self._transport: asyncio.Transport = CLOSED_TRANSPORT

    @property
    def silent(self) -> bool:
        """No byte has come, not even to the kernel."""
        return self._state == HELLO and not self._hello and not unread(self._transport)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for the hello."""
        self._transport = transport
        self._listener.greetings.add(self)
        self._deadline.callback = self._late
        self._listener.runtime.wheel.schedule(self._deadline, self._tls.timeout)

    def data_received(self, data: bytes) -> None:
        """Look at the hello, and keep what comes for OpenSSL."""
        if self._state == REFUSED:
            return
        self._hello += data
        if self._state != HELLO:
            self._transport.pause_reading()  # no honest client says more before it is answered
            return
        hello = self._reader.feed(data)
        if isinstance(hello, ClientHello):
            self._judge(hello)
        elif hello is Peek.NOT_TLS:
            self._refuse(refusal(PLAIN_ON_TLS, bytes(self._hello), self._client, self._listener.runtime))
        elif hello is not Peek.MORE:
            self._refuse(alert(ALERT_DECODE_ERROR))

    def drop(self) -> None:
        """End the connection without an answer."""
        self._transport.abort()

    def eof_received(self) -> bool:
        """Let a FIN end the connection."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        del exc
        self._state = REFUSED
        self._transport = CLOSED_TRANSPORT
        self._forget()

    def pause_writing(self) -> None:
        """Go on: what is written here is short."""

    def resume_writing(self) -> None:
        """Go on."""

    def _judge(self, hello: ClientHello) -> None:
        if hello.version < TLS_1_2:
            self._refuse(alert(ALERT_PROTOCOL_VERSION))
        elif hello.alpn and b"http/1.1" not in hello.alpn:
            self._refuse(alert(ALERT_NO_APPLICATION_PROTOCOL))  # RFC 7301 3.2
        elif not self._tls.store.serves(hello.sni):
            self._refuse(alert(ALERT_UNRECOGNIZED_NAME))
        else:
            self._state = TURN
            self._client.sni = hello.sni
            self._listener.turns.add(self._start)

    def _start(self) -> None:
        if self._state != TURN:
            return
        self._state = HANDSHAKING
        client, tls, transport, hello = self._client, self._tls, self._transport, bytes(self._hello)
        self._hello = bytearray()
        tls.store.remember(client)
        runtime = self._listener.runtime
        stream = TlsStream(ServerConnection(runtime, client), tls.base, runtime.run_queue, self._finished, server_side=True)
        transport.set_protocol(ProtocolAdapter(stream))
        transport.resume_reading()
        stream.begin(transport, hello)

    def _finished(self, error: Exception | None) -> None:
        """Take note of how the handshake went; an alert that says why it failed is on its way."""
        if self._state != HANDSHAKING:  # too late
            return
        if error is None:
            self._count("ok")
            self._forget()
        else:
            self._count("failed")
            self._linger()

    def _late(self) -> None:
        if self._state != REFUSED:
            self._state = REFUSED
            self._listener.runtime.stats.tls_handshake("timeout", self._tls.timeout)
        self._transport.abort()
        self._forget()

    def _refuse(self, answer: bytes) -> None:
        self._count("refused")
        self._transport.write(answer)
        self._linger()

    def _linger(self) -> None:
        """Read on for a moment: closing on unread bytes would reset the connection and lose what was said."""
        self._state = REFUSED
        if self._transport.is_closing():
            self._forget()
            return
        runtime = self._listener.runtime
        runtime.wheel.cancel(self._deadline)
        self._transport = Lingering(self._transport, runtime.wheel, LINGER_SECONDS, self.connection_lost).transport

    def _count(self, result: str) -> None:
        runtime = self._listener.runtime
        runtime.stats.tls_handshake(result, runtime.loop.time() - self._started)

    def _forget(self) -> None:
        """Leave the wheel and the listener."""
        self._listener.runtime.wheel.cancel(self._deadline)
        self._listener.greetings.discard(self)
