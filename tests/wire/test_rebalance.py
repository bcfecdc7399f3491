"""A second endpoint appears beside one that holds every socket: some are told to go, and come back to the new one."""

import asyncio
import contextlib

import pytest
from wire.harness import WAIT, Proxy, proxying
from wire.several import KEY, at, backends, held, serving

from proxy.model.policy import Rebalance
from proxy.observability.metrics import WS_CLOSES
from proxy.settings import Settings

SOCKETS = 8


async def stays(proxy: Proxy, told: list[bytes], opened: asyncio.Queue[str]) -> None:
    """A client: whenever its socket is closed, it answers, notes what it was told, and comes back."""
    while True:
        client, head = await held(proxy)
        await opened.put(next(line for line in head if line.startswith("X-Number")))
        first, size = await client.reader.readexactly(2)
        assert first == 0x88
        told.append(await client.reader.readexactly(size))
        await client.sends(b"\x88\x82\0\0\0\0" + told[-1][:2])
        await client.rest()
        await client.gone()


@pytest.mark.slow
async def test_sockets_move_to_an_endpoint_that_was_added_until_the_load_is_even_enough() -> None:
    settings = Settings(close_wait=0.2)
    async with proxying(settings) as proxy, backends(2) as two, contextlib.AsyncExitStack() as stack:
        policies = (Rebalance(above=1.3, rate=20.0),)
        proxy.serves(serving(at(two[0].port), policies=policies, balancing="least-connections"))
        told: list[bytes] = []
        opened: asyncio.Queue[str] = asyncio.Queue()
        tasks = [asyncio.create_task(stays(proxy, told, opened)) for _ in range(SOCKETS)]

        async def end() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        stack.push_async_callback(end)
        async with asyncio.timeout(WAIT):
            before = [await opened.get() for _ in range(SOCKETS)]
        proxy.serves(serving(*(at(one.port) for one in two), policies=policies, balancing="least-connections"))
        async with asyncio.timeout(WAIT):
            after = [await opened.get() for _ in range(3)]
        pools = proxy.runtime.upstreams[KEY].ready
        async with asyncio.timeout(WAIT):
            while sorted(pool.sockets for pool in pools) != [3, 5]:
                await asyncio.sleep(0.01)
        counted = dict(proxy.runtime.stats.route("ingress/test/a/0").labelled(WS_CLOSES))
        await end()

    assert before == ["X-Number: 0"] * SOCKETS
    assert after == ["X-Number: 1"] * 3
    assert told == [(1012).to_bytes(2, "big") + b"service restart"] * 3
    assert counted == {("1012", "proxy:rebalance"): 3}
