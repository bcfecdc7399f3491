"""Clients that never stop asking beside innocents: they cut nobody's socket, and the watchdog kills no worker that works."""

import asyncio

import aiohttp
from e2e.harness import HOST, Hub, backend, config, get, ok, proxy

from benchmarks.programs import program
from proxy.processes.worker_pool import HANG_SECONDS

INNOCENT = 50
SECONDS = int(HANG_SECONDS) + 3


async def test_clients_that_pipeline_for_ever_cut_no_socket_of_their_worker(hub: Hub) -> None:
    async with (
        asyncio.timeout(SECONDS + 45),
        backend() as port,
        proxy(hub, "--workers", "1") as one,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        hub.publish(config(port))
        await one.ready()
        before = one.workers()
        sockets = [await session.ws_connect(f"http://127.0.0.1:{one.http}/ws", headers={"Host": HOST}) for _ in range(INNOCENT)]
        greedy = await asyncio.create_subprocess_exec(
            *(str(await asyncio.to_thread(program, "greedy")), "missing", str(one.http), "0", "8", str(SECONDS)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert greedy.stdout is not None
        assert await greedy.stdout.readline() == b"open\n"
        said = asyncio.create_task(greedy.communicate(b"\n"))
        rounds = 0
        while not said.done():
            for number, socket in enumerate(sockets):
                await socket.send_str(str(number))
                assert await socket.receive_str() == str(number)
            assert ok(await get(one.http))
            rounds += 1
            await asyncio.wait([said], timeout=0.1)
        answers, of_another_status, cut = map(int, (await said)[0].split())
        after = one.workers()
        _, metrics = await one.ask("/metrics")

    assert after == before
    assert rounds > SECONDS  # each was done within a second, about, though nobody else would have had a turn in all that time
    assert answers > 10_000
    assert (of_another_status, cut) == (0, 0)
    assert "sluice_worker_restarts_total 0.0" in metrics
