"""Balance over the workers of one real process: sockets move after a scale-up, and a cookie of one worker counts at the other."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import msgspec
from aiohttp import web
from e2e.harness import HOST, Hub, Proxy, config, proxy, until

from proxy.model.config import ProxyConfig, Target
from proxy.model.policy import CookieAffinity, Policy, Rebalance

SOCKETS = 60


class Chat:
    """A backend that keeps sockets and says in each answer which one it is."""

    def __init__(self) -> None:
        self.port = 0
        self.open = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(text=str(self.port))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.open += 1
        try:
            async for _ in socket:
                pass
        finally:
            self.open -= 1
        return socket


@contextlib.asynccontextmanager
async def chats(count: int) -> AsyncIterator[list[Chat]]:
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            chat = Chat()
            runner = web.ServerRunner(web.Server(chat.handle), shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            chat.port = runner.addresses[0][1]
            found.append(chat)
        yield found


def serving(ports: list[int], *policies: Policy) -> ProxyConfig:
    plain = config(ports[0], others=ports[1:])
    routes = {}
    for key, route in plain.routes.items():
        assert route.websocket is not None
        sockets = Target(route.websocket.shares, "least-connections")
        routes[key] = msgspec.structs.replace(route, policies=policies, websocket=sockets)
    return msgspec.structs.replace(plain, routes=routes)


async def visit(port: int, told: Counter[int | None]) -> None:
    """A client that comes back whenever its socket is closed."""
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.ws_connect(f"http://127.0.0.1:{port}/ws", headers={"Host": HOST}) as socket:
                async for _ in socket:
                    pass
                told[socket.close_code] += 1


async def test_sockets_of_both_workers_move_to_an_endpoint_that_was_added(hub: Hub) -> None:
    rebalance = Rebalance(1.2, 40.0)
    async with chats(3) as three, proxy(hub, "--workers", "2") as running:
        hub.publish(serving([chat.port for chat in three[:2]], rebalance))
        await running.ready()
        told: Counter[int | None] = Counter()
        clients = [asyncio.create_task(visit(running.http, told)) for _ in range(SOCKETS)]
        try:
            await until(lambda: sum(chat.open for chat in three) == SOCKETS)
            before = [chat.open for chat in three]
            hub.publish(serving([chat.port for chat in three], rebalance))
            # 1.2 times the mean of 20.
            await until(lambda: three[2].open >= 12 and max(chat.open for chat in three) <= 24, 20)
            await until(lambda: sum(chat.open for chat in three) == SOCKETS)
            after = [chat.open for chat in three]
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    assert before == [30, 30, 0]
    assert max(after) <= 24
    assert set(told) == {1012}
    assert 12 <= told[1012] <= 16


async def test_cookie_that_one_worker_set_counts_at_the_other(hub: Hub) -> None:
    async with chats(3) as three, proxy(hub, "--workers", "2") as running:
        hub.publish(serving([chat.port for chat in three], CookieAffinity("key")))
        await running.ready()
        found: Counter[str] = Counter()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            url = f"http://127.0.0.1:{running.http}/"
            for _ in range(6):
                async with session.get(url, headers={"Host": HOST}) as answer:
                    first, cookie = await answer.text(), answer.headers["Set-Cookie"].partition(";")[0]
                for _ in range(16):
                    # A connection of its own each time: the kernel gives it to either worker.
                    fields = {"Host": HOST, "Cookie": cookie, "Connection": "close"}
                    async with session.get(url, headers=fields) as answer:
                        found["same" if await answer.text() == first else "another"] += 1

    assert found == {"same": 96}


async def test_imbalance_that_is_told_is_that_of_all_workers(hub: Hub) -> None:
    async def told(one: Proxy) -> str:
        _, text = await one.ask("/metrics")
        (found,) = re.findall(r'^sluice_ws_endpoint_imbalance_ratio\{service="default/shop:80"\} (\S+)$', text, re.MULTILINE)
        return str(found)

    async with chats(2) as two, proxy(hub, "--workers", "2") as running:
        hub.publish(serving([two[0].port]))
        await running.ready()
        clients = [asyncio.create_task(visit(running.http, Counter())) for _ in range(20)]
        try:
            await until(lambda: two[0].open == 20)
            alone = await told(running)
            hub.publish(serving([chat.port for chat in two]))
            await hub.acknowledged()
            added = await told(running)
            clients += [asyncio.create_task(visit(running.http, Counter())) for _ in range(20)]
            await until(lambda: two[1].open == 20)
            even = await told(running)
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    assert (alone, added, even) == ("1.0", "2.0", "1.0")
