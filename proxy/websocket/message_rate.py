# Compiled by mypyc: see setup.py.
"""How often one side of a socket may send: a token bucket, as the generic cell rate algorithm keeps it (ITU-T I.371, annex A)."""

from collections.abc import Callable


class MessageRate:
    """The allowance of one direction of one socket: `burst` messages at once, then `rate` per second."""

    __slots__ = ("_clock", "_cost", "_full", "_slack")

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._cost = 1 / rate
        """Seconds after which a message is allowed again."""
        self._slack = (burst - 1 + 1e-6) / rate
        """How far ahead of the rate the sender may be. A millionth of a message forgives the rounding of sums of times."""
        self._full = clock()
        """Time at which nothing of the burst is used any more."""

    def take(self) -> bool:
        """Take the allowance of one message; False: there is none, and none is taken."""
        now = self._clock()
        ahead = self._full - now
        if ahead > self._slack:
            return False
        self._full = (self._full if ahead > 0.0 else now) + self._cost
        return True
