"""Clients of two libraries: `websockets` of Python, and `ws` of Node by a script."""

import os
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from wire.harness import AUTHORITY, Proxy, trusting

SCRIPT = Path(__file__).parent / "ws_client.js"
ENVIRONMENT = {**os.environ, "NODE_PATH": "/usr/share/nodejs", "CA": AUTHORITY.cert_pem.bytes().decode()}
NODE = "/usr/bin/node"


async def serve_all(socket: ServerConnection) -> None:
    """Echo, but close, ping or stay silent where the message asks for it."""
    try:
        async for message in socket:
            match message:
                case "close please":
                    await socket.close(4321, "as you wish")
                case "ping please":
                    await (await socket.ping(b"are you there"))
                    await socket.send("you are")
                case "fragments please":
                    await socket.send([b"one", b"two", b"three"])
                case "vanish please":
                    socket.transport.abort()
                case _:
                    await socket.send(message)
    except ConnectionClosed:
        pass


def dialled(proxy: Proxy, *, secure: bool, **options: Any) -> connect:
    """Connect by name, to where the proxy listens."""
    if secure:
        return connect("wss://a.test/ws", host="127.0.0.1", port=proxy.tls_port, ssl=trusting(), max_size=None, **options)
    return connect("ws://a.test/ws", host="127.0.0.1", port=proxy.port, max_size=None, **options)
