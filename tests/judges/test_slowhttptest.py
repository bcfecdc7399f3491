"""slowhttptest against the real proxy: others are served all along, and nothing of the attack stays."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from e2e.harness import Hub, backend, config, get, proxy

CONNECTIONS = 300
SECONDS = 6

ATTACKS = {
    "slow headers": ("-H", "-i", "1", "-x", "24", "-t", "GET"),
    "slow body": ("-B", "-i", "1", "-s", "8192", "-x", "10", "-t", "POST"),
    "slow read": ("-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3"),
}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    made = Hub(tmp_path / "control.sock")
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize("name", ATTACKS)
async def test_f1_f2_attack_holds_up_nobody_and_leaves_nothing(hub: Hub, tmp_path: Path, name: str) -> None:
    limits = ("--header-timeout", "2s", "--keepalive-timeout", "2s", "--close-wait", "1s")
    async with backend(b"x" * 200_000) as port, proxy(hub, "--workers", "1", *limits) as one:
        hub.publish(config(port, host="127.0.0.1"))
        await one.ready()
        (worker,) = one.workers()
        await get(one.http, host="127.0.0.1")
        attack = await asyncio.create_subprocess_exec(
            *("slowhttptest", *ATTACKS[name], "-c", str(CONNECTIONS), "-r", str(CONNECTIONS), "-l", str(SECONDS), "-p", "3"),
            *("-u", f"http://127.0.0.1:{one.http}/"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        served = 0
        loop = asyncio.get_running_loop()
        while attack.returncode is None:
            start = loop.time()
            answer = await get(one.http, host="127.0.0.1", seconds=5)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert loop.time() - start < 1.0
            served += 1
            try:
                await asyncio.wait_for(attack.wait(), 0.1)
            except TimeoutError:
                continue
        async with asyncio.timeout(15):
            # Connections to the backend may be kept; the attacker's must all be gone.
            while 'sluice_connections{listener="http"} 0.0' not in (await one.ask("/metrics"))[1]:
                await asyncio.sleep(0.05)

        assert served > SECONDS
        assert one.workers() == [worker]
