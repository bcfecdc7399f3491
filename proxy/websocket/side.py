# Compiled by mypyc: see setup.py.
"""One side of a tunnel: what comes from it is scanned and written, unchanged, to the other.

A side that does not take what is written to it has the other one not read. When a side or the whole tunnel ends is the tunnel's.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from proxy.transport.deferred import Deferred
from proxy.transport.protocol_adapter import BUFFER_HIGH, ProtocolAdapter
from proxy.transport.run_queue import RunQueue
from proxy.transport.timer_wheel import TimerWheel
from proxy.websocket.frames import FrameScanner
from proxy.websocket.pings import Pinger

OPEN: Final = 0
BROKEN: Final = 1
CLOSING: Final = 2
"""Phases of a tunnel: see tunnel.py."""


class SideOwner:
    """The tunnel, as far as its sides know it. No protocol: fields of a class are read as fast as a side's own when compiled."""

    __slots__ = ("flushed", "opened", "phase", "run_queue", "wheel")

    def __init__(self, wheel: TimerWheel, run_queue: RunQueue, opened: float) -> None:
        self.wheel = wheel
        self.run_queue = run_queue
        self.opened = opened
        """Loop time of the 101."""
        self.phase: int = OPEN
        self.flushed = True
        """All counts are in the metrics."""

    def mark_unflushed(self) -> None:
        """Have the counts brought into the metrics at the next flush."""
        raise NotImplementedError

    def handle_attention(self, side: "Side") -> None:
        """Act on what the scanner of `side` announced."""
        raise NotImplementedError

    def insert_close(self, side: "Side") -> None:
        """Put our close frame behind what `side` sent, if its current frame is whole."""
        raise NotImplementedError

    def side_ended(self, side: "Side") -> bool:
        """Pass on the FIN of `side`; say whether its connection stays open for the other direction."""
        raise NotImplementedError

    def side_lost(self, side: "Side") -> None:
        """Go on without the connection of `side`, which is gone."""
        raise NotImplementedError


class Side:
    """One side of a tunnel: what comes from it is scanned and written to the other."""

    __deletable__ = ("other", "tunnel")
    __slots__ = (
        "_turns",
        "close_sent",
        "eof",
        "eof_forwarded",
        "last_heard",
        "lingering",
        "lost",
        "name",
        "other",
        "pinger",
        "plain",
        "scanner",
        "stopped",
        "transport",
        "tunnel",
        "write",
    )

    def __init__(self, tunnel: SideOwner, name: str, transport: asyncio.Transport, scanner: FrameScanner) -> None:
        self.tunnel = tunnel
        self.name = name
        """client or backend."""
        self.transport = transport
        self.write: Callable[[bytes], None] = transport.write
        self.plain = transport.get_extra_info("ssl_object") is None
        self.scanner = scanner
        self.other = self
        self.last_heard = tunnel.opened
        """Loop time, as of the wheel's turn before it, at which the last bytes came that were not an answer to our own ping."""
        self.pinger: Pinger | None = None
        """Asks whether this side is still there; None: nobody does."""
        self.stopped = False
        """Nothing of what this side sends is forwarded any more."""
        self.eof = False
        """A FIN came."""
        self.eof_forwarded = False
        """And it was passed on: nothing can be written to the other side any more."""
        self.close_sent = False
        """A close frame was sent here."""
        self.lingering = False
        """It ended for us: what this side still sends is dropped, until its connection is gone."""
        self.lost = False
        """The connection is gone."""
        self._turns = Deferred(tunnel.run_queue)
        """Frames that wait for their turn, and whether the other side takes none."""

    @property
    def read_paused(self) -> bool:
        """Whether this side is not read because the other side does not take it."""
        return self._turns.paused

    @property
    def answered(self) -> bool:
        """Whether nothing that matters can come from this side any more."""
        return self.scanner.close_seen or self.eof or self.lost or self.scanner.error != ""

    @property
    def pingable(self) -> bool:
        """Whether frames can still be sent to this side, and answers heard."""
        other = self.other
        if self.tunnel.phase != OPEN or self.eof or self.lost or other.eof_forwarded:
            return False
        return not (self.scanner.close_seen or other.scanner.close_seen)

    def insert_frame(self, frame: bytes) -> bool:
        """Send a frame of ours to this side: at once (True), or where the frame under way towards it ends."""
        towards = self.other.scanner
        if towards.at_boundary:
            towards.frame_to_insert = b""
            self.write(frame)
            return True
        towards.frame_to_insert = frame
        return False

    def take_over(self) -> None:
        """Become the transport's protocol, with our limits."""
        transport = self.transport
        transport.set_protocol(ProtocolAdapter(self))
        if transport.get_write_buffer_size():
            # Whether the one before us was told to pause cannot be known: a limit of nothing makes it so, and we are told when
            # what is left is written.
            transport.set_write_buffer_limits(high=0)
            self.other.pause()
        transport.set_write_buffer_limits(high=BUFFER_HIGH)

    def pause(self) -> None:
        """Stop reading this side, unless what it sends goes nowhere anyway."""
        if not self.lost and not self.stopped:
            self._turns.pause(self.transport)

    def resume(self) -> None:
        """Read this side again."""
        self._turns.resume(self.transport, self._resume_deferred, has_more=self.scanner.has_more and not self.lost)

    def defer(self) -> None:
        """Put off scanning more frames to a later turn of the loop."""
        self._turns.leave(self.transport, self._resume_deferred)

    def _resume_deferred(self) -> None:
        if self.lost or not self._turns.begin():
            return
        self.data_received(b"")
        if not self.lost:
            self._turns.end(self.transport)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Do nothing: the connection was made long ago."""

    def eof_received(self) -> bool:
        """Pass a FIN on; keep a plain connection open for the other direction."""
        return self.tunnel.side_ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side too."""
        del exc
        self.tunnel.side_lost(self)

    def pause_writing(self) -> None:
        """Stop reading the other side while this one does not take its bytes."""
        self.other.pause()

    def resume_writing(self) -> None:
        """Read the other side again."""
        self.other.resume()

    def stop(self) -> None:
        """Forward nothing more of this side; read on, for its close frame."""
        self.stopped = True
        self.scanner.stop_enforcing()
        if self.read_paused:
            self.resume()

    def scan_pending(self) -> None:
        """Look for a close frame in what the scanner left and nobody gets."""
        rest, self.scanner.pending = self.scanner.pending, b""
        if rest:
            self.scanner.scan(rest)
            if self.scanner.has_more:
                self.defer()

    def data_received(self, data: bytes) -> None:
        """Forward what this side sent."""
        tunnel = self.tunnel
        if tunnel.phase:
            self._received_while_ending(data)
            return
        scanner = self.scanner
        good = scanner.scan(data)
        if tunnel.flushed:
            tunnel.mark_unflushed()
        if good:
            self.last_heard = tunnel.wheel.now
            self.other.write(good)
        if scanner.attention:
            if scanner.has_more:
                self.defer()
            tunnel.handle_attention(self)

    def _received_while_ending(self, data: bytes) -> None:
        scanner = self.scanner
        if scanner.error:
            return
        if self.tunnel.phase == BROKEN:
            if good := scanner.scan(data):
                self.other.write(good)
        elif self.stopped:
            scanner.scan(data)
        else:
            if good := scanner.scan_to_boundary(data):
                self.other.write(good)
            self.tunnel.insert_close(self)
            self.scan_pending()
        if scanner.has_more:
            self.defer()
        self.tunnel.handle_attention(self)
