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
from controller.process.malloc import keep_little
from controller.publish.hub import Hub
from controller.publish.server import serve
from controller.reconciler import Reconciler
from controller.resources.reading.problems import Problem
from controller.settings import Settings, translate_settings
from controller.sources.folder import FolderError, FolderSource
from controller.sources.inotify import FolderWatch

_log = logging.getLogger("sluice.controller")
MOST_SAID = 20
"""Problems that are said after one change; /problems of the admin port has all of them."""


class Teller:
    """Says what is wrong with the objects, each problem when it appears: without a cluster there are no conditions to read.

    `note`: what it is told are notes.
    """

    def __init__(self, *, note: bool = False) -> None:
        self._known: tuple[Problem, ...] = ()
        self._level, self._what = (logging.INFO, "notes") if note else (logging.WARNING, "problems")

    def tell(self, problems: tuple[Problem, ...]) -> None:
        """Say which of the problems are new, and how many of those that were said are over."""
        if problems == self._known:
            return
        known, present = set(self._known), set(problems)
        self._known = problems
        fresh = sorted(present - known)
        for problem in fresh[:MOST_SAID]:
            _log.log(self._level, "reason=%s %s: %s", problem.reason, problem.ref, problem.message)
        if len(fresh) > MOST_SAID:
            _log.log(self._level, "%s=%d more, which /problems of the admin port lists", self._what, len(fresh) - MOST_SAID)
        if over := len(known - present):
            _log.info("%s=%d solved=%d", self._what, len(present), over)


async def run_standalone(folder: Path, settings: Settings, proxy: ForkedProxy) -> int:
    """Serve a folder until SIGTERM or SIGINT; return the exit code, the proxy's own where it ended by itself."""
    keep_little()
    with FolderWatch(folder) as watch:
        return await _serve(FolderSource(folder), watch, settings, proxy)


async def _serve(source: FolderSource, watch: FolderWatch, settings: Settings, proxy: ForkedProxy) -> int:
    try:
        await source.refresh()
    except FolderError as error:
        print(error, file=sys.stderr)  # noqa: T201  a message for whoever typed the command
        return 2
    hub = Hub()
    teller, noter = Teller(), Teller(note=True)

    def built() -> None:
        # The reconciler says itself what is wrong with the default certificate.
        teller.tell(tuple(problem for problem in reconciler.problems if problem.field != "--default-certificate"))
        if reconciler.last is not None:
            noter.tell(reconciler.last.notes)

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
    """Hand signals on to the proxy and wait for it; it drains before it ends.

    A terminal that is closed is a request to end, unless somebody has asked that it be none (nohup(1)).
    """
    loop = asyncio.get_running_loop()
    asked = False

    def hand_on(number: signal.Signals) -> None:
        nonlocal asked
        asked = True
        proxy.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hand_on, number)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, hand_on, signal.SIGTERM)
    code = await proxy.wait()
    if not asked and code not in (1, 2):
        print(f"The proxy ended by itself with code {code}; its own lines say why.", file=sys.stderr)  # noqa: T201  as above
    return code if code >= 0 else 128 - code


async def _watch(source: FolderSource, watch: FolderWatch, reconciler: Reconciler) -> None:
    away = False
    while True:
        try:
            changed = await source.refresh(await watch.heard())
        except FolderError as error:
            # Nothing that was served is lost because the folder is away for a moment, as it is while a mount is replaced.
            if not away:
                _log.warning("folder=%s %s", os.fspath(source.folder), error)
            away = True
        else:
            away = False
            if changed:
                reconciler.poke(urgent=source.only_endpoints)
