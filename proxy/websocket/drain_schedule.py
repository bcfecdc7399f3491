"""When sockets that have to go are closed: spread evenly over a time, oldest first.

Every worker paces its own sockets over the same time. Nothing has to be agreed on, so nothing can be lost with a worker; the
workers' closes fall between each other's by their phases, and the kernel's hashing of connections gives each worker its part of
the old and of the new. A socket has one scheduled close. Another cause never makes it later, and earlier only where its own time
ends before that: so no second cause restarts a drain that is under way, or makes it faster than it has to be.
"""

import heapq
import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

MAX_SHIFT = 1.0
"""Seconds by which the first closes of workers may be apart: a few sockets must not wait for a share of a long time."""
BATCH_SECONDS = 0.005
"""Seconds: what is due within this time is closed in one turn."""

_log = logging.getLogger("sluice.websocket")


class Handle(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Cancel the call."""


class Clock(Protocol):
    """The loop, as far as the schedule needs it."""

    def time(self) -> float:
        """Return the loop's time in seconds."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Handle:
        """Call at a loop time."""
        ...


@dataclass(frozen=True, slots=True)
class CloseReason:
    """The close code and reason that a socket gets, and the cause for metrics."""

    cause: str
    code: int
    reason: bytes = b""


class Closable(Protocol):
    """A socket, as far as the schedule needs it."""

    opened: float
    """Loop time."""
    scheduled: "ScheduledClose | None"
    """The schedule's: when it is closed, if it is to be."""

    def close(self, close_reason: CloseReason) -> None:
        """Close it now."""


class ScheduledClose:
    """When one socket is closed, and with what."""

    __slots__ = ("at", "close_reason", "socket")

    def __init__(self, at: float, close_reason: CloseReason, socket: Closable) -> None:
        self.at = at
        self.close_reason = close_reason
        self.socket: Closable | None = socket
        """None: it is not closed, or not here."""

    def cancel(self) -> None:
        """Do not close the socket."""
        if self.socket is not None:
            self.socket.scheduled = None
            self.socket = None


class DrainSchedule:
    """The scheduled closes of one worker."""

    __slots__ = ("_armed", "_clock", "_handle", "_heap", "_phase", "_sequence")

    def __init__(self, clock: Clock, phase: float = 0.0) -> None:
        """`phase`: where in its share of the time a socket is closed, from 0 up to 1; another one in each worker."""
        self._clock = clock
        self._phase = phase
        self._heap: list[tuple[float, int, ScheduledClose]] = []
        self._sequence = itertools.count()
        self._handle: Handle | None = None
        self._armed = 0.0

    def spread(self, sockets: Iterable[Closable], until: float, close_reason: CloseReason) -> int:
        """Close `sockets` evenly from now `until` a loop time, the oldest at once; returns how many of them were scheduled.

        Those that are closed before that anyway stay as they are.
        """
        now = self._clock.time()
        until = max(until, now)
        waiting = [socket for socket in sockets if socket.scheduled is None or socket.scheduled.at > until]
        waiting.sort(key=lambda socket: socket.opened)
        step = (until - now) / len(waiting) if waiting else 0.0
        first = now + min(step, MAX_SHIFT) * self._phase
        for number, socket in enumerate(waiting):
            if socket.scheduled is not None:
                socket.scheduled.cancel()
            scheduled = socket.scheduled = ScheduledClose(first + step * number, close_reason, socket)
            heapq.heappush(self._heap, (scheduled.at, next(self._sequence), scheduled))
        self._arm()
        return len(waiting)

    def _arm(self) -> None:
        heap = self._heap
        while heap and heap[0][2].socket is None:
            heapq.heappop(heap)
        if self._handle is not None:
            if heap and heap[0][0] >= self._armed:
                return
            self._handle.cancel()
            self._handle = None
        if heap:
            self._armed = heap[0][0]
            self._handle = self._clock.call_at(self._armed, self._close_due)

    def _close_due(self) -> None:
        self._handle = None
        due = self._clock.time() + BATCH_SECONDS
        heap = self._heap
        while heap and heap[0][0] <= due:
            scheduled = heapq.heappop(heap)[2]
            socket = scheduled.socket
            scheduled.cancel()
            if socket is not None:
                try:
                    socket.close(scheduled.close_reason)
                except Exception:  # noqa: BLE001  one socket's fault must not leave the others open
                    _log.exception("a socket could not be closed")
        self._arm()
