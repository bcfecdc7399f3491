"""The end of a connection whose peer may still be sending: in stages, so that no reset eats what it is told (RFC 9112, 9.6).

A socket that is closed with unread bytes resets its connection, and so do bytes that come later: the peer's program then reads the
reset, not the answer. So our FIN goes out behind the last byte, what still comes is read and dropped, and the socket is closed when
the peer has ended too, or was silent, or has had its time or its bytes. Nothing is kept of what is dropped, nor of its TLS.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from proxy.platform.socket_queues import unsent
from proxy.transport.protocol_adapter import CLOSED_TRANSPORT, ProtocolAdapter
from proxy.transport.timer_wheel import Deadline, TimerWheel

LINGER_SECONDS: Final = 30.0
"""How long a peer may go on sending (nginx: lingering_time)."""
LINGER_BYTES: Final = 256 * 1024 * 1024
"""How much it may send."""
READ_PER_TURN: Final = 128 * 1024
"""After so many bytes at once others have their turn: uvloop reads 32 times as long as a buffer of 256,000 bytes is full."""
STALL: Final = 60.0
"""Seconds for which a peer may take nothing of what waits for it (nginx: send_timeout)."""


class Lingering:
    """A connection that ends, in place of its stream."""

    __slots__ = (
        "_abort",
        "_deadline",
        "_dropped",
        "_dropped_before",
        "_loop",
        "_on_lost",
        "_stalls",
        "_transport",
        "_unsent",
        "_until",
        "_wait",
        "_wheel",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        wheel: TimerWheel,
        wait: float,
        on_lost: Callable[[Exception | None], None],
        abort: Callable[[], None] | None = None,
    ) -> None:
        """After `wait` seconds of silence it ends; `on_lost` is called when it is gone, `abort` to end it before its time."""
        self._loop = asyncio.get_running_loop()
        self._wheel = wheel
        self._wait = wait
        self._on_lost: Callable[[Exception | None], None] | None = on_lost
        self._abort = abort
        self._until = 0.0
        self._dropped = 0
        self._dropped_before = 0
        """Of these, bytes that had come when this was last looked at."""
        self._unsent = 1 << 62
        """Bytes that had not arrived then; and how often they did not get less."""
        self._stalls = 0
        self._deadline = Deadline(self._check)
        detach = getattr(transport, "detach", None)  # TLS ends first, and gives us the connection beneath
        self._transport = transport = transport if detach is None else detach()
        self._until = wheel.now + LINGER_SECONDS
        transport.set_protocol(ProtocolAdapter(self))
        if not transport.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                transport.write_eof()
            with contextlib.suppress(RuntimeError):
                transport.resume_reading()
        wheel.schedule(self._deadline, wait)

    @property
    def transport(self) -> asyncio.Transport:
        """The connection itself, without TLS."""
        return self._transport

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Do nothing: the connection was made long ago."""

    def data_received(self, data: bytes) -> None:
        """Drop what came."""
        self._dropped += len(data)
        if self._dropped > LINGER_BYTES:
            self._end()
        elif len(data) > READ_PER_TURN:
            self._transport.pause_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Close the connection at the peer's FIN, once what was written is out."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end to the owner."""
        self._wheel.cancel(self._deadline)
        on_lost, self._on_lost, self._abort = self._on_lost, None, None
        self._transport = CLOSED_TRANSPORT
        if on_lost is not None:
            on_lost(exc)

    def pause_writing(self) -> None:
        """Do nothing: nothing more is written."""

    def resume_writing(self) -> None:
        """Do nothing."""

    def _check(self) -> None:
        left = unsent(self._transport)
        if left:
            # A peer that still takes what was written may have the time for it.
            self._stalls = self._stalls + 1 if left >= self._unsent else 0
            self._unsent = left
            on = self._stalls * self._wait < STALL
        else:
            on = self._dropped > self._dropped_before and self._wheel.now < self._until and not self._transport.is_closing()
        self._dropped_before = self._dropped
        if on:
            self._wheel.schedule(self._deadline, self._wait)
        else:
            self._end()

    def _end(self) -> None:
        self._abort() if self._abort is not None else self._transport.abort()
