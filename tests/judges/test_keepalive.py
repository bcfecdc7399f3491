"""Clients and servers that people use, silent for many intervals of the proxy's pings: they stay connected and notice nothing.

An interval is a third of a second here, and what counts is how many pings were answered, not for how long.
"""

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable

import pytest
import socketio
from aiohttp import web
from judges.clients import ENVIRONMENT, NODE, SCRIPT, dialled, serve_all
from websockets.asyncio.server import serve
from wire.harness import Proxy, config_for, proxying, trusting

from proxy.model.policy import Keepalive
from proxy.observability.metrics import WS_CLOSES, WS_PING_RTT
from proxy.settings import Settings

ROUTE = "ingress/test/a/0"
PINGS = 5
LONG = 30.0
"""Seconds that a test may take on a machine that has others to serve."""


def pinging(misses: int = 20, to: str = "both") -> tuple[Keepalive]:
    """Many misses: a busy machine is no dead peer."""
    return (Keepalive(interval=0.3, misses=misses, to=to),)  # type: ignore[arg-type]


def answered(proxy: Proxy) -> int:
    histograms = proxy.runtime.stats.route(ROUTE)._histograms
    histogram = histograms[WS_PING_RTT.slot] if histograms else None
    return sum(histogram.counts) if histogram is not None else 0


async def until(state: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG):
        while not state():
            await asyncio.sleep(0.01)


def closes(proxy: Proxy) -> dict[tuple[str, str], int]:
    return proxy.runtime.stats.route(ROUTE).labelled(WS_CLOSES)


async def node(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(NODE, str(SCRIPT), *arguments, stdin=PIPE, stdout=PIPE, env=ENVIRONMENT)


async def ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def line_of(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(LONG):
        return (await process.stdout.readline()).decode().strip()


@pytest.fixture
async def ws_server() -> AsyncIterator[int]:
    process = await node("serve")
    yield int(await line_of(process))
    await ended(process)


@pytest.mark.parametrize("secure", [False, True])
async def test_ws_of_node_stays_connected_on_both_sides(ws_server: int, secure: bool) -> None:
    async with proxying(policies=pinging()) as proxy:
        proxy.serves(config_for(ws_server, *pinging()))
        url = f"wss://127.0.0.1:{proxy.tls_port}/ws" if secure else f"ws://127.0.0.1:{proxy.port}/ws"
        process = await node("listen", url, str(PINGS))
        try:
            assert await line_of(process) == "open"
            said = json.loads(await line_of(process))
        finally:
            await ended(process)
        await until(lambda: not proxy.runtime.tunnels)

        assert said == {"pings": PINGS, "echo": "still here", "code": 1000}
        assert closes(proxy) == {("1000", "client"): 1}
        assert answered(proxy) >= PINGS


@pytest.mark.parametrize("secure", [False, True])
async def test_websockets_stays_connected_on_both_sides(secure: bool) -> None:
    async with serve(serve_all, "127.0.0.1", 0, ping_interval=None) as made, proxying(policies=pinging()) as proxy:
        proxy.serves(config_for(next(iter(made.sockets)).getsockname()[1], *pinging()))
        async with dialled(proxy, secure=secure, ping_interval=None) as client:
            await until(lambda: answered(proxy) >= 2 * PINGS)
            await client.send("still here")
            async with asyncio.timeout(LONG):
                assert await client.recv() == "still here"
            # An application that pings by itself gets its own pongs and no others.
            async with asyncio.timeout(LONG):
                await (await client.ping(b"its own"))
            await client.close(4001)
        await until(lambda: not proxy.runtime.tunnels)

        assert closes(proxy) == {("4001", "client"): 1}


async def test_websockets_that_ping_more_often_than_the_proxy_are_never_asked() -> None:
    policy = Keepalive(interval=2.0, misses=1, to="both")
    async with serve(serve_all, "127.0.0.1", 0, ping_interval=0.1) as made, proxying(policies=(policy,)) as proxy:
        proxy.serves(config_for(next(iter(made.sockets)).getsockname()[1], policy))
        async with dialled(proxy, secure=False, ping_interval=0.1) as client:
            (open_socket,) = proxy.runtime.tunnels
            await until(lambda: open_socket.client.last_heard > open_socket.opened + 4.5)
            async with asyncio.timeout(LONG):
                await (await client.ping(b"its own"))
            assert answered(proxy) == 0


async def test_socket_io_stays_connected_and_keeps_its_session() -> None:
    server = socketio.AsyncServer(async_mode="aiohttp", ping_interval=60)
    server.on("say", lambda _sid, text: f"heard {text}")
    app = web.Application()
    server.attach(app)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with proxying(policies=pinging()) as proxy:
            proxy.serves(config_for(runner.addresses[0][1], *pinging()))
            client = socketio.AsyncClient(reconnection=False, ssl_verify=trusting())
            lost: list[object] = []
            client.on("disconnect", lost.append)
            await client.connect(f"http://127.0.0.1:{proxy.port}", headers={"Host": "a.test"}, transports=["websocket"])
            first = client.get_sid()
            await until(lambda: answered(proxy) >= 2 * PINGS)
            async with asyncio.timeout(LONG):
                assert await client.call("say", "still here") == "heard still here"

            assert (client.get_sid(), lost) == (first, [])
            await client.disconnect()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("secure", [False, True])
async def test_client_process_that_is_stopped_is_closed_and_counted(ws_server: int, secure: bool) -> None:
    policies = pinging(misses=2, to="client")
    async with proxying(Settings(close_wait=0.3), policies=policies) as proxy:
        proxy.serves(config_for(ws_server, *policies))
        url = f"wss://127.0.0.1:{proxy.tls_port}/ws" if secure else f"ws://127.0.0.1:{proxy.port}/ws"
        process = await node("listen", url, "1000")
        try:
            assert await line_of(process) == "open"
            await until(lambda: answered(proxy) >= 1)
            os.kill(process.pid, signal.SIGSTOP)
            await until(lambda: not proxy.runtime.tunnels)
            counted = closes(proxy)
            os.kill(process.pid, signal.SIGCONT)
            said = json.loads(await line_of(process))
        finally:
            await ended(process)

        assert counted == {("1001", "proxy:ping_timeout"): 1}
        assert (said["echo"], said["code"]) == ("", 1001)
