"""Every metric of the table moves under traffic, as scrapes of a real proxy show it."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import trustme
from e2e.harness import HOST, Hub, Proxy, backend, config, get, issue, proxy, trusting, until
from prometheus_client.parser import text_string_to_metric_families

from proxy.model.config import Certificate, Endpoint, Path, ProxyConfig, Route, Share, Target, Upstream
from proxy.model.policy import Keepalive
from proxy.model.wire import ProblemReport, Report
from proxy.observability.metrics import METRICS

UPGRADE = (
    f"GET /mute HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
NOBODYS = f"GET /{'x' * 1000} HTTP/1.1\r\nHost: nobody.example.com\r\n\r\n".encode()


def everything(port: int, refusing: int, certificate: Certificate) -> ProxyConfig:
    """A route that pings its sockets, one whose endpoint refuses, one that cannot be compiled."""
    working = config(port, certificate)
    (route,) = working.routes.values()
    dead = Target((Share("default/dead:80"),))
    routes: tuple[Route, ...] = (
        msgspec.structs.replace(route, policies=(Keepalive(interval=0.3, misses=1),)),
        msgspec.structs.replace(route, id="wsroute/default/shop/dead", path=Path("prefix", "/dead"), http=dead, websocket=dead),
        msgspec.structs.replace(route, id="wsroute/default/shop/bad", path=Path("regex", "/bad(")),
    )
    upstreams = {**working.upstreams, "default/dead:80": Upstream((Endpoint("127.0.0.1", refusing),))}
    return msgspec.structs.replace(working, routes={one.id: one for one in routes}, upstreams=upstreams)


async def moved(one: Proxy) -> set[str]:
    """Names of the metrics of which a sample is not 0; a histogram moves when it observes."""
    _, text = await one.ask("/metrics")
    return {
        sample.name.removesuffix("_count") if family.type == "histogram" else sample.name
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.value and not sample.name.endswith(("_bucket", "_sum"))
    }


@contextlib.asynccontextmanager
async def mute(port: int) -> AsyncIterator[None]:
    """Open a socket that answers neither pings nor a close frame."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE)
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    try:
        yield
    finally:
        writer.transport.abort()


async def killed(one: Proxy) -> None:
    """End a proxy whose output nobody reads; what is unread keeps asyncio from seeing its end."""
    one.process.kill()
    await one.process.communicate()


async def flood(port: int) -> None:
    """Ask for more than the access log may hold while nobody reads it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(30):
        writer.write(NOBODYS * 100)
        for _ in range(100):
            assert b" 404 " in await reader.readuntil(b"serves this host and path.\n")
    writer.close()


async def test_every_metric_of_the_table_moves_under_traffic(hub: Hub) -> None:
    authority, hold = trustme.CA(), asyncio.Event()
    options = ("--workers", "1", "--access-log", "json", "--close-wait", "300ms")
    async with contextlib.AsyncExitStack() as stack:
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))  # bound and not listening: it refuses, and nobody else can have it
        port = await stack.enter_async_context(backend(hold=hold))
        one = await stack.enter_async_context(proxy(hub, *options))
        stack.push_async_callback(killed, one)
        hub.publish(
            everything(port, refusing.getsockname()[1], issue(authority, HOST)),
            Report(
                (ProblemReport("Ingress", "default", "shop", "ServiceNotFound", "It is not there."),), observed_at=time.monotonic()
            ),
        )
        await one.ready()
        (worker,) = one.workers()
        os.kill(worker, signal.SIGKILL)
        await until(lambda: one.workers() not in ([], [worker]))
        session = await stack.enter_async_context(aiohttp.ClientSession(headers={"Host": HOST}))
        stack.callback(hold.set)
        slow = asyncio.create_task(get(one.http, "/slow"))
        secure = f"https://127.0.0.1:{one.https}/"
        async with session.post(secure, data=b"body", ssl=trusting(authority), server_hostname=HOST) as answer:
            assert await answer.read() == b"hello"
        assert b" 502 " in await get(one.http, "/dead")
        held = await stack.enter_async_context(session.ws_connect(f"http://127.0.0.1:{one.http}/"))
        async with session.ws_connect(f"http://127.0.0.1:{one.http}/") as brief:
            await brief.send_str("hello")
            assert await brief.receive_str() == "hello"
        listening = asyncio.create_task(held.receive())  # answers pings
        await flood(one.http)
        async with mute(one.http):
            names = {metric.name for metric in METRICS}
            async with asyncio.timeout(20):
                while left := names - await moved(one):
                    if listening.done() or slow.done():
                        break
                    await asyncio.sleep(0.1)
        hold.set()
        await slow
        await held.close()
        await listening

    assert left == set()
