"""Several backends behind one route, each of which says in its answers who it is and what it saw."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from wire.harness import Backend, Peer, Proxy, route_for

from proxy.model.config import Endpoint, LoadBalancing, Path, ProxyConfig, Share, Target, Upstream
from proxy.model.policy import Policy
from proxy.websocket.handshake import accept_for

KEY = "test/backend:80"
WS_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
Answering = Callable[[bytes], bytes | None]


def serving(
    *endpoints: Endpoint,
    policies: tuple[Policy, ...] = (),
    balancing: LoadBalancing = "round-robin",
    path: Path | None = None,
    host: str = "a.test",
    more: dict[str, tuple[Endpoint, ...]] | None = None,
) -> ProxyConfig:
    """One route to one upstream, and `more` upstreams with the same share."""
    upstreams = {KEY: Upstream(endpoints), **{key: Upstream(found) for key, found in (more or {}).items()}}
    target = Target(tuple(Share(key) for key in upstreams), balancing)
    route = route_for(target, path or Path("prefix", "/"), *policies, hosts=(host,))
    return ProxyConfig(routes={route.id: route}, upstreams=upstreams, certificates={}, tls_hosts={})


def at(port: int, **more: str) -> Endpoint:
    return Endpoint("127.0.0.1", port, **more)  # type: ignore[arg-type]


class Named:
    """A backend that answers each request with its own number, and accepts each upgrade; `seen` is every head that came."""

    def __init__(self, number: int, answer: Answering) -> None:
        self.number = number
        self.backend = Backend()
        self.seen: list[bytes] = []
        self._answer = answer

    @property
    def port(self) -> int:
        return self.backend.port

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._talk(await self.backend.connections.get()))

    async def _talk(self, peer: Peer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await peer.reader.readuntil(b"\r\n\r\n")
                self.seen.append(head)
                said = self._answer(head)
                body = b"%d" % self.number
                if said is not None:
                    peer.writer.write(said)
                elif b"Upgrade: websocket" in head:
                    peer.writer.write(
                        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Accept: " + accept_for(WS_KEY).encode() + b"\r\n"
                        b"X-Number: " + body + b"\r\n\r\n"
                    )
                else:
                    peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@contextlib.asynccontextmanager
async def backends(count: int, answer: Answering = lambda _: None) -> AsyncIterator[list[Named]]:
    found = [Named(number, answer) for number in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        for one in found:
            await one.backend.start()
            stack.push_async_callback(one.backend.gone)
        tasks = [asyncio.create_task(one.serve()) for one in found]
        try:
            yield found
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def get(proxy: Proxy, target: str = "/", *fields: str, host: str = "a.test") -> tuple[int, dict[str, str], str]:
    """Send one request on a connection of its own; return status, fields and body."""
    client = await proxy.client()
    lines = "".join(f"{field}\r\n" for field in fields)
    await client.sends(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode())
    status, found, body = await client.answer()
    client.closes()
    return status, found, body.decode()


async def held(proxy: Proxy, target: str = "/", *fields: str, host: str = "a.test") -> tuple[Peer, list[str]]:
    """Ask for a WebSocket; return the connection, and the lines of the answer's head."""
    client = await proxy.client()
    lines = (
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {WS_KEY}",
        *fields,
        "\r\n",
    )
    await client.sends("\r\n".join(lines).encode())
    return client, (await client.head()).decode().split("\r\n")


async def upgrade(proxy: Proxy, target: str = "/", *fields: str, host: str = "a.test") -> tuple[int, dict[str, str]]:
    """Ask for a WebSocket; return status and fields of the answer, and end it."""
    client, found = await held(proxy, target, *fields, host=host)
    client.resets()
    return int(found[0].split()[1]), {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in found[1:-2])
    }
