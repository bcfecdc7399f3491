# Compiled by mypyc: see setup.py.
"""How often one side of a socket may send: a token bucket, as the generic cell rate algorithm keeps it (ITU-T I.371, annex A)."""

from collections.abc import Callable


class MessageRate:
    """The allowance of one direction of one socket: `burst` messages at once, then `rate` per second."""

    __slots__ = ("_clock", "_interval", "_refilled_at", "_tolerance")

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._interval = 1 / rate
        """Seconds after which a message is allowed again."""
        self._tolerance = (burst - 1 + 1e-6) / rate
        """How far ahead of the rate the sender may be. A millionth of a message forgives the rounding of sums of times."""
        self._refilled_at = clock()
        """Time at which nothing of the burst is used any more."""

    def take(self) -> bool:
        """Take the allowance of one message; False: there is none, and none is taken."""
        now = self._clock()
        ahead = self._refilled_at - now
        if ahead > self._tolerance:
            return False
        self._refilled_at = (self._refilled_at if ahead > 0.0 else now) + self._interval
        return True
