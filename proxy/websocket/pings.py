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
from typing import Final, Protocol

from proxy.model.policy import Keepalive
from proxy.observability.worker_stats import RouteStats
from proxy.platform.socket_queues import acknowledged, unsent
from proxy.transport.timer_wheel import Deadline, TimerWheel
from proxy.websocket.control_frames import ping_frame
from proxy.websocket.frames import NONCE_BYTES, FrameScanner

SPREAD: Final = 0.1
"""Part of the interval by which it is shorter, at most, another for each socket: those that were opened together do not all ping
in one turn of the loop."""


class PingedSide(Protocol):
    """The side of a tunnel that is pinged."""

    last_heard: float
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
        "_acknowledged",
        "_application_ping",
        "_clock",
        "_deadline",
        "_interval",
        "_last_pong",
        "_masked",
        "_missed",
        "_misses",
        "_number",
        "_on_timeout",
        "_sent",
        "_side",
        "_stats",
        "_waiting_since",
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
        on_timeout: Callable[[], None],
    ) -> None:
        nonce = os.urandom(NONCE_BYTES)
        side.scanner.nonce = nonce
        self._side = side
        self._masked = masked
        self._wheel = wheel
        self._clock = clock
        self._stats = stats
        self._on_timeout = on_timeout
        self._misses = policy.misses
        self._interval = policy.interval * (1 - SPREAD * nonce[0] / 256)
        self._deadline = Deadline(self._interval_passed)
        self._number = 0
        """Pings so far."""
        self._sent = 0.0
        """When the last one was sent, by the clock; 0: none, or it was answered; below 0: it waits for the end of a frame."""
        self._last_pong = 0.0
        """Loop time of the last answer, as of the wheel's turn before it."""
        self._application_ping = False
        """A ping of the application went to this side and was not answered."""
        self._waiting_since = 0.0
        """Loop time since which an answer is awaited; 0: none is."""
        self._missed = 0
        self._acknowledged = 0
        """Bytes that the peer's kernel had taken then."""
        self.rtt = 0.0
        """Seconds that the last answer took; 0: none came."""

    def start(self) -> None:
        """Watch from now on."""
        self._wheel.schedule(self._deadline, self._interval)

    def end(self) -> None:
        """Cancel the deadline."""
        self._wheel.cancel(self._deadline)

    def application_pinged(self) -> None:
        """Record a ping of the application to this side."""
        self._application_ping = True

    def ping_inserted(self) -> None:
        """Record that a ping of ours which waited for the end of a frame was sent, if there was one."""
        if self._sent < 0:
            self._sent = self._clock()

    def pong_received(self, answer: int, *, pong: bool) -> None:
        """Record an answer to our ping of that number (0: none came), and a pong that the application gets."""
        if answer:
            self._last_pong = self._wheel.now
            if answer == self._number and self._sent > 0:
                self.rtt = self._clock() - self._sent
                self._stats.ws_ping(self.rtt)
                self._sent = 0.0
        if pong:
            self._application_ping = False

    def _interval_passed(self) -> None:
        side = self._side
        if not side.pingable:
            return
        now = self._wheel.now
        last = max(side.last_heard, self._last_pong)
        if self._waiting_since and last < self._waiting_since:
            if not self._peer_takes():
                self._missed += 1
                if self._missed >= self._misses:
                    self._on_timeout()
                    return
        else:
            self._missed = 0
            quiet = now - last
            if quiet < self._interval:
                self._waiting_since = 0.0
                self._wheel.schedule(self._deadline, self._interval - quiet)
                return
        self._ping(now)

    def _ping(self, now: float) -> None:
        side = self._side
        self._waiting_since = now
        self._acknowledged = acknowledged(side.transport)
        if not self._application_ping:
            self._number += 1
            payload = side.scanner.nonce + self._number.to_bytes(4, "big")
            self._sent = self._clock() if side.insert_frame(ping_frame(payload, masked=self._masked)) else -1.0
        self._wheel.schedule(self._deadline, self._interval)

    def _peer_takes(self) -> bool:
        """Tell whether the peer's kernel takes what was sent before the ping: it may well be that it has not seen that yet."""
        return acknowledged(self._side.transport) > self._acknowledged and unsent(self._side.transport) > 0
