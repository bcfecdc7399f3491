"""Socket.IO's own server and client through the proxy: three replicas, two workers, clients that poll first and keep no cookies."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from e2e.harness import Hub, config, proxy

from proxy.model.config import ProxyConfig
from proxy.model.policy import EngineIoAffinity, Policy

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODULES = ROOT / "build" / "judges"
NODE = "/usr/bin/node"
REPLICAS, CLIENTS = 3, 200


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Install the pinned packages where they are missing or others."""
    wanted = (HERE / "node" / "package-lock.json").read_bytes()
    if not (MODULES / "made").exists() or (MODULES / "made").read_bytes() != wanted:
        shutil.copytree(HERE / "node", MODULES, dirs_exist_ok=True)
        command = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent")
        subprocess.run(command, cwd=MODULES, check=True, timeout=120)
        (MODULES / "made").write_bytes(wanted)
    return {**os.environ, "NODE_PATH": str(MODULES / "node_modules")}


@contextlib.asynccontextmanager
async def replicas(environment: dict[str, str]) -> AsyncIterator[list[int]]:
    processes = [
        await asyncio.create_subprocess_exec(
            *(NODE, str(HERE / "socketio.js"), "serve"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        for _ in range(REPLICAS)
    ]
    try:
        ports = []
        async with asyncio.timeout(20):
            for process in processes:
                assert process.stdout is not None
                ports.append(int(await process.stdout.readline()))
        yield ports
    finally:
        for process in processes:
            process.kill()
            await process.wait()


def serving(ports: list[int], *policies: Policy) -> ProxyConfig:
    plain = config(ports[0], others=ports[1:])
    routes = {key: msgspec.structs.replace(route, policies=policies, hosts=("",)) for key, route in plain.routes.items()}
    return msgspec.structs.replace(plain, routes=routes)


async def talk(port: int, environment: dict[str, str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(NODE, str(HERE / "socketio.js"), "talk", f"http://127.0.0.1:{port}", str(CLIENTS)),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    async with asyncio.timeout(40):
        out, _ = await process.communicate()
    found: dict[str, Any] = json.loads(out)
    return found


async def through(tmp_path: Path, environment: dict[str, str], *policies: Policy) -> tuple[dict[str, Any], list[int]]:
    hub = Hub(tmp_path / "control.sock")
    await hub.start()
    try:
        async with replicas(environment) as ports, proxy(hub, "--workers", "2") as running:
            hub.publish(serving(ports, *policies))
            await running.ready()
            return await talk(running.http, environment), ports
    finally:
        await hub.stop()


@pytest.mark.timeout(120)
async def test_polling_clients_without_cookies_upgrade_at_who_knows_their_session(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    found, ports = await through(tmp_path, environment, EngineIoAffinity("default"))

    assert found["errors"] == {}
    assert (found["polled"], found["upgraded"], found["echoed"]) == (CLIENTS, CLIENTS, CLIENTS)
    assert set(found["servers"]) == {str(port) for port in ports}


@pytest.mark.timeout(120)
async def test_without_affinity_the_same_clients_are_unknown(tmp_path: Path, environment: dict[str, str]) -> None:
    """What the test above proves is not there without it."""
    found, _ = await through(tmp_path, environment)

    assert any("Session ID unknown" in error for error in found["errors"])
    assert found["upgraded"] < CLIENTS
