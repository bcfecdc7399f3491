"""A real `sluice-proxy` as it starts and as it shows itself: readiness, the admin port, its log."""

import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from e2e.harness import Hub, backend, config, get, ok, proxy, until

from proxy.model.wire import ProblemReport, Report


async def test_start_without_configuration_refuses_connections_and_is_not_ready(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        before, _ = await one.ask("/readyz")
        with pytest.raises(ConnectionRefusedError):
            await get(one.http)
        hub.publish(config(port))
        acknowledged = await hub.acknowledged()
        after, _ = await one.ask("/readyz")
        answer = await get(one.http)

    assert (before, after, acknowledged.rejected) == (503, 200, {})
    assert ok(answer)


async def test_problems_and_routes_are_shown_on_the_admin_port(hub: Hub) -> None:
    problem = ProblemReport("Ingress", "default", "shop", "PortNotFound", "spec: a sentence.", "spec")
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        note = ProblemReport("Secret", "default", "unnamed", "SecretInvalid", "data: a note.", "data", note=True)
        hub.publish(config(port), Report(problems=(problem, note), objects=3))
        await hub.acknowledged()
        _, problems = await one.ask("/problems")
        _, routes = await one.ask("/routes")
        _, metrics = await one.ask("/metrics")

    assert [(one["message"], one["note"]) for one in json.loads(problems)] == [
        ("spec: a sentence.", False),
        ("data: a note.", True),
    ]
    assert f'"port": {port}' in routes
    assert 'sluice_problems{reason="PortNotFound"} 1.0' in metrics
    assert "SecretInvalid" not in metrics


async def test_port_in_use_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "--control-socket", str(tmp_path / "none"), "--https", f"127.0.0.1:{port}"),
            *("--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(20):
            _, errors = await process.communicate()

    assert process.returncode == 1
    assert errors.decode() == f"sluice-proxy: Port {port} is in use; --https or SLUICE_HTTPS moves it.\n"


@pytest.mark.parametrize("why", ["nobody reads", "disk full"])
async def test_log_that_takes_nothing_stops_neither_workers_nor_supervisor(hub: Hub, why: str) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    if why == "disk full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    async with backend() as port, proxy(hub, "--workers", "1", stderr=writer) as one:
        os.close(writer)
        hub.publish(config(port))
        await one.ready()
        for number in range(60):  # a line each in the worker's log and in the supervisor's
            hub.publish(config(port, host=f"h{number}.example.com"))
            await hub.acknowledged()
        (worker,) = one.workers()
        os.kill(worker, signal.SIGKILL)
        await until(lambda: one.workers() not in ([], [worker]))
        answer = await get(one.http, host="h59.example.com")
        health = await one.ask("/healthz")
    os.close(reader)

    assert ok(answer)
    assert health[0] == 200
