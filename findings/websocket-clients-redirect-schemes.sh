#!/bin/sh
# No scheme in the Location of a redirected WebSocket handshake suits the three common Python clients, and no form at all does.
#
# Expected: RFC 6455, 4.1 lets a client follow a redirect of its handshake, and RFC 9110, 10.2.2 makes Location a URI reference, relative ones
#   included; a client that follows at all would take http and ws alike, and a relative one.
# Happens: aiohttp follows http and relative ones and refuses ws; websockets follows ws and relative ones and refuses http; websocket-client
#   follows ws alone. All three follow the status 308.
# Matters: a proxy that sends ws:// handshakes to TLS writes one Location for everybody. With https, as every redirector writes it, two of the
#   three fail; with wss the third does. So handshakes over plain HTTP cannot be moved to TLS by a redirect: refuse them in words, or serve them.
# Needs: Python 3.11 or newer.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check aiohttp==3.14.5 websockets==17.4 websocket-client==1.9.2

"$work/venv/bin/python" -c 'import importlib.metadata as m; print(", ".join(f"{n} {m.version(n)}" for n in ("aiohttp", "websockets", "websocket-client")))'
cat >"$work/try.py" <<'PYTHON'
import asyncio
import re

import aiohttp
import websocket
import websockets
from aiohttp import web


async def greet(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("hello")
    await socket.close()
    return socket


async def redirect(request: web.Request) -> web.Response:
    locations = {"http": f"http://{request.host}/greet", "ws": f"ws://{request.host}/greet", "relative": "/greet"}
    return web.Response(status=308, headers={"Location": locations[request.match_info["form"]]})


async def by_aiohttp(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        return await socket.receive_str()


async def by_websockets(url: str) -> str:
    async with websockets.connect(url, proxy=None) as socket:
        return await socket.recv()


def by_websocket_client(url: str) -> str:
    socket = websocket.create_connection(url, timeout=5)
    try:
        return socket.recv()
    finally:
        socket.close()


async def main() -> None:
    app = web.Application()
    app.router.add_get("/greet", greet)
    app.router.add_get("/by/{form}", redirect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host = "127.0.0.1:{}".format(runner.addresses[0][1])
    clients = {
        "aiohttp": by_aiohttp,
        "websockets": by_websockets,
        "websocket-client": lambda url: asyncio.to_thread(by_websocket_client, url),
    }
    for name, client in clients.items():
        for form in ("http", "ws", "relative"):
            try:
                found = "follows, " + await asyncio.wait_for(client(f"ws://{host}/by/{form}"), 10)
            except Exception as error:  # whatever the client says
                found = f"{type(error).__name__}: {error}"
            print(f"{name}, 308 to {form}:", re.sub(re.escape(host), "HOST", found))
    await runner.cleanup()


asyncio.run(main())
PYTHON
"$work/venv/bin/python" "$work/try.py" >"$work/found"
cat "$work/found"
cat >"$work/expected" <<'TEXT'
aiohttp, 308 to http: follows, hello
aiohttp, 308 to ws: NonHttpUrlRedirectClientError: ws://HOST/greet
aiohttp, 308 to relative: follows, hello
websockets, 308 to http: InvalidURI: http://HOST/greet isn't a valid URI: scheme isn't ws or wss
websockets, 308 to ws: follows, hello
websockets, 308 to relative: follows, hello
websocket-client, 308 to http: WebSocketException: Invalid redirect target 'http://HOST/greet': scheme http is invalid
websocket-client, 308 to ws: follows, hello
websocket-client, 308 to relative: WebSocketException: Invalid redirect target '/greet': url is invalid
TEXT
diff "$work/expected" "$work/found" || { echo "The behaviour has changed."; exit 1; }
