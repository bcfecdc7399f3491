"""`sluice standalone`: the controller with a folder as its source, and the proxy as its only child."""

import asyncio
import gc
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

from controller.process.forked_proxy import ForkedProxy
from controller.process.malloc import return_freed_memory
from controller.publish.hub import Hub
from controller.publish.server import serve
from controller.reconciler import Reconciler
from controller.resources.reading.problems import Problem
from controller.settings import Settings, translate_settings
from controller.sources.folder import FolderError, FolderSource
from controller.sources.inotify import FolderWatch

_log = logging.getLogger("sluice.controller")
MOST_LOGGED = 20
"""Problems that are logged after one change; /problems of the admin port has all of them."""


class ProblemLog:
    """Logs what is wrong with the objects, each problem when it appears: without a cluster there are no conditions to read.

    `note`: the problems are notes.
    """

    def __init__(self, *, note: bool = False) -> None:
        self._known: tuple[Problem, ...] = ()
        self._level, self._what = (logging.INFO, "notes") if note else (logging.WARNING, "problems")

    def log(self, problems: tuple[Problem, ...]) -> None:
        """Log those that are new, and how many of those before are solved."""
        if problems == self._known:
            return
        known, present = set(self._known), set(problems)
        self._known = problems
        new = sorted(present - known)
        for problem in new[:MOST_LOGGED]:
            _log.log(self._level, "reason=%s %s: %s", problem.reason, problem.ref, problem.message)
        if len(new) > MOST_LOGGED:
            _log.log(self._level, "%s=%d more, which /problems of the admin port lists", self._what, len(new) - MOST_LOGGED)
        if solved := len(known - present):
            _log.info("%s=%d solved=%d", self._what, len(present), solved)


async def run_standalone(folder: Path, settings: Settings, proxy: ForkedProxy) -> int:
    """Serve a folder until SIGTERM or SIGINT; return the exit code, the proxy's own where it ended by itself."""
    return_freed_memory()
    with FolderWatch(folder) as watch:
        return await _serve(FolderSource(folder), watch, settings, proxy)


async def _serve(source: FolderSource, watch: FolderWatch, settings: Settings, proxy: ForkedProxy) -> int:
    try:
        await source.refresh()
    except FolderError as error:
        print(error, file=sys.stderr)  # noqa: T201  a message to the user
        return 2
    hub = Hub()
    problem_log, note_log = ProblemLog(), ProblemLog(note=True)

    def built() -> None:
        # The reconciler logs itself what is wrong with the default certificate.
        problem_log.log(tuple(problem for problem in reconciler.problems if problem.field != "--default-certificate"))
        if reconciler.last is not None:
            note_log.log(reconciler.last.notes)

    reconciler = Reconciler(
        lambda: (source.snapshot, source.problems), translate_settings(settings, standalone=True), hub, built=built
    )
    reconciler.poke()
    reconciler.build()
    # What was loaded stays, and a full collection would look at all of it: of 3,000 routes that takes tens of milliseconds.
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory(prefix="sluice-") as private:
        path = Path(private) / "control.sock"
        runner = await serve(hub, path)
        try:
            proxy.start(str(path))
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(_watch(source, watch, reconciler)),
                    group.create_task(reconciler.run()),
                ]
                code = await _wait_for(proxy)
                for task in tasks:
                    task.cancel()
        finally:
            await runner.cleanup()
    return code


async def _wait_for(proxy: ForkedProxy) -> int:
    """Forward signals to the proxy and wait for its end; it drains first.

    A terminal that is closed is a request to end, unless it is ignored (nohup(1)).
    """
    loop = asyncio.get_running_loop()
    stopping = False

    def forward_signal(number: signal.Signals) -> None:
        nonlocal stopping
        stopping = True
        proxy.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, forward_signal, number)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, forward_signal, signal.SIGTERM)
    code = await proxy.wait()
    if not stopping and code not in (1, 2):
        print(f"The proxy ended by itself with code {code}; its own lines say why.", file=sys.stderr)  # noqa: T201  as above
    return code if code >= 0 else 128 - code


async def _watch(source: FolderSource, watch: FolderWatch, reconciler: Reconciler) -> None:
    away = False
    while True:
        try:
            changed = await source.refresh(await watch.wait_for_changes())
        except FolderError as error:
            # Nothing that was served is lost because the folder is away for a moment, as it is while a mount is replaced.
            if not away:
                _log.warning("folder=%s %s", os.fspath(source.folder), error)
            away = True
        else:
            away = False
            if changed:
                reconciler.poke(urgent=source.only_endpoints)
