# Compiled by mypyc: see setup.py.
"""Outlier detection of one endpoint, from its connections and answers. Pure; pool.py acts on it.

Nothing is asked of an endpoint. One that fails again and again is left out for a while that grows, then tried again: one failed
attempt to connect is enough then to leave it out once more, or an error in each of several networks.

Clients can provoke failures: a subprotocol that the backend does not take, a path that answers 500, or nothing for a minute. So
the word of one counts only where it cannot be its doing: for attempts to connect. What came after a byte of a request was sent
counts where clients of several networks met it, one failure after the other, and while no client of another network was served.
That holds even where an attacker has those networks and the endpoint serves others well.
"""

from typing import Final

CONNECT_FAILURES: Final = 3
"""Attempts in a row that were refused or timed out, of all clients."""
ERRORS: Final = 5
"""Answers in a row of 500 and above, or none that is one (Envoy's outlier detection: consecutive_5xx)."""
NETWORKS: Final = 3
"""Networks whose clients must have met them,"""
WITHIN: Final = 10.0
"""in so many seconds, in which no other network's client was served."""
REMEMBERED: Final = 8
"""Networks that were served last and are known by name; of those before them only when the last of them was."""
SUCCESSES_PER_SECOND: Final = 8
"""Good answers that are looked at in a second while nothing is held against an endpoint. Of one that has few, all are."""
FIRST_SECONDS = 10.0
"""How long an endpoint is left out at first (nginx: fail_timeout); twice that each time."""
MOST_SECONDS: Final = 300.0
"""And at most (Envoy: max_ejection_time)."""

_NEVER: Final = float("-inf")


class OutlierDetection:
    """The record of one endpoint. Times are the loop's; a network is some bytes, equal for all its clients."""

    __slots__ = (
        "_ejections",
        "_errors",
        "_failing_networks",
        "_failures",
        "_forgotten",
        "_readmitted",
        "_seconds",
        "_served_networks",
        "_successes",
        "_window",
        "ejected",
        "successes_from",
        "suspect",
    )

    def __init__(self) -> None:
        self.ejected = False
        """It is left out now."""
        self.suspect = False
        """Something is held against it: all good answers are worth reporting."""
        self.successes_from = 0.0
        """When good answers are worth reporting: from then on. Looked at on the hot path."""
        self._failures = 0
        self._errors = 0
        self._failing_networks: dict[bytes, float] = {}
        """The last `NETWORKS` that met the errors of this row, and when last, in that order."""
        self._served_networks: dict[bytes, float] = {}
        """The last `REMEMBERED` that were served and met no error since, and when last, in that order."""
        self._forgotten = _NEVER
        """When the last was served of those that are no longer among these."""
        self._window = 0.0
        self._successes = 0
        self._ejections = 0
        self._seconds = 0.0
        self._readmitted = 0.0

    def record_connect_failure(self) -> bool:
        """Record an attempt to connect that failed; True: the endpoint is to be ejected."""
        self._suspect()
        self._failures += 1
        return not self.ejected and self._failures >= CONNECT_FAILURES

    def record_error(self, network: bytes, now: float) -> bool:
        """Record an answer of 500 and above, or none; True: the endpoint is to be ejected."""
        self._suspect()
        self._errors += 1
        self._served_networks.pop(network, None)
        failing = self._failing_networks
        failing.pop(network, None)
        failing[network] = now
        if len(failing) > NETWORKS:
            del failing[next(iter(failing))]
        return not self.ejected and self._errors >= ERRORS and self._networks_agree(now - WITHIN)

    def _networks_agree(self, since: float) -> bool:
        """Tell whether enough networks have met errors since then, and no other was served."""
        failing, served = self._failing_networks, self._served_networks
        if len(failing) < NETWORKS or next(iter(failing.values())) <= since or self._forgotten > since:
            return False
        return not served or next(reversed(served.values())) <= since

    def record_success(self, network: bytes, now: float) -> None:
        """Record an answer below 500, or a socket that opened. Needed from `successes_from` on."""
        self._failures = 0
        self._errors = 0
        self._failing_networks.clear()
        served = self._served_networks
        if served.pop(network, _NEVER) == _NEVER and len(served) == REMEMBERED:
            self._forgotten = served.pop(next(iter(served)))
        served[network] = now
        if not self.ejected and now - self._readmitted >= self._seconds:
            self._ejections = 0
            self.suspect = False
            if now - self._window >= 1.0:
                self._window, self._successes = now, 0
            self._successes += 1
            # Few, so that a busy endpoint's good answers cost nothing; yet who was served before the first error is known.
            self.successes_from = self._window + 1.0 if self._successes >= SUCCESSES_PER_SECOND else 0.0

    def _suspect(self) -> None:
        self.suspect = True
        self.successes_from = 0.0

    def eject(self) -> float:
        """Leave it out; return for how many seconds."""
        self.ejected = True
        self._suspect()
        self._seconds = min(FIRST_SECONDS * 2**self._ejections, MOST_SECONDS)
        self._ejections = min(self._ejections + 1, 16)
        return self._seconds

    def readmit(self, now: float) -> None:
        """Try it again, on probation."""
        self.ejected = False
        self._readmitted = now
        self._failures = CONNECT_FAILURES - 1
        self._errors = ERRORS - 1
