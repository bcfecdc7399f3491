"""The controller's one loop: something changed, wait until it is quiet, translate, publish, say one line.

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
from controller.translate import Memo, TranslateSettings, Translation, translate
from controller.translate.certificates import check_default
from proxy.model.wire import ProblemReport, Report

_log = logging.getLogger("sluice.controller")
QUIET = 0.1
"""Seconds without a change that end a burst."""
LONGEST = 0.5
"""Seconds that a burst may put a build off."""
URGENT = 0.02
"""Seconds between builds while urgent changes keep coming: a hundred a second make fifty builds."""
LOOK = 600.0
"""Seconds after which the clock is looked at, at the latest, for certificates that end: it may have been set."""


class Reconciler:
    """Builds and publishes. `look` gives what the source knows and what is wrong with the source itself."""

    def __init__(
        self,
        look: Callable[[], tuple[SourceSnapshot, tuple[Problem, ...]]],
        settings: TranslateSettings,
        hub: Hub,
        built: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._look = look
        self._settings = settings
        self._hub = hub
        self._built = built
        """Called after every build."""
        self._clock = clock
        """Unix time, for the dates of certificates."""
        self._dates = CertificateDates()
        self._memo = Memo()
        self._dirty = asyncio.Event()
        self._urgent = False
        self._objects = False
        """Something else than what is urgent changed."""
        self._observed = 0.0
        self._no_default: Problem | None = None
        """What was last said of the default certificate."""
        self.last: Translation | None = None
        """The last translation."""
        self.problems: tuple[Problem, ...] = ()
        """What was wrong at the last build, with the source itself and with its objects."""

    def poke(self, *, urgent: bool = False) -> None:
        """Take note that something changed. `urgent`: it is not to wait for the end of a burst."""
        self._observed = time.monotonic()
        self._urgent |= urgent
        self._objects |= not urgent
        self._dirty.set()

    async def run(self) -> None:
        """Build whenever something changed, until cancelled."""
        quiet_since = 0.0
        while True:
            await self._change()
            now = time.monotonic()
            if now - quiet_since < QUIET:
                await self._settle(now)
            if (early := quiet_since + URGENT - time.monotonic()) > 0:
                await asyncio.sleep(early)
            self._dirty.clear()
            endpoints_only = self._urgent and not self._objects
            self._urgent = self._objects = False
            try:
                # Endpoints alone change all the time; a build with objects in it is said.
                self.build(level=logging.DEBUG if endpoints_only else logging.INFO)
            except Exception:  # noqa: BLE001  our bug must not take the configuration away, nor what is built after the next change
                _log.exception("the change is not served; the configuration before it stays")
                self._memo = Memo()
            quiet_since = time.monotonic()

    async def _change(self) -> None:
        """Wait until something changed, or a certificate begins or ends."""
        while not self._dirty.is_set():
            left = self._dates.next_change - self._clock()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK) if left < math.inf else None):
                    await self._dirty.wait()

    async def _settle(self, start: float) -> None:
        """Wait until nothing changes for a while, or a burst has lasted long enough."""
        while not self._urgent and time.monotonic() - start < LONGEST:
            self._dirty.clear()
            try:
                async with asyncio.timeout(min(QUIET, LONGEST - (time.monotonic() - start))):
                    await self._dirty.wait()
            except TimeoutError:
                return

    def build(self, *, level: int = logging.INFO) -> None:
        """Translate what is known now and publish it if it differs; `level`: of the line that says so."""
        start = time.perf_counter()
        found, source_problems = self._look()
        snapshot = self._dates.judge(found, self._clock())
        translation = translate(snapshot, self._settings, self._memo)
        self.last = translation
        problems = self.problems = (*source_problems, *translation.problems)
        reports = (*_reports(problems), *_reports(translation.notes, note=True))
        report = Report(reports, snapshot.objects, self._observed, translation.classless)
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
        self._look_at_default(snapshot)
        self._built()

    def _look_at_default(self, snapshot: SourceSnapshot) -> None:
        """Say once what is wrong with the default certificate: it is nobody's object who would be told otherwise."""
        before = self._no_default
        wrong = check_default(self._settings.default_certificate, snapshot.secrets, snapshot.malformed)
        if wrong == before:
            return
        self._no_default = wrong
        if wrong is not None:
            _log.warning("reason=%s %s", wrong.reason, wrong.message)
        else:
            _log.info('--default-certificate: Secret "%s" is served', self._settings.default_certificate)

    def say(self) -> None:
        """Tell the proxy what is wrong with the source, without a configuration."""
        _, source_problems = self._look()
        self._hub.say(Report(_reports(source_problems), 0, 0.0))


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
