# Compiled by mypyc: see setup.py.
"""A connection to a TLS port until its handshake is done: the look at its ClientHello, its turn in the queue of handshakes.

OpenSSL sees nothing of a connection that is refused: version, ALPN and server name are judged before. Which certificate one gets is
the store's; what it says over HTTP is the exchange's.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.exchange.accounting import record_refusal
from proxy.exchange.http1_downstream import Http1Downstream
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
    HelloStatus,
    alert,
)
from proxy.tls.stream import TlsStream
from proxy.transport.lingering import Lingering
from proxy.transport.protocol_adapter import CLOSED_TRANSPORT, ProtocolAdapter
from proxy.transport.timer_wheel import Deadline, nothing

HANDSHAKES_PER_TURN: Final = 4
"""A handshake takes about 1 ms: 400 at once stalled the loop for 74 to 183 ms, four per turn 12 ms."""
LINGER_SECONDS: Final = 1.0
"""How long a refused connection may be silent before it is closed."""

HELLO: Final = 0
QUEUED: Final = 1
HANDSHAKING: Final = 2
REFUSED: Final = 3
"""States: waiting for its hello, for its turn in the queue, for the end of the handshake, or for nothing more."""


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


@dataclass(frozen=True, slots=True)
class TlsTermination:
    """The TLS of all listeners of a worker."""

    context: ssl.SSLContext
    """Made before forking: its ticket keys are the same in all workers."""
    certificates: CertificateStore
    queue: HandshakeQueue
    timeout: float
    """Seconds for the whole handshake, its first byte included."""


class TlsHandshake:
    """A connection to a TLS port until its handshake is done or it is refused."""

    __slots__ = ("_client", "_deadline", "_hello", "_pending", "_reader", "_runtime", "_started", "_state", "_tls", "_transport")

    def __init__(self, runtime: Runtime, tls: TlsTermination, client: Client, pending: "set[TlsHandshake]") -> None:
        """`pending`: it is in there from its beginning to its end."""
        self._runtime = runtime
        self._tls = tls
        self._client = client
        self._pending = pending
        self._hello = bytearray()
        self._reader = HelloReader()
        self._state = HELLO
        self._started = runtime.loop.time()
        self._deadline = Deadline(nothing)
        self._transport: asyncio.Transport = CLOSED_TRANSPORT

    @property
    def silent(self) -> bool:
        """No byte has come, not even to the kernel."""
        return self._state == HELLO and not self._hello and not unread(self._transport)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for the hello."""
        self._transport = transport
        self._pending.add(self)
        self._deadline.callback = self._timed_out
        self._runtime.wheel.schedule(self._deadline, self._tls.timeout)

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
        elif hello is HelloStatus.NOT_TLS:
            self._refuse(record_refusal(PLAIN_ON_TLS, bytes(self._hello), self._client, self._runtime))
        elif hello is not HelloStatus.MORE:
            self._refuse(alert(ALERT_DECODE_ERROR))

    def abort(self) -> None:
        """End the connection without an answer."""
        self._transport.abort()

    def eof_received(self) -> bool:
        """End the connection at a FIN."""
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
        elif not self._tls.certificates.serves(hello.sni):
            self._refuse(alert(ALERT_UNRECOGNIZED_NAME))
        else:
            self._state = QUEUED
            self._client.sni = hello.sni
            self._tls.queue.add(self._start)

    def _start(self) -> None:
        if self._state != QUEUED:
            return
        self._state = HANDSHAKING
        client, tls, transport, hello = self._client, self._tls, self._transport, bytes(self._hello)
        self._hello = bytearray()
        tls.certificates.record_handshake(client)
        runtime = self._runtime
        stream = TlsStream(Http1Downstream(runtime, client), tls.context, runtime.run_queue, self._finished, server_side=True)
        transport.set_protocol(ProtocolAdapter(stream))
        transport.resume_reading()
        stream.begin(transport, hello)

    def _finished(self, error: Exception | None) -> None:
        """Go on after the handshake; an alert that says why it failed is on its way."""
        if self._state != HANDSHAKING:  # too late
            return
        if error is None:
            self._count("ok")
            self._forget()
        else:
            self._count("failed")
            self._linger()

    def _timed_out(self) -> None:
        if self._state != REFUSED:
            self._state = REFUSED
            self._runtime.stats.tls_handshake("timeout", self._tls.timeout)
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
        runtime = self._runtime
        runtime.wheel.cancel(self._deadline)
        self._transport = Lingering(self._transport, runtime.wheel, LINGER_SECONDS, self.connection_lost).transport

    def _count(self, result: str) -> None:
        runtime = self._runtime
        runtime.stats.tls_handshake(result, runtime.loop.time() - self._started)

    def _forget(self) -> None:
        """Leave the wheel and those that are pending."""
        self._runtime.wheel.cancel(self._deadline)
        self._pending.discard(self)
