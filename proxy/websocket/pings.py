# Compiled by mypyc: see setup.py.
"""The proxy's own pings to one side of a tunnel, and what follows from an answer or from none.

A pinger is at rest while its side speaks: any frame within the interval replaces the ping. Silent for an interval, the side is
asked, at the next end of a frame, and again after each further interval without a sign of life; none is sent while a ping of the
application is unanswered, whose answer tells as much. When `misses` intervals have passed so, the side is dead. A side that does
not answer because it is still busy taking what was sent before is not: its kernel acknowledges bytes while some wait.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from proxy.model.policy import Keepalive
from proxy.observability.worker_stats import RouteStats
from proxy.platform.socket_queues import acknowledged, unsent
from proxy.transport.timer_wheel import Deadline, TimerWheel
from proxy.websocket.control_frames import ping_frame
from proxy.websocket.frames import NONCE_BYTES, FrameScanner

SPREAD = 0.1
"""Part of the interval by which it is shorter, at most, another for each socket: those that were opened together do not all ping
in one turn of the loop."""


class PingedSide(Protocol):
    """The side of a tunnel that is pinged."""

    heard: float
    scanner: FrameScanner
    transport: asyncio.Transport

    @property
    def pingable(self) -> bool:
        """Whether frames can still be sent to this side, and answers heard."""
        ...

    def insert_frame(self, frame: bytes) -> bool:
        """Send a frame of ours to this side: at once (True), or where the frame under way towards it ends."""
        ...


class Pinger:
    """Asks one side of one tunnel whether it is still there."""

    __slots__ = (
        "_acked",
        "_answered",
        "_asked",
        "_clock",
        "_count",
        "_dead",
        "_deadline",
        "_interval",
        "_masked",
        "_missed",
        "_misses",
        "_probed",
        "_sent",
        "_side",
        "_stats",
        "_wheel",
        "rtt",
    )

    def __init__(
        self,
        side: PingedSide,
        policy: Keepalive,
        *,
        masked: bool,
        wheel: TimerWheel,
        clock: Callable[[], float],
        stats: RouteStats,
        dead: Callable[[], None],
    ) -> None:
        nonce = os.urandom(NONCE_BYTES)
        side.scanner.nonce = nonce
        self._side = side
        self._masked = masked
        self._wheel = wheel
        self._clock = clock
        self._stats = stats
        self._dead = dead
        self._misses = policy.misses
        self._interval = policy.interval * (1 - SPREAD * nonce[0] / 256)
        self._deadline = Deadline(self._wake)
        self._count = 0
        """Pings so far."""
        self._sent = 0.0
        """When the last one was sent, by the clock; 0: none, or it was answered; below 0: it waits for the end of a frame."""
        self._answered = 0.0
        """Loop time of the last answer, as of the wheel's turn before it."""
        self._asked = False
        """A ping of the application went to this side and was not answered."""
        self._probed = 0.0
        """Loop time since which an answer is awaited; 0: none is."""
        self._missed = 0
        self._acked = 0
        """Bytes that the peer's kernel had taken then."""
        self.rtt = 0.0
        """Seconds that the last answer took; 0: none came."""

    def start(self) -> None:
        """Watch from now on."""
        self._wheel.schedule(self._deadline, self._interval)

    def end(self) -> None:
        """Let go of the tunnel and the wheel."""
        self._wheel.cancel(self._deadline)

    def asked(self) -> None:
        """Take note of a ping of the application to this side."""
        self._asked = True

    def inserted(self) -> None:
        """Take note that a ping that had to wait for the end of a frame is out, if there was one."""
        if self._sent < 0:
            self._sent = self._clock()

    def heard(self, answer: int, *, pong: bool) -> None:
        """Take note of an answer to our ping of that number (0: none came), and of a pong that the application gets."""
        if answer:
            self._answered = self._wheel.now
            if answer == self._count and self._sent > 0:
                self.rtt = self._clock() - self._sent
                self._stats.ws_ping(self.rtt)
                self._sent = 0.0
        if pong:
            self._asked = False

    def _wake(self) -> None:
        side = self._side
        if not side.pingable:
            return
        now = self._wheel.now
        last = max(side.heard, self._answered)
        if self._probed and last < self._probed:
            if not self._taking():
                self._missed += 1
                if self._missed >= self._misses:
                    self._dead()
                    return
        else:
            self._missed = 0
            quiet = now - last
            if quiet < self._interval:
                self._probed = 0.0
                self._wheel.schedule(self._deadline, self._interval - quiet)
                return
        self._probe(now)

    def _probe(self, now: float) -> None:
        side = self._side
        self._probed = now
        self._acked = acknowledged(side.transport)
        if not self._asked:
            self._count += 1
            payload = side.scanner.nonce + self._count.to_bytes(4, "big")
            self._sent = self._clock() if side.insert_frame(ping_frame(payload, masked=self._masked)) else -1.0
        self._wheel.schedule(self._deadline, self._interval)

    def _taking(self) -> bool:
        """Tell whether the peer's kernel takes what was sent before the ping: it may well be that it has not seen that yet."""
        return acknowledged(self._side.transport) > self._acked and unsent(self._side.transport) > 0
