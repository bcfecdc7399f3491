"""A real `sluice-proxy` process, a hub in the test that feeds it, and backends: what the process tests share."""

import asyncio
import contextlib
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import aiohttp
import trustme
from aiohttp import web

from proxy.model.config import Certificate, Endpoint, ProxyConfig, Route, Share, Target, Upstream
from proxy.model.config import Path as RoutePath
from proxy.model.sensitive import Sensitive
from proxy.model.wire import Encoded, Report, SyncRequest, decode_request, encode_config, encode_message, reply_between

HOST = "shop.example.com"


class Hub:
    """The controller's end of the control socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[SyncRequest] = []
        self.report = Report()
        self._known: dict[str, Encoded] = {}
        self._current: Encoded | None = None
        self._changed = asyncio.Event()
        self._heard = asyncio.Event()
        self._runner: web.AppRunner | None = None

    def publish(self, config: ProxyConfig, report: Report | None = None) -> None:
        self._current = encode_config(config)
        self._known[self._current.root] = self._current
        self.report = report or Report()
        self._changed.set()

    async def acknowledged(self, seconds: float = 10) -> SyncRequest:
        """Wait until the proxy says that it holds what was published last."""
        async with asyncio.timeout(seconds):
            while not (self.requests and self._current and self.requests[-1].digest == self._current.root):
                self._heard.clear()
                await self._heard.wait()
        return self.requests[-1]

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/sync", self._sync)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.path)).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _sync(self, request: web.Request) -> web.Response:
        said = decode_request(await request.read())
        self.requests.append(said)
        self._heard.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while self._current is None or said.digest == self._current.root:
                    self._changed.clear()
                    await self._changed.wait()
        assert self._current is not None
        reply = reply_between(self._known.get(said.digest), self._current, self.report)
        return web.Response(body=encode_message(reply), content_type="application/msgpack")


class Proxy:
    """A `sluice-proxy` process that has said where it listens."""

    def __init__(self, process: asyncio.subprocess.Process, line: str) -> None:
        self.process = process
        where = dict(part.split("=", 1) for part in line.split()[1:])
        self.http, self.https, self.admin = (int(where[name].rsplit(":", 1)[1]) for name in ("http", "https", "admin"))

    def workers(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    async def ask(self, path: str) -> tuple[int, str]:
        """Ask the admin port."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.admin}{path}") as answer:
            return answer.status, await answer.text()

    async def ready(self, status: int = 200) -> None:
        """Wait until /readyz says so."""
        async with asyncio.timeout(15):
            while (await self.ask("/readyz"))[0] != status:
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def proxy(hub: Hub, *arguments: str, descriptors: int = 0, stderr: int | None = None) -> AsyncIterator[Proxy]:
    """Run `sluice-proxy` on free ports of loopback; `descriptors`: with no more than these for each process."""
    process = await asyncio.create_subprocess_exec(
        *(("prlimit", f"--nofile={descriptors}:{descriptors}") if descriptors else ()),
        sys.executable,
        *("-m", "proxy", "--control-socket", str(hub.path), "--drain-delay", "0"),
        *("--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
        yield Proxy(process, line)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def backend(answer: bytes = b"hello", hold: asyncio.Event | None = None) -> AsyncIterator[int]:
    """Serve ordinary requests (after `hold`, where one is given, and their body) and WebSockets that echo; give the port."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for message in socket:
                await socket.send_str(message.data)
            return socket
        if hold is not None and request.path == "/slow":
            await hold.wait()
        await request.read()
        return web.Response(body=answer)

    server = web.Server(handle)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def config(port: int, certificate: Certificate | None = None, host: str = HOST, others: Sequence[int] = ()) -> ProxyConfig:
    """One route for everything under one host, to one endpoint on loopback, or to `others` too."""
    target = Target((Share("default/shop:80"),))
    route = Route(
        id="wsroute/default/shop/all",
        origin="wsroute",
        namespace="default",
        name="shop",
        created="2026-01-01T00:00:00Z",
        index=0,
        hosts=(host,),
        path=RoutePath("prefix", "/"),
        websocket=target,
        http=target,
    )
    return ProxyConfig(
        routes={route.id: route},
        upstreams={"default/shop:80": Upstream(tuple(Endpoint("127.0.0.1", one) for one in (port, *others)))},
        certificates={"default/shop-tls": certificate} if certificate else {},
        tls_hosts={host: "default/shop-tls"} if certificate else {},
    )


def issue(authority: trustme.CA, *names: str) -> Certificate:
    """Issue a certificate that is good for a day or so."""
    issued = authority.issue_cert(*names)
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return Certificate(chain, Sensitive(issued.private_key_pem.bytes()), time.time() + 86400)


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Make the context of a client that believes an authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def get(port: int, path: str = "/", host: str = HOST, *, seconds: float = 10) -> bytes:
    """Send one request on a connection of its own; return everything that comes."""
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


def ok(answer: bytes) -> bool:
    """Whether it is the whole answer of `backend`."""
    return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\nhello")


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something that another process does and that nothing else announces."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def running(pids: Sequence[int]) -> list[int]:
    """Those of the processes that have not ended (a zombie has)."""
    found = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                found.append(pid)
    return found


def _rows(port: int, column: int, state: str) -> list[list[str]]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row for row in rows if row[column].endswith(f":{port:04X}") and row[3] == state]


def queued(port: int) -> int:
    """Connections in the accept queues of a port: a listening socket's receive queue (proc(5))."""
    return sum(int(row[4].split(":")[1], 16) for row in _rows(port, 1, "0A"))


def established(port: int) -> int:
    return len(_rows(port, 1, "01"))
