"""The admin port: /metrics, /healthz and /readyz for the network; /routes, /sockets and /problems for loopback only.

The last three are not for pages in a browser either, which reach loopback by a name of their own that resolves to it.
"""

import asyncio
import ipaddress
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from proxy.admin.metrics_endpoint import Exposition, RenderError
from proxy.model.sockets import SocketRow
from proxy.routing.hosts import normalise_host

_log = logging.getLogger("sluice.admin")

_MISDIRECTED = "This page is shown where the request's Host is an IP address or localhost, such as 127.0.0.1:9090.\n"

KEEPALIVE = 75.0
"""Seconds that a connection to the admin port may be silent, its first request included."""
MOST_CONNECTIONS = 64
"""Open to the admin port at once: scrapers and probes are a handful, and the supervisor needs its descriptors for workers."""


class AdminView(Protocol):
    """The state that the admin port shows; the supervisor's."""

    exposition: Exposition

    def alive(self) -> bool:
        """Tell whether at least one worker runs."""
        ...

    def ready(self) -> bool:
        """Tell whether every worker has the first configuration, and the pod does not drain."""
        ...

    async def gather(self) -> None:
        """Bring the workers' counts up to date."""
        ...

    def owners(self) -> int:
        """Return how many routes and Services have series."""
        ...

    def routes(self) -> Sequence[Mapping[str, object]]:
        """Return every route with what it matches, its upstreams and endpoints, and its open sockets."""
        ...

    def problems(self) -> Sequence[Mapping[str, object]]:
        """Return every problem with a user's object."""
        ...

    async def sockets(self) -> Sequence[SocketRow]:
        """Return every open socket."""
        ...


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(view: AdminView, *, details_open: bool) -> web.Application:
    """Make the admin port's application."""

    async def metrics(request: web.Request) -> web.Response:
        await view.gather()
        compress = accepts_gzip(request.headers.get("Accept-Encoding", ""))
        try:
            body, content_type = await view.exposition.render(
                request.headers.get("Accept", ""), owners=view.owners(), compress=compress
            )
        except RenderError as error:
            return _plain(503, f"The metrics cannot be shown: {error}.")
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if compress:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)

    async def healthz(_: web.Request) -> web.Response:
        return _plain(200, "ok") if view.alive() else _plain(503, "No worker runs.")

    async def readyz(_: web.Request) -> web.Response:
        return (
            _plain(200, "ready")
            if view.ready()
            else _plain(503, "Not ready: no configuration is applied yet, or the proxy is ending.")
        )

    async def routes(request: web.Request) -> web.Response:
        _guard(request, details_open=details_open)
        await view.gather()
        return _json(view.routes())

    async def problems(request: web.Request) -> web.Response:
        _guard(request, details_open=details_open)
        return _json(view.problems())

    async def sockets(request: web.Request) -> web.Response:
        _guard(request, details_open=details_open)
        rows = msgspec.json.encode(await view.sockets())
        return web.Response(body=msgspec.json.format(rows, indent=2) + b"\n", content_type="application/json")

    app = web.Application(middlewares=[_sentences])
    app.on_response_prepare.append(_without_version)
    for path, handler in (
        ("/metrics", metrics),
        ("/healthz", healthz),
        ("/readyz", readyz),
        ("/routes", routes),
        ("/problems", problems),
        ("/sockets", sockets),
    ):
        app.router.add_get(path, handler)
    return app


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n")


def _json(value: object) -> web.Response:
    return web.Response(text=json.dumps(value, indent=2) + "\n", content_type="application/json")


def _guard(request: web.Request, *, details_open: bool) -> None:
    if not details_open and not is_loopback(request.remote or ""):
        raise web.HTTPForbidden(text="This page is for loopback only; --admin-details opens it.\n")
    # An authority in the target counts instead of the Host field (RFC 9112, 3.2.2), and nobody who may read this sends one.
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or not is_address_or_localhost(hosts[0]) or not request.raw_path.startswith("/"):
        raise web.HTTPMisdirectedRequest(text=_MISDIRECTED)


def is_address_or_localhost(authority: str) -> bool:
    """Tell whether a Host field has an IP address or localhost, with any port.

    Every other name can be one whose owner has it resolve to loopback, so that a page of its own may read what is here
    (DNS rebinding). An address resolves to nothing else, and localhost is loopback everywhere (RFC 6761, 6.3).
    """
    host = normalise_host(authority)
    if host is None or host == "localhost":
        return host is not None
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def accepts_gzip(field: str) -> bool:
    """Tell whether an Accept-Encoding field takes gzip (RFC 9110, 12.5.3)."""
    for part in field.split(","):
        name, _, weight = part.partition(";")
        if name.strip().lower() == "gzip":
            return weight.replace(" ", "").rstrip("0").lower() not in ("q=", "q=0.")
    return False


def is_loopback(address: str) -> bool:
    """Tell whether a peer's address is this machine's own, as a dual-stack socket writes it too."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


@web.middleware
async def _sentences(request: web.Request, handler: Handler) -> web.StreamResponse:
    connection = request.protocol
    assert isinstance(connection, _Connection)  # noqa: S101  AdminServer makes them
    connection.busy = True
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _plain(404, "There are /metrics, /healthz, /readyz, /routes, /sockets and /problems here.")
    except web.HTTPMethodNotAllowed as error:
        answer = _plain(405, "Only GET and HEAD are answered here.")
        answer.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return answer
    finally:
        connection.busy = False


async def _without_version(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "sluice"


class _Connection(RequestHandler):
    """A connection to the admin port: what is no request is answered without a version, and not repeated to its sender.

    Above `MOST_CONNECTIONS` the oldest one without a request under way is closed, so that connections held open keep no probe out.
    """

    __slots__ = ("_connections", "busy")

    def __init__(self, manager: web.Server, connections: "dict[_Connection, None]", loop: asyncio.AbstractEventLoop) -> None:
        # Scrapes and probes are not worth a line each.
        quiet = logging.getLogger("sluice.admin.requests")
        quiet.setLevel(logging.WARNING)
        super().__init__(manager, loop=loop, keepalive_timeout=KEEPALIVE, access_log=quiet)
        self._connections = connections
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection; close the oldest idle one if there are too many."""
        super().connection_made(transport)
        self._connections[self] = None
        if len(self._connections) > MOST_CONNECTIONS:
            displaced = next(connection for connection in self._connections if not connection.busy)
            del self._connections[displaced]
            if displaced.transport is not None:
                displaced.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop counting the connection."""
        self._connections.pop(self, None)
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what aiohttp could not parse, or what failed."""
        del message
        if status >= 500:
            _log.error("path=%s the admin port failed", request.path, exc_info=exc)
        answer = _plain(status, "The admin port failed." if status >= 500 else "The request is malformed.")
        answer.headers["Server"] = "sluice"
        answer.force_close()
        return answer


class AdminServer:
    """The admin port, from `start` to `stop`."""

    def __init__(self, view: AdminView, *, details_open: bool) -> None:
        self._runner = web.AppRunner(make_app(view, details_open=details_open), shutdown_timeout=0.5)
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Serve on a bound socket."""
        loop = asyncio.get_running_loop()
        await self._runner.setup()
        manager = self._runner.server
        assert manager is not None  # noqa: S101  setup makes it
        connections: dict[_Connection, None] = {}
        self._server = await loop.create_server(lambda: _Connection(manager, connections, loop), sock=sock)

    async def stop(self) -> None:
        """End every connection."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()
