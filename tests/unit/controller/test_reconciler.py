"""The loop: what waits for a burst to end, what does not, and what a fault of ours costs."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator

import pytest

from controller import reconciler as module
from controller.publish.hub import Hub
from controller.reconciler import LONGEST, QUIET, Reconciler
from controller.resources import Secret, Service
from controller.resources.kinds.service import ServicePort
from controller.resources.reading.object_ref import ObjectRef
from controller.sources.snapshot import SourceSnapshot
from controller.translate import TranslateSettings
from proxy.model.sensitive import Sensitive

WAIT = 10.0


class Bench:
    """A reconciler over a snapshot that the test changes; notes when it looked."""

    def __init__(self) -> None:
        self.count = 0
        self.looks: list[float] = []
        self.hub = Hub()
        self.reconciler = Reconciler(self.look, TranslateSettings(), self.hub)
        self._looked = asyncio.Event()

    def look(self) -> tuple[SourceSnapshot, tuple[()]]:
        self.looks.append(time.monotonic())
        self._looked.set()
        refs = [ObjectRef("Service", "shop", f"s{number}") for number in range(self.count)]
        return SourceSnapshot(services={ref: Service(ref, (ServicePort("", 80),)) for ref in refs}), ()

    async def looked(self, times: int) -> None:
        async with asyncio.timeout(WAIT):
            while len(self.looks) < times:
                self._looked.clear()
                await self._looked.wait()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    task = asyncio.create_task(bench.reconciler.run())
    try:
        yield bench
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_first_change_after_quiet_is_built_at_once() -> None:
    async with running() as bench:
        start = time.monotonic()
        bench.reconciler.poke()
        await bench.looked(1)

        assert bench.looks[0] - start < QUIET / 2


async def test_burst_is_taken_together_and_the_last_change_is_in_it() -> None:
    async with running() as bench:
        bench.reconciler.poke()
        await bench.looked(1)
        for _ in range(20):
            bench.count += 1
            bench.reconciler.poke()
            await asyncio.sleep(0)
        await bench.looked(2)
        last = bench.reconciler.last

        assert bench.looks[1] - bench.looks[0] >= QUIET * 0.9
        assert len(bench.looks) == 2
        assert last is not None


@pytest.mark.slow
async def test_burst_without_an_end_is_put_off_for_half_a_second_at_most() -> None:
    async with running() as bench:
        bench.reconciler.poke()
        await bench.looked(1)
        async with asyncio.timeout(WAIT):
            while len(bench.looks) < 2:
                bench.reconciler.poke()
                await asyncio.sleep(QUIET / 10)

        assert QUIET < bench.looks[1] - bench.looks[0] < LONGEST + 2 * QUIET


async def test_endpoints_do_not_wait_for_a_burst() -> None:
    async with running() as bench:
        bench.reconciler.poke()
        await bench.looked(1)
        bench.reconciler.poke()  # a burst begins
        await asyncio.sleep(0)
        start = time.monotonic()
        bench.reconciler.poke(urgent=True)
        await bench.looked(2)

        assert bench.looks[1] - start < QUIET / 2


async def test_build_is_said_at_info_unless_endpoints_alone_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a start everything is listed together: that build is the one to be seen."""
    levels: asyncio.Queue[int] = asyncio.Queue()

    def build(_: Reconciler, *, level: int = logging.INFO) -> None:
        levels.put_nowait(level)

    monkeypatch.setattr(Reconciler, "build", build)
    async with running() as bench, asyncio.timeout(WAIT):
        bench.reconciler.poke(urgent=True)
        bench.reconciler.poke()
        together = await levels.get()
        bench.reconciler.poke(urgent=True)
        alone = await levels.get()
        bench.reconciler.poke()
        after = await levels.get()

    assert (together, alone, after) == (logging.INFO, logging.DEBUG, logging.INFO)


async def test_fault_of_ours_keeps_the_configuration_and_the_next_change_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.translate

    def fails(*_: object) -> object:
        raise ZeroDivisionError

    async with running() as bench:
        bench.reconciler.poke()
        await bench.looked(1)
        before = bench.reconciler.last
        monkeypatch.setattr(module, "translate", fails)
        bench.reconciler.poke(urgent=True)
        await bench.looked(2)
        await asyncio.sleep(0)
        assert bench.reconciler.last is before
        monkeypatch.setattr(module, "translate", real)
        bench.count = 3
        bench.reconciler.poke(urgent=True)
        await bench.looked(3)

        assert bench.reconciler.last is not None
        assert bench.reconciler.last is not before


def test_default_certificate_that_is_missing_is_said_once_and_so_is_its_coming(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sluice.controller")
    ref = ObjectRef("Secret", "edge", "wildcard")
    there = {ref: Secret(ref, b"chain", Sensitive(b"key"), math.inf)}
    snapshots = iter(SourceSnapshot(secrets=secrets) for secrets in ({}, {}, there, there, {}))
    reconciler = Reconciler(lambda: (next(snapshots), ()), TranslateSettings(default_certificate=ref.path), Hub())
    for _ in range(5):
        reconciler.build(level=logging.DEBUG)

    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    missing = (
        'reason=SecretNotFound --default-certificate: Secret "edge/wildcard" of type kubernetes.io/tls was not found, '
        "one made at start is served."
    )
    assert said == [
        ("WARNING", missing),
        ("INFO", '--default-certificate: Secret "edge/wildcard" is served'),
        ("WARNING", missing),
    ]


async def test_certificate_that_ends_is_said_when_it_does_though_nothing_changed() -> None:
    ref = ObjectRef("Secret", "shop", "tls")
    secret = Secret(ref, b"chain", Sensitive(b"key"), 1000.0, (), 0.0)
    snapshot = SourceSnapshot(secrets={ref: secret})
    built = asyncio.Event()
    begun: list[float] = []

    def clock() -> float:
        """A fifth of a second before the end, until the first build is done."""
        return 1000.8 + (time.monotonic() - begun[0] if begun else 0)

    def done() -> None:
        begun.append(time.monotonic())
        built.set()

    settings = TranslateSettings(default_certificate=ref.path)
    reconciler = Reconciler(lambda: (snapshot, ()), settings, Hub(), built=done, clock=clock)
    reconciler.poke()
    task = asyncio.create_task(reconciler.run())
    said = []
    async with asyncio.timeout(WAIT):
        for _ in range(2):
            await built.wait()
            built.clear()
            said.append([problem.message.partition(" on ")[0] for problem in reconciler.problems])
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert said == [[], ['--default-certificate: the certificate of Secret "shop/tls" ended']]
