"""The control socket: `POST /v1/sync` on a unix socket, for processes of our own user only."""

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


def make_app(hub: Hub, *, wait: float = LONG_POLL) -> web.Application:
    """Make the application of the control socket."""
    last: asyncio.Transport | None = None

    async def sync(request: web.Request) -> web.Response:
        if _peer_uid(request) not in (os.getuid(), 0):
            raise web.HTTPForbidden(text="This socket is for the proxy of the same user.\n")
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


async def serve(hub: Hub, path: Path, *, wait: float = LONG_POLL) -> web.AppRunner:
    """Serve the hub on a unix socket of mode 0600; clean the runner up to end."""
    runner = web.AppRunner(make_app(hub, wait=wait), access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
    await runner.setup()
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
    return runner
