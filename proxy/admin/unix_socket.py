"""The admin socket: HTTP on a unix socket, by which users of the pod list its open WebSockets and drain some.

Its mode is 0600, and the peer's user must be ours or root. Nothing here can be reached over TCP.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web

from proxy.model.sockets import Drained, DrainOrder, SocketRow, order_problem

MAX_ORDER_BYTES = 16 * 1024

_log = logging.getLogger("sluice.admin")


class Sockets(Protocol):
    """The open sockets of all workers; the supervisor's."""

    async def sockets(self) -> Sequence[SocketRow]:
        """Return all of them."""
        ...

    async def drain_sockets(self, order: DrainOrder) -> int:
        """Close some of them; return how many."""
        ...


def make_app(view: Sockets) -> web.Application:
    """Make the admin socket's application."""
    allowed = {0, os.geteuid()}

    async def sockets(request: web.Request) -> web.Response:
        _check(request, allowed)
        return web.Response(body=msgspec.json.encode(await view.sockets()), content_type="application/json")

    async def drain(request: web.Request) -> web.Response:
        _check(request, allowed)
        try:
            order = msgspec.json.decode(await request.read(), type=DrainOrder)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise web.HTTPBadRequest(text=f"The order cannot be read: {error}\n") from None
        problem = order_problem(order)
        if problem:
            raise web.HTTPBadRequest(text=problem + "\n")
        count = await view.drain_sockets(order)
        _log.info("target=%s sockets=%d closed over %gs with %d by command", order.target, count, order.over, order.code)
        return web.Response(body=msgspec.json.encode(Drained(count)), content_type="application/json")

    app = web.Application(client_max_size=MAX_ORDER_BYTES)
    app.router.add_get("/v1/sockets", sockets)
    app.router.add_post("/v1/drain", drain)
    return app


def _check(request: web.Request, allowed: set[int]) -> None:
    transport = request.transport
    peer = transport.get_extra_info("socket") if transport is not None else None
    uid = -1
    if peer is not None:
        _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if uid not in allowed:
        raise web.HTTPForbidden(text="This socket is for the proxy's own user, and root.\n")


class AdminSocketServer:
    """The admin socket, from `start` to `stop`."""

    def __init__(self, view: Sockets, path: str) -> None:
        self._runner = web.AppRunner(make_app(view), access_log=None, shutdown_timeout=0.5)
        self._path = path

    async def start(self) -> None:
        """Serve. A socket that another process left there is replaced; where there can be none, the proxy serves without."""
        await self._runner.setup()
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, self._path).start()
        except OSError as error:
            _log.error("socket=%s error=%r there are no commands", self._path, str(error))
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """End every connection, and take the socket away."""
        await self._runner.cleanup()
        await asyncio.to_thread(Path(self._path).unlink, missing_ok=True)
