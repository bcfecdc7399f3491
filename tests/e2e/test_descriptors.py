"""A worker near the limit of its descriptors: what is open goes on, and the rest waits."""

import asyncio
import resource
from pathlib import Path

from e2e.harness import HOST, Hub, backend, config, get, ok, proxy, until


async def test_descriptors_run_out_pauses_accepting_and_ends_no_worker(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port))
        await one.ready()
        (worker,) = one.workers()
        used = _descriptors(worker)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 8, used + 8))
        silent = [await asyncio.open_connection("127.0.0.1", one.http) for _ in range(30)]
        await until(lambda: _descriptors(worker) >= used + 8)
        for _, writer in silent:
            writer.close()
        answer = await get(one.http)
        after = one.workers()

    assert ok(answer)
    assert after == [worker]


async def test_connections_wait_from_nine_tenths_of_the_descriptors_on_and_what_is_open_goes_on(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1", descriptors=200) as one:
        hub.publish(config(port))
        await one.ready()
        (worker,) = one.workers()
        first = await asyncio.open_connection("127.0.0.1", one.http)
        crowd = [await asyncio.open_connection("127.0.0.1", one.http) for _ in range(220)]
        await until(lambda: _descriptors(worker) >= 180)
        waiting = await asyncio.open_connection("127.0.0.1", one.http)
        waiting[1].write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        first[1].write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        async with asyncio.timeout(10):
            served = await first[0].readuntil(b"hello")
        health = await one.ask("/healthz")
        metrics = await one.ask("/metrics")
        most = _descriptors(worker)
        for _, writer in crowd:
            writer.close()
        async with asyncio.timeout(10):
            later = await waiting[0].readuntil(b"hello")
        for _, writer in (first, waiting):
            writer.close()
        after = one.workers()

    assert served.startswith(b"HTTP/1.1 200 ")
    assert later.startswith(b"HTTP/1.1 200 ")
    assert (health[0], metrics[0]) == (200, 200)
    assert most <= 190
    assert after == [worker]


async def test_soft_limit_of_descriptors_is_raised_at_start(hub: Hub) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
    try:
        async with backend() as port, proxy(hub, "--workers", "1") as one:
            hub.publish(config(port))
            await one.ready()
            (worker,) = one.workers()
            found = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert found == (hard, hard)


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
