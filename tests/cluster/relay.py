"""Something between the controller and the API server that does what networks and overloaded control planes do."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import trustme
from aiohttp import web
from cluster.control_plane import ControlPlane, held_port

Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""Looks at a request and answers it wrongly; None: it goes on to the API server."""
Edit = Callable[[web.Request, bytes], bytes | None]
"""Looks at one line of a watch and gives what arrives instead; None: the connection breaks here."""
_HOP = frozenset(("transfer-encoding", "content-length", "content-encoding", "connection", "host", "accept-encoding"))


def status(code: int, message: str = "made by the test", headers: dict[str, str] | None = None) -> web.Response:
    """Answer as the API server does when it refuses."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return web.json_response(body, status=code, headers=headers)


def is_watch(request: web.Request, plural: str = "") -> bool:
    return request.query.get("watch") == "true" and request.path.endswith(plural)


def is_list(request: web.Request, plural: str = "") -> bool:
    return request.method == "GET" and "watch" not in request.query and request.path.endswith(plural)


@dataclass
class Relay:
    """Passes requests on; `fault` and `edit` say what goes wrong."""

    plane: ControlPlane
    port: int
    """One that is held, also while the relay is closed."""
    ca: bytes = b""
    fault: Fault | None = None
    edit: Edit | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path with its query, of everything that was asked."""
    _open: set[asyncio.Transport] = field(default_factory=set)
    _site: web.TCPSite | None = None
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Cut every connection, as a load balancer in front of the API server does when it is replaced."""
        for transport in list(self._open):
            transport.abort()
        self._open.clear()

    async def close(self) -> None:
        """Refuse connections from now on."""
        assert self._site is not None
        await self._site.stop()
        self.cut()

    async def open(self) -> None:
        """Accept connections again."""
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._context, reuse_address=True)
        await self._site.start()

    def asked(self, plural: str, *, watch: bool) -> int:
        """How often a kind was listed or watched."""
        word = "watch=true"
        return sum(plural in path and (word in path) == watch for method, path in self.requests if method == "GET")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        transport = request.transport
        if transport is not None:
            self._open.add(transport)
        if self.fault is not None:
            answer = await self.fault(request)
            if answer is not None:
                return answer
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        async with self._session.request(
            request.method, f"{self.plane.url}{request.path_qs}", headers=headers, data=await request.read()
        ) as found:
            fields = {name: value for name, value in found.headers.items() if name.lower() not in _HOP}
            response = web.StreamResponse(status=found.status, headers=fields)
            await response.prepare(request)
            async for line in _lines(found.content):
                if self.edit is not None and is_watch(request):
                    edited = self.edit(request, line)
                    if edited is None:
                        if transport is not None:
                            transport.abort()
                        return response
                    line = edited  # noqa: PLW2901  this is the edit
                await response.write(line)
            return response

    async def start(self) -> None:
        authority = trustme.CA()
        self.ca = authority.cert_pem.bytes()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=self.plane.ca.decode()), limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=True,
        )
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await self.open()

    async def stop(self) -> None:
        assert self._runner is not None
        self.cut()
        await self._runner.cleanup()
        await self._session.close()


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Give whole lines, or what is there at the end."""
    rest = b""
    async for data in content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


@contextlib.asynccontextmanager
async def relaying(plane: ControlPlane) -> AsyncIterator[Relay]:
    with held_port() as port:
        relay = Relay(plane, port)
        await relay.start()
        try:
            yield relay
        finally:
            await relay.stop()


def event(kind: str, /, **fields: object) -> bytes:
    """Write a line of a watch."""
    return json.dumps({"type": kind, "object": fields}).encode() + b"\n"
