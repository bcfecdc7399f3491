# Compiled by mypyc: see setup.py.
"""One coarse wheel of deadlines per worker, instead of a timer per request.

A deadline is pushed back by one attribute write; the wheel notices when its bucket comes round and puts it into another. Expiry is
late by at most one tick and never early.
"""

import asyncio
import logging
from collections.abc import Callable

_log = logging.getLogger("sluice.transport")

TICK = 0.1
"""Seconds between turns of the wheel."""


def nothing() -> None:
    """Do nothing: what a deadline calls whose owner has ended, or has not begun."""


class Deadline:
    """Something that happens at a time unless it is pushed back or cancelled first."""

    __slots__ = ("_bucket", "_scheduled_for", "at", "callback")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.at = 0.0
        """Loop time at which `callback` is called once; 0: not set. Write it freely to push a scheduled deadline back or cancel it.
        To set one that may be earlier than before, use `TimerWheel.schedule`."""
        self._scheduled_for = 0.0
        self._bucket = 0


class TimerWheel:
    """The worker's deadlines, in buckets of one tick."""

    __slots__ = ("_buckets", "_due", "_handle", "_last_tick", "_loop", "_on_lag", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lag: Callable[[float], None]) -> None:
        """`on_lag` is told at each turn by how many seconds it came too late: what else the loop did meanwhile."""
        self._loop = loop
        self._on_lag = on_lag
        self._buckets: dict[int, dict[Deadline, None]] = {}
        self.now = loop.time()
        """Loop time as of the last turn: cheap to read, at most a tick old."""
        self._last_tick = int(self.now / TICK)
        self._due = self.now + TICK
        self._handle = loop.call_later(TICK, self._tick)

    def schedule(self, deadline: Deadline, after: float) -> None:
        """Call `deadline.callback` `after` seconds from now; replaces what was scheduled for it before."""
        at = self._loop.time() + after
        deadline.at = at
        if not deadline._scheduled_for:  # noqa: SLF001  the wheel owns this field
            self._insert(deadline, at)
        elif at < deadline._scheduled_for:  # noqa: SLF001
            self._remove(deadline)
            self._insert(deadline, at)

    def cancel(self, deadline: Deadline) -> None:
        """Cancel `deadline` for good: for owners that end.

        What it would have called is its owner's; together they would wait for a collector, and for ever once they are frozen.
        """
        deadline.at = 0.0
        deadline.callback = nothing
        if deadline._scheduled_for:  # noqa: SLF001
            deadline._scheduled_for = 0.0  # noqa: SLF001
            self._remove(deadline)

    def _remove(self, deadline: Deadline) -> None:
        bucket_number = deadline._bucket  # noqa: SLF001
        bucket = self._buckets.get(bucket_number)
        if bucket is not None:  # else the turn of that bucket is under way
            del bucket[deadline]
            if not bucket:
                # A socket's idle timeout is an hour away: of many that come and go, each left its bucket behind until then.
                del self._buckets[bucket_number]

    def _insert(self, deadline: Deadline, at: float) -> None:
        bucket_number = max(int(at / TICK) + 1, self._last_tick + 1)
        deadline._scheduled_for = at  # noqa: SLF001
        deadline._bucket = bucket_number  # noqa: SLF001
        bucket = self._buckets.get(bucket_number)
        if bucket is None:
            self._buckets[bucket_number] = {deadline: None}
        else:
            bucket[deadline] = None

    def _tick(self) -> None:
        self._handle = self._loop.call_later(TICK, self._tick)
        self.now = now = self._loop.time()
        self._on_lag(max(0.0, now - self._due))
        self._due = now + TICK
        bucket_number = int(now / TICK)
        first, self._last_tick = self._last_tick + 1, bucket_number
        for number in range(first, bucket_number + 1):
            for deadline in self._buckets.pop(number, ()):
                if deadline._scheduled_for and deadline._bucket == number:  # noqa: SLF001  else it was cancelled or scheduled again in this turn
                    deadline._scheduled_for = 0.0  # noqa: SLF001
                    self._call_if_due(deadline, now)

    def _call_if_due(self, deadline: Deadline, now: float) -> None:
        if not deadline.at:
            return
        if deadline.at <= now:
            deadline.at = 0.0
            try:
                deadline.callback()
            except Exception:  # noqa: BLE001  one owner's fault must not cost the others their deadlines
                _log.exception("a deadline failed")
        else:
            self._insert(deadline, deadline.at)

    def close(self) -> None:
        """Stop turning; nothing expires any more."""
        self._handle.cancel()
        self._buckets.clear()
