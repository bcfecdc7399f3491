"""Limits over the workers of one real process: under a storm of opens, after a worker's death, through changes of configuration."""

import asyncio
import contextlib
import os
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from e2e.harness import HOST, Hub, config, proxy, until

from proxy.model.config import ProxyConfig, Target
from proxy.model.policy import Connections, Policy, Rate
from proxy.websocket.handshake import accept_for

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HEAD = (
    f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
).encode()
SECONDS = 50.0

Opened = list[tuple[int, asyncio.StreamReader, asyncio.StreamWriter]]


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """A storm takes more than the usual soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Echoes:
    """A backend that takes every handshake and then says nothing; it knows how many sockets it has."""

    def __init__(self) -> None:
        self.port = 0
        self.open = 0
        self.most = 0
        self.handshakes = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.handshakes += 1
            self.open += 1
            self.most = max(self.most, self.open)
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                + accept_for(KEY).encode()
                + b"\r\n\r\n"
            )
            with contextlib.suppress(OSError):
                await reader.read()
            self.open -= 1
        writer.close()


@contextlib.asynccontextmanager
async def echoes() -> AsyncIterator[Echoes]:
    found = Echoes()
    server = await asyncio.start_server(found.take, "127.0.0.1", 0, backlog=4096)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


class Clients:
    """Clients that open sockets, all at once, and keep those that they get."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sockets: Opened = []

    async def storm(self, count: int) -> Counter[int]:
        """Connect `count` times, then send every handshake at once; give the statuses."""
        async with asyncio.timeout(SECONDS):
            pairs = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", self.port) for _ in range(count)))
            for _, writer in pairs:
                writer.write(HEAD)
            heads = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in pairs))
        statuses = [int(head.split(b" ", 2)[1]) for head in heads]
        for status, (reader, writer) in zip(statuses, pairs, strict=True):
            if status == 101:
                self.sockets.append((status, reader, writer))
            else:
                writer.transport.abort()
        return Counter(statuses)

    def alive(self) -> int:
        """How many of the sockets have not ended."""
        return sum(not reader.at_eof() and reader.exception() is None for _, reader, _ in self.sockets)

    def end(self) -> None:
        for _, _, writer in self.sockets:
            writer.transport.abort()
        self.sockets = []


@contextlib.asynccontextmanager
async def clients(port: int) -> AsyncIterator[Clients]:
    found = Clients(port)
    try:
        yield found
    finally:
        found.end()
        await asyncio.sleep(0)


def limited(port: int, *policies: Policy, others: tuple[int, ...] = (), host: str = HOST) -> ProxyConfig:
    made = config(port, host=host, others=others)
    routes = {
        key: msgspec.structs.replace(route, policies=policies, websocket=Target(route.http.shares, "least-connections"))
        for key, route in made.routes.items()
        if route.http is not None
    }
    return msgspec.structs.replace(made, routes=routes)


async def test_storm_of_opens_is_never_one_over_and_a_dead_workers_share_comes_back(hub: Hub) -> None:
    """2,000 simultaneous opens against 100 places, two workers."""
    async with echoes() as one_backend, proxy(hub, "--workers", "2") as one, clients(one.http) as many:
        hub.publish(limited(one_backend.port, Connections(total=100)))
        await one.ready()
        storm = await many.storm(2000)
        handshakes = one_backend.handshakes
        hub.publish(limited(one_backend.port, Connections(total=101), Rate("handshakes", rate=1e6, burst=1_000_000)))
        await hub.acknowledged()
        hub.publish(limited(one_backend.port, Connections(total=100)))
        await hub.acknowledged()
        after_reloads = await many.storm(50)

        before = one.workers()
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: one_backend.open < 100 and len(one.workers()) == 2 and before[0] not in one.workers())
        await until(lambda: one_backend.open == many.alive())
        survivors = one_backend.open
        refill = await many.storm(300)

    assert storm == {101: 100, 503: 1900}
    assert handshakes == 100
    assert after_reloads == {503: 50}
    assert 0 < survivors < 100
    assert refill == {101: 100 - survivors, 503: 200 + survivors}
    assert one_backend.most == 100


async def test_storm_of_one_client_is_held_to_its_share_on_the_pod(hub: Hub) -> None:
    async with (
        echoes() as one_backend,
        proxy(hub, "--workers", "2", "--max-connections", "40", "--max-connections-per-client", "30") as one,
        clients(one.http) as many,
    ):
        hub.publish(limited(one_backend.port))
        await one.ready()
        storm = await many.storm(300)
        many.end()
        await until(lambda: one_backend.open == 0)
        again = await many.storm(60)

    assert (storm, again) == ({101: 30, 429: 270}, {101: 30, 429: 30})


async def test_storm_fills_every_endpoint_and_none_beyond(hub: Hub) -> None:
    async with (
        echoes() as first,
        echoes() as second,
        echoes() as third,
        proxy(hub, "--workers", "2") as one,
        clients(one.http) as many,
    ):
        hub.publish(limited(first.port, Connections(per_endpoint=15), others=(second.port, third.port)))
        await one.ready()
        storm = await many.storm(400)
        most = [one_backend.most for one_backend in (first, second, third)]

    assert storm == {101: 45, 503: 355}
    assert most == [15, 15, 15]


async def test_tokens_of_a_client_are_those_of_all_workers(hub: Hub) -> None:
    async with echoes() as one_backend, proxy(hub, "--workers", "2") as one, clients(one.http) as many:
        hub.publish(limited(one_backend.port, Rate("handshakes", rate=0.001, burst=25)))
        await one.ready()
        storm = await many.storm(200)

    assert storm == {101: 25, 429: 175}


async def test_least_connections_sees_the_sockets_of_all_workers(hub: Hub) -> None:
    async with echoes() as first, echoes() as second, proxy(hub, "--workers", "2") as one, clients(one.http) as many:
        hub.publish(limited(first.port, others=(second.port,)))
        await one.ready()
        for _ in range(31):
            assert await many.storm(1) == {101: 1}
        spread = sorted((first.open, second.open))
        hub.publish(limited(first.port, Connections(total=1000), others=(second.port,)))
        await hub.acknowledged()
        for _ in range(19):
            await many.storm(1)
        after = sorted((first.open, second.open))

    assert spread == [15, 16]
    assert after == [25, 25]
