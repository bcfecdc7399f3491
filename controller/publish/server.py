"""The control socket: `POST /v1/sync` on a unix socket, for processes of our own user, and of the proxy's where that is another."""

import asyncio
import os
import socket
import struct
from pathlib import Path

from aiohttp import web

from controller.publish.hub import Hub
from proxy.model.wire import VERSION, WireError, decode_request, encode_message

LONG_POLL = 30.0
"""Seconds that an answer may wait for a change."""
MAX_REQUEST_BYTES = 16 * 1024 * 1024
CONTENT_TYPE = "application/msgpack"


class Peers:
    """Connections that are open: the controller goes on serving as long as there is one."""

    def __init__(self) -> None:
        self._open: set[asyncio.BaseTransport] = set()
        self.arrived = asyncio.Event()
        """Set at the first request."""

    def add(self, transport: asyncio.BaseTransport | None) -> None:
        """Count a connection until it closes."""
        if transport is not None:
            self.arrived.set()
            self._open.add(transport)

    @property
    def count(self) -> int:
        """How many connections with a request are open."""
        self._open = {transport for transport in self._open if not transport.is_closing()}
        return len(self._open)


def make_app(hub: Hub, *, wait: float = LONG_POLL, proxy_uid: int | None = None, peers: Peers | None = None) -> web.Application:
    """Make the application of the control socket. `proxy_uid`: a user beside our own that may ask."""
    last: asyncio.Transport | None = None
    allowed = {os.getuid(), 0} | (set() if proxy_uid is None else {proxy_uid})

    async def sync(request: web.Request) -> web.Response:
        if _peer_uid(request) not in allowed:
            raise web.HTTPForbidden(text="This socket is for the proxy of the same user, or of the user that --proxy-uid names.\n")
        if peers is not None:
            peers.add(request.transport)
        try:
            asked = decode_request(await request.read())
        except WireError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        if asked.version != VERSION:
            raise web.HTTPBadRequest(text=f"The request is of version {asked.version}, version {VERSION} would be accepted.\n")
        nonlocal last
        fresh, last = request.transport is not last, request.transport
        reply = await hub.sync(asked, wait, fresh=fresh)
        return web.Response(body=encode_message(reply or hub.idle_reply(asked)), content_type=CONTENT_TYPE)

    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    app.router.add_post("/v1/sync", sync)
    return app


def _peer_uid(request: web.Request) -> int:
    transport = request.transport
    peer = transport.get_extra_info("socket") if transport is not None else None
    if peer is None:
        return -1
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


async def serve(
    hub: Hub, path: Path, *, wait: float = LONG_POLL, proxy_uid: int | None = None, peers: Peers | None = None
) -> web.AppRunner:
    """Serve the hub on a unix socket; clean the runner up to end.

    Its mode is 0600, or 0660 where the proxy is another user: both are of the group that the folder's files get.
    """
    app = make_app(hub, wait=wait, proxy_uid=proxy_uid, peers=peers)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
    await runner.setup()
    before = os.umask(0o177 if proxy_uid is None else 0o117)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
    return runner
