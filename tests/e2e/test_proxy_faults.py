"""Real `sluice-proxy` processes under faults: stalls, slow readers of endless answers, endpoints that fail, churn."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from e2e.harness import Hub, backend, config, get, proxy


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path / "control.sock")
    await hub.start()
    yield hub
    await hub.stop()


def ok(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\nhello")


def lags_over(metrics: str, bound: str) -> float:
    """How many turns of a worker's loop came later than a bucket's bound."""
    counts = {
        found[1]: float(found[2])
        for found in re.finditer(r'^sluice_worker_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', metrics, re.MULTILINE)
    }
    return counts["+Inf"] - counts[bound]


@pytest.mark.parametrize("stall", [0.2, 0.5])
async def test_j6_stall_of_the_loop_is_seen_and_nobody_loses_an_answer(hub: Hub, stall: float) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port))
        await one.ready()
        (worker,) = one.workers()
        before = lags_over((await one.ask("/metrics"))[1], "0.05")
        os.kill(worker, signal.SIGSTOP)
        waiting = [asyncio.create_task(get(one.http)) for _ in range(20)]
        health, _ = await one.ask("/healthz")
        await asyncio.sleep(stall)  # this is the stall
        os.kill(worker, signal.SIGCONT)
        answers = await asyncio.gather(*waiting)
        after = lags_over((await one.ask("/metrics"))[1], "0.05")
        workers = one.workers()

    assert after > before
    assert health == 200
    assert all(ok(answer) for answer in answers)
    assert workers == [worker]


async def test_g5_endpoint_that_is_left_out_is_shown_as_such_on_the_admin_port(hub: Hub) -> None:
    async with backend() as good, proxy(hub, "--workers", "2") as one:
        async with backend() as gone:
            pass
        hub.publish(config(good, others=(gone,)))
        await one.ready()
        async with asyncio.timeout(20):
            while True:
                assert ok(await get(one.http))
                (route,) = json.loads((await one.ask("/routes"))[1])
                (shown,) = route["http"]["backends"]
                left_out = {endpoint["port"]: endpoint["ejected_by"] for endpoint in shown["endpoints"]}
                if left_out[gone] == 2:
                    break

    assert left_out == {good: 0, gone: 2}


@pytest.mark.parametrize("how", ["flag", "variable"])
async def test_log_level_says_which_lines_are_written(hub: Hub, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for level in ("info", "error"):
        if how == "variable":
            monkeypatch.setenv("SLUICE_LOG_LEVEL", level)
        async with (
            backend() as port,
            proxy(hub, *(("--log-level", level) if how == "flag" else ()), stderr=asyncio.subprocess.PIPE) as one,
        ):
            hub.publish(config(port))
            await one.ready()
            one.process.terminate()
            async with asyncio.timeout(20):
                _, errors = await one.process.communicate()
            written.append(b" INFO " in errors)

    assert written == [True, False]
