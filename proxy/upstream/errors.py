"""Failures of backends, as they happen: counted by Service and cause, and logged, the first of a kind at once.

A kind is a Service and a cause. Repeats within a minute are counted, and one line says how many there were; a kind without any for
a minute is forgotten, so that no more is remembered than failed in the last one.
"""

import logging

from proxy.http.causes import UPSTREAM
from proxy.http.message import Failure
from proxy.observability.access_log import escape
from proxy.observability.worker_stats import ServiceStats
from proxy.transport.timer_wheel import Deadline, TimerWheel

QUIET_SECONDS = 60.0
"""How long a kind is not said again."""
MAX_KINDS = 256
"""Kinds that are told apart; others are said by their cause alone, as of Service `*`."""
_ID_SHOWN = 64
"""Characters of a request id that are shown; a trusted peer chooses it."""

_log = logging.getLogger("sluice.upstream")


class TlsHandshakeError(ConnectionError):
    """An endpoint took the connection, but TLS with it failed. Here, as modules that are compiled may have no such class."""


class TlsHandshakeTimeoutError(TimeoutError):
    """An endpoint took the connection, and TLS with it was not ready in time."""


class UpstreamErrors:
    """The errors of one worker's backends."""

    __slots__ = ("_kinds", "_quiet", "_wheel")

    def __init__(self, wheel: TimerWheel, quiet: float = QUIET_SECONDS) -> None:
        self._wheel = wheel
        self._quiet = quiet
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def record(self, stats: ServiceStats, failure: Failure, request_id: str) -> None:
        """Count and log a request that failed, if its backend caused that."""
        cause = failure.cause
        if cause not in UPSTREAM:
            return
        stats.failed(cause)
        key = (stats.key, cause)
        known = self._kinds.get(key)
        if known is None and len(self._kinds) >= MAX_KINDS:
            key = ("*", cause)
            known = self._kinds.get(key)
        if known is not None:
            known.repeats += 1
            known.endpoint = failure.endpoint
            return
        shown = escape(request_id[:_ID_SHOWN])
        _log.warning(
            'service=%s endpoint="%s" cause=%s status=%d id="%s" %s',
            *(stats.key, failure.endpoint, cause, failure.status, shown, UPSTREAM[cause]),
        )
        kind = self._kinds[key] = _Kind(self, key)
        self._wheel.schedule(kind.deadline, self._quiet)

    def report_repeats(self, kind: "_Kind") -> None:
        """Log how many repeats there were in the time that is over, or forget the kind."""
        service, cause = kind.key
        if not kind.repeats:
            del self._kinds[kind.key]
            self._wheel.cancel(kind.deadline)
            return
        _log.warning(
            'service=%s endpoint="%s" cause=%s more=%d in the last %g s, the last of them at this endpoint: %s',
            *(service, kind.endpoint, cause, kind.repeats, self._quiet, UPSTREAM[cause]),
        )
        kind.repeats = 0
        self._wheel.schedule(kind.deadline, self._quiet)


class _Kind:
    """One kind of error that was said less than a minute ago."""

    __slots__ = ("_errors", "deadline", "endpoint", "key", "repeats")

    def __init__(self, errors: UpstreamErrors, key: tuple[str, str]) -> None:
        self.key = key
        self.endpoint = ""
        self.repeats = 0
        """Requests that failed so since it was said last."""
        self._errors = errors
        self.deadline = Deadline(self._quiet_passed)

    def _quiet_passed(self) -> None:
        self._errors.report_repeats(self)
