# Compiled by mypyc: see setup.py.
"""The backend's side: one connection to an endpoint, and whose turn it is on it.

A connection serves one exchange at a time. It goes back to the pool only when its exchange says that both messages ended whole;
anything unexpected closes it.
"""

import asyncio
from typing import Protocol

from proxy.http1.fields import ResponseFraming
from proxy.platform.socket_queues import take_unread
from proxy.transport.protocol_adapter import CLOSED_TRANSPORT, not_connected


class Turn(Protocol):
    """The exchange whose turn it is on a connection."""

    def answer_data(self, data: bytes) -> None:
        """Take bytes of the answer."""

    def upstream_lost(self, exc: Exception | None) -> None:
        """Take note that the connection is gone."""

    def upstream_full(self) -> None:
        """Stop sending: the backend does not take it."""

    def upstream_ready(self) -> None:
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

    __slots__ = ("alive", "idle_since", "memo", "memo_head", "pool", "reached", "reused", "transport", "turn", "write")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.turn: Turn | None = None
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
        if self.turn is None:
            self.close()
        else:
            self.turn.answer_data(data)

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
        if exc is not None and self.turn is not None and (rest := take_unread(self.transport)):
            # An early answer: who reads no more of a body resets the connection, and a write finds that out before the next read.
            self.turn.answer_data(rest)
        self.pool.connection_lost(self)
        if self.turn is not None:
            self.turn.upstream_lost(exc)
        self.transport, self.write, self.turn = CLOSED_TRANSPORT, CLOSED_TRANSPORT.write, None

    def pause_writing(self) -> None:
        """Tell the exchange that the backend does not take its bytes."""
        if self.turn is not None:
            self.turn.upstream_full()

    def resume_writing(self) -> None:
        """Tell the exchange to go on."""
        if self.turn is not None:
            self.turn.upstream_ready()
