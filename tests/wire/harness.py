"""Raw bytes through the real proxy: a raw client, the worker's own objects on real sockets, a recording raw backend."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import uvloop

from proxy.accesslog import AccessLog
from proxy.exchange import Client
from proxy.http1.server import ServerConnection
from proxy.model import wire
from proxy.model.config import Endpoint, Path, ProxyConfig, Route, Share, Target, Upstream
from proxy.model.policy import Policy, Timeouts
from proxy.runtime import Runtime
from proxy.settings import Settings
from proxy.shells import PlainShell
from proxy.tls.store import CertificateStore

WAIT = 10.0
LIMIT = 64 * 1024 * 1024


class Peer:
    """One end of a raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def sends(self, data: bytes) -> None:
        self.writer.write(data)
        async with asyncio.timeout(WAIT):
            await self.writer.drain()

    async def sees(self, data: bytes) -> None:
        """The next bytes are exactly these."""
        found = b""
        try:
            async with asyncio.timeout(WAIT):
                found = await self.reader.readexactly(len(data))
        except asyncio.IncompleteReadError as error:
            found = error.partial
        assert found == data

    async def head(self) -> bytes:
        """Read up to the end of a head."""
        async with asyncio.timeout(WAIT):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def reads(self, count: int) -> bytes:
        async with asyncio.timeout(WAIT):
            return await self.reader.readexactly(count)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer that has a Content-Length."""
        head = await self.head()
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        assert len(fields) == len(lines) - 3, head
        body = await self.reads(int(fields.get("content-length", "0")))
        return int(lines[0].split(" ")[1]), fields, body

    async def rest(self) -> bytes:
        """Everything until the end of the connection."""
        async with asyncio.timeout(WAIT):
            try:
                return await self.reader.read(-1)
            except ConnectionError:
                return b""

    async def ends(self) -> None:
        """The connection ends, and nothing comes before that."""
        assert await self.rest() == b""

    def closes(self) -> None:
        self.writer.close()

    def resets(self) -> None:
        """End at once with a RST, not a FIN."""
        if self.writer.transport.is_closing():
            self.writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """End this end, and wait until its descriptor is closed."""
        self.resets()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(WAIT):
                await self.writer.wait_closed()


class Backend:
    """A raw backend: every connection that the proxy makes is handed to the test."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[Peer] = asyncio.Queue()
        self.count = 0
        self.port = 0
        self.peers: list[Peer] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.count += 1
            peer = Peer(reader, writer)
            self.peers.append(peer)
            await self.connections.put(peer)

        self._server = await asyncio.start_server(take, "127.0.0.1", 0, limit=LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]

    async def accepts(self) -> Peer:
        async with asyncio.timeout(WAIT):
            return await self.connections.get()

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def gone(self) -> None:
        """Stop, and end every connection."""
        self.stop()
        for peer in self.peers:
            await peer.gone()


@dataclass
class Proxy:
    """The proxy under test, serving host `a.test` with one backend."""

    runtime: Runtime
    backend: Backend
    port: int = 0
    peers: list[Peer] = field(default_factory=list)

    async def client(self) -> Peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=LIMIT)
        peer = Peer(reader, writer)
        self.peers.append(peer)
        return peer

    def serves(self, config: ProxyConfig) -> None:
        encoded = wire.encode_config(config)
        self.runtime.apply({key: wire.decode_entry(key, data) for key, (data, _) in encoded.entries.items()}, ())

    async def is_innocent(self) -> None:
        """A request of somebody else gets its own answer."""
        client = await self.client()
        await client.sends(b"GET /innocent HTTP/1.1\r\nHost: a.test\r\n\r\n")
        async with asyncio.timeout(WAIT):
            while True:
                backend = await self.backend.accepts()
                head = await backend.head()
                if head.startswith(b"GET /innocent HTTP/1.1\r\n"):
                    break
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ninnocent")
        status, _, body = await client.answer()
        assert (status, body) == (200, b"innocent")
        client.closes()


def config_for(port: int, *policies: Policy, path: str = "/") -> ProxyConfig:
    target = Target((Share("test/backend:80"),))
    route = Route(
        id="ingress/test/a/0",
        origin="ingress",
        namespace="test",
        name="a",
        created="",
        index=0,
        hosts=("a.test",),
        path=Path("prefix", path),
        websocket=target,
        http=target,
        policies=policies,
    )
    return ProxyConfig(
        routes={route.id: route},
        upstreams={"test/backend:80": Upstream((Endpoint("127.0.0.1", port),))},
        certificates={},
        tls_hosts={},
    )


@contextlib.asynccontextmanager
async def proxying(
    settings: Settings | None = None, policies: tuple[Policy, ...] = (Timeouts(connect=1.0),), *, trusted: bool = False
) -> AsyncIterator[Proxy]:
    """Run the proxy in this loop; at the end, everything that it opened must be closed."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uvloop.Loop)
    backend = Backend()
    await backend.start()
    runtime = Runtime(
        loop, settings or Settings(), accesslog=AccessLog("off", loop), certificates=CertificateStore(), public_https_port=443
    )
    proxy = Proxy(runtime, backend)

    def make() -> PlainShell:
        return PlainShell(ServerConnection(runtime, Client(peer="127.0.0.1", port=80, trusted=trusted)))

    server = await loop.create_server(make, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    proxy.serves(config_for(backend.port, *policies))
    try:
        yield proxy
        for peer in proxy.peers:
            peer.resets()
        await settled(runtime)
    finally:
        server.close()
        for peer in proxy.peers:
            await peer.gone()
        await backend.gone()
        for upstream in runtime.upstreams.values():
            upstream.retire()
        runtime.wheel.close()
        # Transports that were aborted close their descriptors in the loop's next turns.
        for _ in range(3):
            await asyncio.sleep(0)


async def settled(runtime: Runtime) -> None:
    """Wait until nothing is open any more, and see that nothing is counted as open either."""
    async with asyncio.timeout(WAIT):
        while runtime.connections or runtime.tunnels:
            await asyncio.sleep(0)
    pool = runtime.upstreams["test/backend:80"].ready[0]
    assert runtime.stats.route("ingress/test/a/0").in_flight == 0
    assert (pool.in_flight, pool.sockets) == (0, 0)
