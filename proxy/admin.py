"""The admin port: /metrics, /healthz and /readyz for the network; /routes and /problems for loopback unless they are opened."""

import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from proxy.totals import OpenMetrics


class AdminView(Protocol):
    """What the admin port shows; the supervisor has it."""

    registry: CollectorRegistry

    def alive(self) -> bool:
        """Tell whether at least one worker runs."""
        ...

    def ready(self) -> bool:
        """Tell whether every worker has the first configuration, and nobody is draining."""
        ...

    async def gather(self) -> None:
        """Bring the workers' counts up to date."""
        ...

    def routes(self) -> Sequence[Mapping[str, object]]:
        """Return every route with what it matches, its upstreams and endpoints, and its open sockets."""
        ...

    def problems(self) -> Sequence[Mapping[str, object]]:
        """Return every problem with a user's object."""
        ...


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(view: AdminView, *, details_open: bool) -> web.Application:
    """Make the admin port's application."""

    async def metrics(request: web.Request) -> web.Response:
        await view.gather()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        families = OpenMetrics(view.registry) if content_type.startswith("application/openmetrics-text") else view.registry
        return web.Response(body=encode(families), headers={"Content-Type": content_type})

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

    app = web.Application(middlewares=[_sentences])
    app.on_response_prepare.append(_without_version)
    for path, handler in (
        ("/metrics", metrics),
        ("/healthz", healthz),
        ("/readyz", readyz),
        ("/routes", routes),
        ("/problems", problems),
    ):
        app.router.add_get(path, handler)
    return app


def _plain(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n")


def _json(value: object) -> web.Response:
    return web.Response(text=json.dumps(value, indent=2) + "\n", content_type="application/json")


def _guard(request: web.Request, *, details_open: bool) -> None:
    try:
        loopback = ipaddress.ip_address((request.remote or "").partition("%")[0]).is_loopback
    except ValueError:
        loopback = False
    if not details_open and not loopback:
        raise web.HTTPForbidden(text="This page is for loopback only; --admin-details opens it.\n")


@web.middleware
async def _sentences(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _plain(404, "There are /metrics, /healthz, /readyz, /routes and /problems here.")
    except web.HTTPMethodNotAllowed:
        return _plain(405, "Only GET and HEAD are answered here.")


async def _without_version(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "sluice"
