# Compiled by mypyc: see setup.py.
"""How long an endpoint takes to begin its answers: a moving average that weighs the last ten seconds (peak-sensitive EWMA). Pure.

A slower answer counts at once and in full, a faster one little by little: an endpoint that stalls is avoided before many wait. The
average also fades while no request goes there, so that an endpoint which was slow once is tried again.
"""

import math
from typing import Final

TAU: Final = 10.0
"""Seconds after which what was seen weighs a third (ingress-nginx's EWMA: the same)."""
UNKNOWN: Final = 1.0
"""Seconds that an endpoint is taken to need of which no answer has come, for each request that it has already: the first one goes
there, the next ones wait and see."""


class Ewma:
    """The average of one endpoint."""

    __slots__ = ("_at", "_average")

    def __init__(self) -> None:
        self._average = 0.0
        self._at = 0.0

    def observe(self, seconds: float, now: float) -> None:
        """Add an answer that began after `seconds`; `now`: loop time."""
        if seconds >= self._average:
            self._average = seconds
        else:
            weight = math.exp((self._at - now) / TAU)
            self._average = self._average * weight + seconds * (1.0 - weight)
        self._at = now

    def cost(self, load: int, now: float) -> float:
        """Return what one more request may expect there, beside `load` others."""
        if not self._at:
            return UNKNOWN * load
        return self._average * math.exp((self._at - now) / TAU) * (load + 1)
