"""The controller's one loop: something changed, wait until it is quiet, translate, publish, log one line.

The first change after a quiet time is built at once; a burst is taken together, for at most half a second. Changes of endpoints
never wait for that: new connections must not go to a pod that is ending.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable

from controller.publish.hub import Hub
from controller.resources.reading.problems import Problem
from controller.sources.certificate_dates import CertificateDates
from controller.sources.snapshot import SourceSnapshot
from controller.translate import IncrementalState, TranslateSettings, Translation, translate
from controller.translate.certificates import check_default
from proxy.model.wire import ProblemReport, Report

_log = logging.getLogger("sluice.controller")
QUIET = 0.1
"""Seconds without a change that end a burst."""
LONGEST = 0.5
"""Seconds that a burst may put a build off."""
URGENT = 0.02
"""Seconds between builds while urgent changes keep coming: a hundred a second make fifty builds."""
CLOCK_CHECK_SECONDS = 600.0
"""How often the clock is read at least, for certificates that end: it may have been set."""


class Reconciler:
    """Builds and publishes. `read_source` returns the source's snapshot and the problems of the source itself."""

    def __init__(
        self,
        read_source: Callable[[], tuple[SourceSnapshot, tuple[Problem, ...]]],
        settings: TranslateSettings,
        hub: Hub,
        built: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._read_source = read_source
        self._settings = settings
        self._hub = hub
        self._built = built
        """Called after every build."""
        self._clock = clock
        """Unix time, for the dates of certificates."""
        self._dates = CertificateDates()
        self._state = IncrementalState()
        self._dirty = asyncio.Event()
        self._urgent = False
        self._objects = False
        """Something else than what is urgent changed."""
        self._observed_at = 0.0
        self._default_problem: Problem | None = None
        """What was last logged of the default certificate."""
        self.last: Translation | None = None
        """The last translation."""
        self.problems: tuple[Problem, ...] = ()
        """Of the last build, of the source itself and of its objects."""

    def poke(self, *, urgent: bool = False) -> None:
        """Have a build done, as something changed. `urgent`: it does not wait for the end of a burst."""
        self._observed_at = time.monotonic()
        self._urgent |= urgent
        self._objects |= not urgent
        self._dirty.set()

    async def run(self) -> None:
        """Build whenever something changed, until cancelled."""
        quiet_since = 0.0
        while True:
            await self._wait_for_change()
            now = time.monotonic()
            if now - quiet_since < QUIET:
                await self._debounce(now)
            if (early := quiet_since + URGENT - time.monotonic()) > 0:
                await asyncio.sleep(early)
            self._dirty.clear()
            endpoints_only = self._urgent and not self._objects
            self._urgent = self._objects = False
            try:
                # Endpoints alone change all the time; a build with objects in it is logged.
                self.build(level=logging.DEBUG if endpoints_only else logging.INFO)
            except Exception:  # noqa: BLE001  our bug must not take the configuration away, nor what is built after the next change
                _log.exception("the change is not served; the configuration before it stays")
                self._state = IncrementalState()
            quiet_since = time.monotonic()

    async def _wait_for_change(self) -> None:
        """Wait until something changed, or a certificate begins or ends."""
        while not self._dirty.is_set():
            left = self._dates.next_change - self._clock()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, CLOCK_CHECK_SECONDS) if left < math.inf else None):
                    await self._dirty.wait()

    async def _debounce(self, start: float) -> None:
        """Wait until nothing changes for a while, or a burst has lasted long enough."""
        while not self._urgent and time.monotonic() - start < LONGEST:
            self._dirty.clear()
            try:
                async with asyncio.timeout(min(QUIET, LONGEST - (time.monotonic() - start))):
                    await self._dirty.wait()
            except TimeoutError:
                return

    def build(self, *, level: int = logging.INFO) -> None:
        """Translate what is known now and publish it if it differs; `level`: of its line in the log."""
        start = time.perf_counter()
        source_snapshot, source_problems = self._read_source()
        snapshot = self._dates.check(source_snapshot, self._clock())
        translation = translate(snapshot, self._settings, self._state)
        self.last = translation
        problems = self.problems = (*source_problems, *translation.problems)
        reports = (*_reports(problems), *_reports(translation.notes, note=True))
        report = Report(reports, snapshot.objects, self._observed_at, translation.classless)
        if self._hub.publish(translation.config, report):
            _log.log(
                level,
                "objects=%d routes=%d problems=%d milliseconds=%.1f%s",
                snapshot.objects,
                len(translation.config.routes),
                len(problems),
                (time.perf_counter() - start) * 1000,
                _by_reason(problems),
            )
        self._log_default_certificate(snapshot)
        self._built()

    def _log_default_certificate(self, snapshot: SourceSnapshot) -> None:
        """Log once what is wrong with the default certificate, which has no object with a status."""
        before = self._default_problem
        problem = check_default(self._settings.default_certificate, snapshot.secrets, snapshot.malformed)
        if problem == before:
            return
        self._default_problem = problem
        if problem is not None:
            _log.warning("reason=%s %s", problem.reason, problem.message)
        else:
            _log.info('--default-certificate: Secret "%s" is served', self._settings.default_certificate)

    def publish_report(self) -> None:
        """Publish the problems of the source, without a configuration."""
        _, source_problems = self._read_source()
        self._hub.publish_report(Report(_reports(source_problems), 0, 0.0))


def _reports(problems: Iterable[Problem], *, note: bool = False) -> tuple[ProblemReport, ...]:
    return tuple(
        ProblemReport(
            *(problem.ref.kind, problem.ref.namespace, problem.ref.name, problem.reason, problem.message, problem.field), note=note
        )
        for problem in problems
    )


def _by_reason(problems: Iterable[Problem]) -> str:
    counts = Counter(problem.reason for problem in problems)
    return "".join(f" {reason}={count}" for reason, count in sorted(counts.items()))
