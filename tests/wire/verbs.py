"""What tests of the wire say to the proxy and see of it, over and over: requests, handshakes, frames, backends of a kind."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
from wire.harness import Backend, Peer, Proxy, config_for, socketless
from wire.several import KEY, WS_KEY

from proxy.model.config import Endpoint, Path, ProxyConfig, Upstream
from proxy.model.policy import Timeouts
from proxy.observability.metrics import ENDPOINTS, WS_CLOSES
from proxy.websocket.handshake import accept_for

GET = b"GET /x?a=b HTTP/1.1\r\nHost: a.test\r\nUser-Agent: t\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HOST = b"Host: a.test\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + WS_KEY.encode() + b"\r\nOrigin: https://a.test\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + accept_for(WS_KEY).encode()
    + b"\r\n"
)
CLIENTS = ("192.0.2.7", "198.51.100.7", "203.0.113.7")
"""Of three networks; a peer that the proxy trusts says so."""
MIB = 1024 * 1024


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def frame(opcode: int, payload: bytes = b"", *, masked: bool = False, first: int = 0x80) -> bytes:
    """A frame of RFC 6455, 5.2; `first` is FIN and the reserved bits."""
    size = len(payload)
    length = (
        bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")
    )
    if not masked:
        return bytes([first | opcode]) + length + payload
    mask = os.urandom(4)
    body = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes([first | opcode, length[0] | 0x80]) + length[1:] + mask + body


async def opened(proxy: Proxy, extra: bytes = b"", chosen: bytes = b"", *, secure: bool = False) -> tuple[Peer, Peer]:
    """Open a WebSocket with these fields of the client and of the backend; return the client's end and the backend's."""
    client = await proxy.client(secure=secure)
    await client.sends(UPGRADE + extra + b"\r\n")
    backend = await proxy.backend.accepts()
    await backend.head()
    await backend.sends(SWITCH + chosen + b"\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    return client, backend


def closes_of(proxy: Proxy) -> dict[tuple[str, str], int]:
    """The closes that were counted, by code and by who began."""
    return proxy.runtime.stats.route("ingress/test/a/0").labelled(WS_CLOSES)


def unmasked(data: bytes) -> bytes:
    """The payload of a masked frame, its key before it."""
    return bytes(byte ^ data[place % 4] for place, byte in enumerate(data[4:]))


async def closed(proxy: Proxy) -> dict[tuple[str, str], int]:
    """The closes that were counted, when the socket is gone."""
    await socketless(proxy)
    return closes_of(proxy)


async def told(proxy: Proxy, head: bytes = UPGRADE + b"\r\n") -> tuple[int, str, int]:
    """Ask once; give the status, Retry-After, and how many more connections the backend has seen."""
    before = proxy.backend.count
    client = await proxy.client()
    await client.sends(head)
    status, fields, _ = await client.answer()
    client.resets()
    return status, fields.get("retry-after", ""), proxy.backend.count - before


def two_routes(port: int) -> ProxyConfig:
    """What is under /public, and what is under /admin."""
    plain = config_for(port, path="/public")
    (public,) = plain.routes.values()
    admin = msgspec.structs.replace(public, id="ingress/test/a/1", path=Path("prefix", "/admin"))
    return ProxyConfig(routes={public.id: public, admin.id: admin}, upstreams=plain.upstreams, certificates={}, tls_hosts={})


def with_endpoints(*ports: int) -> ProxyConfig:
    """One route to one Service with endpoints at these ports."""
    plain = config_for(ports[0], Timeouts(connect=1.0, response=1.0))
    return ProxyConfig(
        routes=plain.routes,
        upstreams={KEY: Upstream(tuple(Endpoint("127.0.0.1", port) for port in ports))},
        certificates={},
        tls_hosts={},
    )


@contextlib.asynccontextmanager
async def behaving(reply: Callable[[int, bytes], bytes | None]) -> AsyncIterator[Backend]:
    """A backend that says to every request what `reply` makes of its port and the request's head; None: it ends the connection."""
    backend = Backend()
    await backend.start()

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(answer(await backend.connections.get()))

    async def answer(peer: Peer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                said = reply(backend.port, await peer.reader.readuntil(b"\r\n\r\n"))
                if said is None:
                    peer.closes()
                    break
                peer.writer.write(said)

    task = asyncio.create_task(serve())
    try:
        yield backend
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await backend.gone()


def answering(status: bytes) -> contextlib.AbstractAsyncContextManager[Backend]:
    """A backend that answers every request with one status."""
    return behaving(lambda _port, _head: b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")


def counted(proxy: Proxy) -> tuple[int, int]:
    """How many endpoints are ready, and how many are left out of them."""
    stats = proxy.runtime.stats.service(KEY)
    return stats.value(ENDPOINTS), len(stats.ejected)


async def floods(peer: Peer) -> None:
    """Write until the other end has had enough."""
    with contextlib.suppress(ConnectionError):
        while True:
            peer.writer.write(bytes(MIB))
            await peer.writer.drain()


@contextlib.contextmanager
def blackhole() -> Iterator[int]:
    """A port that answers no SYN: the queue of a socket that nobody accepts from is full (listen(2))."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port: int = listening.getsockname()[1]
        for _ in range(16):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.2)
            try:
                filler.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        else:
            raise AssertionError("the queue is never full")
        yield port
