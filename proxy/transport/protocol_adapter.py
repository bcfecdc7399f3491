"""The asyncio protocol around a plain object, its stream, which does all the work.

uvloop keeps the method for reading that it finds when a protocol is set, so that is the stream's own: no read goes through here.
"""

import asyncio
from typing import Final, Protocol, cast

BUFFER_HIGH: Final = 64 * 1024
"""Bytes that may wait to be written to a connection before its other side is no longer read: uvloop's own for plain ones."""


class Stream(Protocol):
    """One connection, as its owner treats it."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin."""

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""

    def eof_received(self) -> bool:
        """Take the peer's FIN; True: the connection stays open for the other direction."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """End: the connection is gone."""

    def pause_writing(self) -> None:
        """Stop writing: the peer does not take it."""

    def resume_writing(self) -> None:
        """Go on writing."""


class _ClosedTransport(asyncio.Transport):
    """The transport of a connection that is gone: everything that is still done to it does nothing.

    A stream that kept its real one would be a cycle with it, TLS buffers and all, until a full collection; and what is frozen
    after a change of configuration is never collected.
    """

    def write(self, data: object) -> None:
        """Drop it."""

    def close(self) -> None:
        """Stay closed."""

    def abort(self) -> None:
        """Stay closed."""

    def is_closing(self) -> bool:
        """Be closed."""
        return True

    def pause_reading(self) -> None:
        """Read nothing."""

    def resume_reading(self) -> None:
        """Read nothing."""

    def get_write_buffer_size(self) -> int:
        """Hold nothing."""
        return 0


CLOSED_TRANSPORT: Final = _ClosedTransport()


def not_connected(data: bytes) -> None:
    """Stand in for `write` until the connection is made; raises AssertionError."""
    raise AssertionError(f"{len(data)} bytes before the connection was made")


class ProtocolAdapter(asyncio.Protocol):
    """A connection of asyncio."""

    __slots__ = ("data_received", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.data_received = stream.data_received  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop does not register its transports as what they are.
        self.stream.connection_made(cast("asyncio.Transport", transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.stream.connection_lost(exc)

    def eof_received(self) -> bool:
        """Take the peer's FIN."""
        return self.stream.eof_received()

    def pause_writing(self) -> None:
        """Stop writing."""
        self.stream.pause_writing()

    def resume_writing(self) -> None:
        """Go on writing."""
        self.stream.resume_writing()
