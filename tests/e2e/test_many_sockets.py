"""Many sockets over two workers: changes leave them alone, and a drain of half of them is even."""

import asyncio
import os
import re
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from e2e.harness import HOST, Hub, config, proxy, until

from proxy.model.config import Endpoint, EndpointState, ProxyConfig, Upstream
from proxy.model.policy import Close, Drain, Timeouts
from proxy.websocket.handshake import accept_for

SOCKETS = int(os.environ.get("SLUICE_SOCKETS", "2000"))
OVER = max(8.0, SOCKETS / 250)
"""Seconds of the drain: some hundred closes a second, which the clients here can follow."""
ROUTE, SERVICE = "wsroute/default/shop/all", "default/shop:80"
UPGRADE = (
    f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
SWITCH = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {accept_for('dGhlIHNhbXBsZSBub25jZQ==')}\r\n\r\n"
).encode()

pytestmark = pytest.mark.timeout(300)


class End(asyncio.Protocol):
    """One end of a socket, which answers the close frame that it gets."""

    def __init__(self, *, client: bool) -> None:
        self.client = client
        self.opened = asyncio.get_running_loop().create_future()
        self.told: tuple[float, bytes] | None = None
        self.lost = False
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.client:
            transport.write(UPGRADE)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.opened.done() and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            assert not self.client or self._buffer.startswith(b"HTTP/1.1 101 ")
            self._buffer = self._buffer[end + 4 :]
            self.opened.set_result(None)
            if not self.client:
                self.transport.write(SWITCH)
        if self.opened.done() and self._buffer:
            assert self._buffer[0] == 0x88
            assert self.told is None
            self.told = (asyncio.get_running_loop().time(), self._buffer[2:])
            self._buffer = b""
            self.transport.write(b"\x88\x82mask\x6e\x95" if self.client else b"\x88\x02\x03\xf4")


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    hub = Hub(tmp_path / "control.sock")
    await hub.start()
    yield hub
    await hub.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def with_endpoints(found: ProxyConfig, ports: list[int], state: EndpointState = "ready") -> ProxyConfig:
    """Let the first endpoint be in a state, and the others ready."""
    endpoints = tuple(Endpoint("127.0.0.1", port, state if not number else "ready") for number, port in enumerate(ports))
    return msgspec.structs.replace(found, upstreams={SERVICE: Upstream(endpoints)})


async def connected(port: int, count: int) -> list[End]:
    loop = asyncio.get_running_loop()
    clients: list[End] = []
    for start in range(0, count, 100):
        made = await asyncio.gather(
            *(loop.create_connection(lambda: End(client=True), "127.0.0.1", port) for _ in range(min(100, count - start)))
        )
        clients += [protocol for _, protocol in made]
        async with asyncio.timeout(60):
            await asyncio.gather(*(protocol.opened for _, protocol in made))
    return clients


async def test_sockets_outlive_changes_and_a_drain_of_half_of_them_is_even(hub: Hub) -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: End(client=False), "127.0.0.1", 0, backlog=1000) for _ in range(2)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    policies = (Timeouts(), Close(drain=Drain(OVER, 1012, "service restart")))
    base = config(ports[0])
    base = msgspec.structs.replace(base, routes={ROUTE: msgspec.structs.replace(base.routes[ROUTE], policies=policies)})
    async with proxy(hub, "--workers", "2") as one:
        hub.publish(with_endpoints(base, ports))
        await one.ready()
        clients = await connected(one.http, SOCKETS)
        for number in range(100):
            route = msgspec.structs.replace(base.routes[ROUTE], policies=(Timeouts(idle=1000.0 + number), policies[1]))
            changed = msgspec.structs.replace(base, routes={ROUTE: route})
            hub.publish(with_endpoints(changed, [*ports, 1 + number], "unready" if number % 2 else "ready"))
            await hub.acknowledged()
        lost = sum(client.lost or client.told is not None for client in clients)

        hub.publish(with_endpoints(base, ports, "draining"))
        await until(lambda: sum(client.lost for client in clients) >= SOCKETS // 2, OVER + 20)
        _, metrics = await one.ask("/metrics")
        told = sorted(client.told for client in clients if client.told is not None)
        for client in clients:
            client.transport.abort()
        for server in servers:
            server.close()

    assert lost == 0
    drained = int(
        float(re.findall(r'sluice_ws_closes_total\{by="proxy:endpoint_terminating",code="1012",route="\S+"\} (\S+)', metrics)[0])
    )
    assert drained == len(told)
    assert abs(drained - SOCKETS / 2) <= SOCKETS / 50
    assert {payload for _, payload in told} == {b"\x03\xf4service restart"}
    tenths = [0] * 10
    for at, _ in told:
        tenths[min(9, int(10 * (at - told[0][0]) / OVER))] += 1
    assert all(abs(count - drained / 10) <= drained / 100 for count in tenths), tenths
