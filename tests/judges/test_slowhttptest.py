"""slowhttptest against the real proxy: others are served all along, and nothing of the attack stays."""

import asyncio
import contextlib
import re
import statistics
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from e2e.harness import Hub, backend, config, get, proxy

CONNECTIONS = 200
SECONDS = 6
USUALLY = 0.5
"""Seconds that an innocent request takes at most in the middle of all of them: milliseconds, but for what else the machine does."""
ANSWER = b"x" * 1024 * 1024
"""More than the kernels take for a client whose window is a kilobyte."""

ATTACKS = {
    "slow headers": ("-H", "-i", "1", "-x", "24", "-t", "GET"),
    "slow body": ("-B", "-i", "1", "-s", "8192", "-x", "10", "-t", "POST"),
    "slow read": ("-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3"),
}


def connections(metrics: str) -> float:
    """How many connections to the plain port are open."""
    found = re.search(r'^sluice_connections\{listener="http"\} (\S+)$', metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


@contextlib.asynccontextmanager
async def attacking(name: str, port: int, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *("slowhttptest", *ATTACKS[name], "-c", str(CONNECTIONS), "-r", str(CONNECTIONS), "-l", str(SECONDS), "-p", "3"),
        *("-u", f"http://127.0.0.1:{port}/"),
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("name", ATTACKS)
async def test_attack_holds_up_nobody_and_leaves_nothing(hub: Hub, tmp_path: Path, name: str) -> None:
    limits = ("--header-timeout", "2s", "--keepalive-timeout", "2s", "--close-wait", "1s")
    async with backend(ANSWER) as port, proxy(hub, "--workers", "1", *limits) as one:
        hub.publish(config(port, host="127.0.0.1"))
        await one.ready()
        (worker,) = one.workers()
        await get(one.http, host="127.0.0.1")
        took: list[float] = []
        pressed = 0
        loop = asyncio.get_running_loop()
        async with attacking(name, one.http, tmp_path) as attack, asyncio.timeout(40):
            while True:
                start = loop.time()
                answer = await get(one.http, host="127.0.0.1")
                end = loop.time()
                health, _ = await one.ask("/healthz")
                held = connections((await one.ask("/metrics"))[1])
                if attack.returncode is not None:
                    break  # what was just served may have been served after the attack
                assert (answer[:13], answer[-1:], health) == (b"HTTP/1.1 200 ", b"x", 200)
                took.append(end - start)
                pressed += held > CONNECTIONS / 3
                try:
                    await asyncio.wait_for(attack.wait(), 0.1)
                except TimeoutError:
                    continue
        async with asyncio.timeout(15):
            # Connections to the backend may be kept; the attacker's must all be gone.
            while connections((await one.ask("/metrics"))[1]):
                await asyncio.sleep(0.05)

        # Served while the tool ran, and while it held its connections.
        assert (pressed > 2, attack.returncode) == (True, 0)
        assert statistics.median(took) < USUALLY
        assert one.workers() == [worker]
