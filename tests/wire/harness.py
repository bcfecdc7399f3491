"""Raw bytes through the real proxy: a raw client, the worker's own objects on real sockets, a recording raw backend."""

import asyncio
import contextlib
import dataclasses
import gc
import ipaddress
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from unittest import mock

import trustme
import uvloop

from proxy.listeners.accept import Listener
from proxy.listeners.tls import HandshakeQueue, TlsTermination
from proxy.model import wire
from proxy.model.config import Certificate, Endpoint, Path, ProxyConfig, Route, Share, Target, Upstream
from proxy.model.policy import Policy, Timeouts
from proxy.model.sensitive import Sensitive
from proxy.observability.access_log import AccessLog
from proxy.runtime.state import Runtime
from proxy.settings import Settings
from proxy.tls.certificates import CertificateStore
from proxy.tls.contexts import make_context
from proxy.tls.self_signed import self_signed

WAIT = 10.0
AUTHORITY = trustme.CA()
_ISSUED = AUTHORITY.issue_cert("a.test", "b.test")
CERTIFICATE = Certificate(
    b"".join(one.bytes() for one in _ISSUED.cert_chain_pems), Sensitive(_ISSUED.private_key_pem.bytes()), time.time() + 86400
)
LIMIT = 64 * 1024 * 1024


def trusting() -> ssl.SSLContext:
    """Make the context of a client that believes the tests' authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    return context


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

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.context = context
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

        self._server = await asyncio.start_server(take, "127.0.0.1", 0, limit=LIMIT, ssl=self.context)
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
    tls_port: int = 0
    peers: list[Peer] = field(default_factory=list)

    async def client(self, *, secure: bool = False) -> Peer:
        """Connect, over TLS as who believes the tests' authority."""
        port, tls = (self.tls_port, {"ssl": trusting(), "server_hostname": "a.test"}) if secure else (self.port, {})
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LIMIT, **tls)
        peer = Peer(reader, writer)
        self.peers.append(peer)
        return peer

    @contextlib.contextmanager
    def blocking_client(self, *, secure: bool) -> Iterator[socket.socket]:
        """Connect with a blocking socket for which the kernel keeps little; for a thread of its own."""
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(socket.socket())
            sock.settimeout(WAIT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            sock.connect(("127.0.0.1", self.tls_port if secure else self.port))
            yield stack.enter_context(trusting().wrap_socket(sock, server_hostname="a.test")) if secure else sock

    def serves(self, config: ProxyConfig) -> None:
        encoded = wire.encode_config(config)
        self.runtime.apply({key: wire.decode_entry(key, data) for key, (data, _) in encoded.entries.items()}, ())

    async def passes(self, request: bytes, answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n") -> tuple[bytes, int, bytes]:
        """Send a request on a connection of its own, let the backend answer; return the head that it saw, status and body."""
        client = await self.client()
        await client.sends(request)
        backend = await self.backend.accepts()
        head = await backend.head()
        await backend.sends(answer)
        status, _, body = await client.answer()
        backend.closes()
        client.closes()
        return head, status, body

    async def refuses(self, data: bytes, status: int, *, at_once: bool) -> None:
        """Answer `data` with a status and close; the backend sees no request of it.

        `at_once`: the head decides it, so the backend sees no connection either. A body's coding is found broken when its head is
        out: then the backend's connection ends without the body's end.
        """
        client = await self.client()
        client.writer.write(data)  # not awaited: the proxy may have closed before all of it is out
        found, fields, _ = await client.answer()
        assert (found, fields.get("connection")) == (status, "close")
        await client.ends()
        if at_once:
            assert self.backend.count == 0
        while not self.backend.connections.empty():
            seen = await (await self.backend.accepts()).rest()
            assert not seen.endswith(b"0\r\n\r\n")
            assert b"evil" not in seen
        await self.is_innocent()

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


def route_for(target: Target, path: Path, *policies: Policy, name: str = "a", hosts: tuple[str, ...] = ("a.test",)) -> Route:
    """Make a route that serves both kinds of traffic."""
    return Route(
        id=f"ingress/test/{name}/0",
        origin="ingress",
        namespace="test",
        name=name,
        created="",
        index=0,
        hosts=hosts,
        path=path,
        websocket=target,
        http=target,
        policies=policies,
    )


def config_for(port: int, *policies: Policy, path: str = "/", tls: bool = False) -> ProxyConfig:
    route = route_for(Target((Share("test/backend:80"),)), Path("prefix", path), *policies)
    return ProxyConfig(
        routes={route.id: route},
        upstreams={"test/backend:80": Upstream((Endpoint("127.0.0.1", port),), tls=tls)},
        certificates={"test/tls": CERTIFICATE},
        tls_hosts={"a.test": "test/tls"},
    )


@contextlib.asynccontextmanager
async def proxying(
    settings: Settings | None = None,
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0),),
    *,
    trusted: bool = False,
    backend_tls: bool = False,
) -> AsyncIterator[Proxy]:
    """Run the proxy in this loop; at the end, everything that it opened must be closed, and need no collector to be freed."""
    with uncollected() as left:
        async with _proxying(settings, policies, trusted=trusted, backend_tls=backend_tls) as proxy:
            yield proxy
    assert not left, left


