# Compiled by mypyc: see setup.py.
"""The backend's side: one connection to an endpoint, and which exchange has it.

A connection serves one exchange at a time, by a codec. It goes back to the pool only when that says that both messages ended whole;
anything unexpected closes it.
"""

import asyncio
from typing import Protocol

from proxy.http1.fields import ResponseFraming
from proxy.platform.socket_queues import take_unread
from proxy.transport.protocol_adapter import CLOSED_TRANSPORT, not_connected


class Codec(Protocol):
    """Who reads an exchange's answer off a connection."""

    def data_received(self, data: bytes) -> None:
        """Take bytes of the answer."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Act on the end of the connection."""

    def pause_writing(self) -> None:
        """Stop sending: the backend does not take it."""

    def resume_writing(self) -> None:
        """Go on sending."""


class Pool(Protocol):
    """The endpoint that a connection belongs to."""

    address: str
    port: int
    sockets: int
    in_flight: int

    def release(self, connection: "UpstreamConnection") -> None:
        """Take a connection back that may serve again."""

    def connection_lost(self, connection: "UpstreamConnection") -> None:
        """Take note that a connection is gone."""


class UpstreamConnection:
    """One connection to an endpoint."""

    __slots__ = ("alive", "codec", "idle_since", "memo", "memo_head", "pool", "reached", "reused", "transport", "write")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.codec: Codec | None = None
        """That of the exchange that has it; None: it is idle."""
        self.alive = True
        self.reached = False
        """The endpoint took it, and its TLS handshake began."""
        self.reused = False
        """It has served before: finding it closed may be nobody's fault."""
        self.idle_since = 0.0
        self.memo_head = b""
        """Bytes of the last regular head; backends repeat them."""
        self.memo: ResponseFraming | None = None
        self.transport: asyncio.Transport
        self.write = not_connected

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Keep the transport."""
        self.transport = transport
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the exchange; bytes that nobody asked for end the connection."""
        if self.codec is None:
            self.close()
        else:
            self.codec.data_received(data)

    def close(self) -> None:
        """End the connection; it is not used again."""
        self.alive = False
        self.transport.abort()

    def eof_received(self) -> bool:
        """Let the backend's FIN end the connection: nothing is written to who does not listen."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange, or the pool."""
        self.alive = False
        if exc is not None and self.codec is not None and (rest := take_unread(self.transport)):
            # An early answer: who reads no more of a body resets the connection, and a write finds that out before the next read.
            self.codec.data_received(rest)
        self.pool.connection_lost(self)
        if self.codec is not None:
            self.codec.connection_lost(exc)
        self.transport, self.write, self.codec = CLOSED_TRANSPORT, CLOSED_TRANSPORT.write, None

    def pause_writing(self) -> None:
        """Tell the exchange that the backend does not take its bytes."""
        if self.codec is not None:
            self.codec.pause_writing()

    def resume_writing(self) -> None:
        """Tell the exchange to go on."""
        if self.codec is not None:
            self.codec.resume_writing()
