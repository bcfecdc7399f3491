"""Passive health of one endpoint: what its connections and answers say about it. Pure; who acts on it is pool.py.

Nothing is asked of an endpoint. One that fails again and again is left out for a while that grows, then tried again: the first
failure after that is enough to leave it out once more.
"""

CONNECT_FAILURES = 3
"""Attempts in a row that were refused or timed out."""
ERRORS = 5
"""Answers in a row of 500 and above, or none at all (Envoy's outlier detection: consecutive_5xx)."""
FIRST_SECONDS = 10.0
"""How long an endpoint is left out at first (nginx: fail_timeout); twice that each time."""
MOST_SECONDS = 300.0
"""And at most (Envoy: max_ejection_time)."""


class Health:
    """What is known of one endpoint."""

    __slots__ = ("_errors", "_failures", "_readmitted", "_seconds", "_times", "ejected", "marked")

    def __init__(self) -> None:
        self.ejected = False
        """It is left out now."""
        self.marked = False
        """Something is held against it: good answers are worth reporting. Looked at on the hot path."""
        self._failures = 0
        self._errors = 0
        self._times = 0
        self._seconds = 0.0
        self._readmitted = 0.0

    def refused(self) -> bool:
        """Take note of an attempt to connect that failed; True: it is to be left out."""
        self.marked = True
        self._failures += 1
        return not self.ejected and self._failures >= CONNECT_FAILURES

    def answered(self, status: int, now: float) -> bool:
        """Take note of an answer; 502 and 504 stand for none. True: it is to be left out."""
        self._failures = 0
        if status >= 500:
            self.marked = True
            self._errors += 1
            return not self.ejected and self._errors >= ERRORS
        self._errors = 0
        if not self.ejected and now - self._readmitted >= self._seconds:
            self._times = 0
            self.marked = False
        return False

    def eject(self) -> float:
        """Leave it out; return for how many seconds."""
        self.ejected = self.marked = True
        self._seconds = min(FIRST_SECONDS * 2**self._times, MOST_SECONDS)
        self._times = min(self._times + 1, 16)
        return self._seconds

    def readmit(self, now: float) -> None:
        """Try it again, on probation."""
        self.ejected = False
        self._readmitted = now
        self._failures = CONNECT_FAILURES - 1
        self._errors = ERRORS - 1
