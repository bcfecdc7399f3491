"""The supervisor's line to each worker: a socketpair with length-prefixed msgpack frames, and the messages that go over it.

Frames keep their order: a worker that is told to serve has applied every configuration that was sent before.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar, cast

import msgspec

from proxy.model.sockets import DrainOrder, SocketRow
from proxy.model.wire import MAX_MESSAGE_BYTES
from proxy.observability.stats_delta import StatsDelta


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """Apply this change: an encoded `SyncReply` relative to what the worker holds."""

    reply: bytes


class Serve(msgspec.Struct, frozen=True, tag="serve"):
    """Accept on the sockets of this slot: the worker's own, or that of a neighbour that is away."""

    slot: int


class Release(msgspec.Struct, frozen=True, tag="release"):
    """Leave the sockets of this slot to their own worker again."""

    slot: int


class SendCounts(msgspec.Struct, frozen=True, tag="send-counts"):
    """Answer with `Counted` now."""

    number: int


class Retire(msgspec.Struct, frozen=True, tag="retire"):
    """Make the next answer on each open connection its last; go on accepting."""


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Stop accepting, let requests finish, close sockets, exit."""

    within: float
    """Seconds until what is left is cut off."""


class ListSockets(msgspec.Struct, frozen=True, tag="list-sockets"):
    """Answer with `Listed`, as many as it takes."""

    number: int


class DrainSockets(msgspec.Struct, frozen=True, tag="drain-sockets"):
    """Close some sockets; answer with `Drained`."""

    number: int
    order: DrainOrder


class Applied(msgspec.Struct, frozen=True, tag="applied"):
    """The configuration of this root is in place."""

    digest: str
    rejected: Mapping[str, str]
    """Route id to the reason why it answers 500; all of them, not only new ones."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The configuration of this root is not in place; the one before it is."""

    digest: str
    reason: str


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """Counts since the last message of this kind."""

    number: int
    """Of the `SendCounts`; 0: unasked."""
    delta: StatsDelta


class Listed(msgspec.Struct, frozen=True, tag="listed"):
    """Some of the worker's open sockets."""

    number: int
    """Of the `ListSockets`."""
    rows: Sequence[SocketRow]
    last: bool
    """There are no more."""


class Drained(msgspec.Struct, frozen=True, tag="drained"):
    """An order is carried out, or under way."""

    number: int
    """Of the `DrainSockets`."""
    sockets: int


ToWorker = Configure | Serve | Release | SendCounts | Retire | Drain | ListSockets | DrainSockets
ToSupervisor = Applied | Refused | Counted | Listed | Drained

_In = TypeVar("_In")
_encoder = msgspec.msgpack.Encoder()


class Channel(asyncio.Protocol, Generic[_In]):
    """One end. `received` gets every message; `lost` is called once, when the other end is gone or sends what is no message."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[_In], received: Callable[[_In], None], lost: Callable[[], None]) -> None:
        self._decoder = decoder
        self._received = received
        self._lost = lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; asyncio calls this."""
        # uvloop does not register its unix transport as what it is.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _: Exception | None) -> None:
        """Report that the other end is gone; asyncio calls this."""
        self._transport = None
        self._lost()

    def data_received(self, data: bytes) -> None:
        """Cut whole frames out of what came; asyncio calls this."""
        self._buffer += data
        at = 0
        while len(self._buffer) >= at + 4:
            size = int.from_bytes(self._buffer[at : at + 4], "big")
            if size > MAX_MESSAGE_BYTES + 1024:
                self.abort()
                return
            if len(self._buffer) < at + 4 + size:
                break
            frame = bytes(memoryview(self._buffer)[at + 4 : at + 4 + size])
            at += 4 + size
            try:
                message = self._decoder.decode(frame)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.abort()
                return
            self._received(message)
        if at:
            del self._buffer[:at]

    def send(self, message: ToWorker | ToSupervisor) -> None:
        """Send a message; to an end that is gone it goes nowhere."""
        if self._transport is not None:
            frame = _encoder.encode(message)
            self._transport.write(len(frame).to_bytes(4, "big") + frame)

    def close(self) -> None:
        """Close once everything is sent; `lost` follows."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def supervisor_end(received: Callable[[ToSupervisor], None], lost: Callable[[], None]) -> Channel[ToSupervisor]:
    """Make the supervisor's end."""
    return Channel(msgspec.msgpack.Decoder(ToSupervisor), received, lost)


def worker_end(received: Callable[[ToWorker], None], lost: Callable[[], None]) -> Channel[ToWorker]:
    """Make a worker's end."""
    return Channel(msgspec.msgpack.Decoder(ToWorker), received, lost)