@contextlib.asynccontextmanager
async def _proxying(
    settings: Settings | None, policies: tuple[Policy, ...], *, trusted: bool, backend_tls: bool
) -> AsyncIterator[Proxy]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uvloop.Loop)
    if trusted:
        settings = dataclasses.replace(settings or Settings(), trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),))
    backend = Backend(make_context(CERTIFICATE) if backend_tls else None)
    await backend.start()
    store = CertificateStore(strict_sni=settings is not None and settings.strict_sni)
    base = make_context(self_signed(time.time()))
    base.sni_callback = store.choose
    runtime = Runtime(loop, settings or Settings(), accesslog=AccessLog("off", loop), certificates=store, public_https_port=443)
    proxy = Proxy(runtime, backend)

    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    for sock in sockets:
        sock.setblocking(False)
    proxy.port, proxy.tls_port = (sock.getsockname()[1] for sock in sockets)
    listeners = (
        Listener(runtime, sockets[0], "http", 80),
        Listener(runtime, sockets[1], "https", 443, TlsTermination(base, store, HandshakeQueue(loop), 10.0)),
    )
    for listener in listeners:
        listener.start()
    proxy.serves(config_for(backend.port, *policies, tls=backend_tls))
    try:
        yield proxy
        for peer in proxy.peers:
            peer.resets()
        await settled(runtime, listeners)
    finally:
        for listener, sock in zip(listeners, sockets, strict=True):
            listener.pause()
            sock.close()
        for peer in proxy.peers:
            await peer.gone()
        await backend.gone()
        for upstream in runtime.upstreams.values():
            upstream.retire()
        runtime.wheel.close()
        # Transports that were aborted close their descriptors in the loop's next turns.
        for _ in range(3):
            await asyncio.sleep(0)


async def socketless(proxy: Proxy) -> None:
    """Wait until no WebSocket is open."""
    async with asyncio.timeout(WAIT):
        while proxy.runtime.tunnels:
            await asyncio.sleep(0)


async def connectionless(proxy: Proxy) -> None:
    """Wait until no client's connection is open, but for those that became WebSockets."""
    async with asyncio.timeout(WAIT):
        while proxy.runtime.connections:
            await asyncio.sleep(0)


async def settled(runtime: Runtime, listeners: Iterable[Listener]) -> None:
    """Wait until nothing is open any more, and see that nothing is counted as open either."""
    async with asyncio.timeout(WAIT):
        while runtime.connections or runtime.tunnels or any(listener.pending for listener in listeners):
            await asyncio.sleep(0)
    pool = runtime.upstreams["test/backend:80"].ready[0]
    assert runtime.stats.route("ingress/test/a/0").in_flight == 0
    assert (pool.in_flight, pool.sockets) == (0, 0)


@contextlib.contextmanager
def uncollected() -> Iterator[list[str]]:
    """Name what of the proxy could be freed by a collector only: what is in a cycle when a change freezes it never is."""
    left: list[str] = []
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with mock.patch.object(gc, "freeze"):
            yield left
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left += sorted({type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith("proxy.")})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
