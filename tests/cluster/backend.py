"""A backend in a pod: HTTP and WebSocket echoes, which say which pod answers, and a Socket.IO server. It ends as a good one does.

At SIGTERM it goes on for a while, for those who have not noticed yet; then it closes its sockets with 1001. Usage: backend.py PORT.
NOTICE in the environment: seconds that it still answers after SIGTERM.
"""

import asyncio
import os
import signal
import socket
import sys

import socketio
from aiohttp import WSCloseCode, web

POD = socket.gethostname()
NOTICE = float(os.environ.get("NOTICE", "2"))
"""Seconds that it still answers after SIGTERM: the proxy hears of its end from the API server."""


class Backend:
    """One pod's server."""

    def __init__(self) -> None:
        self._sockets: set[web.WebSocketResponse] = set()
        self._events = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*")
        self._events.on("say", self._say)
        self.app = web.Application()
        self._events.attach(self.app)
        self.app.router.add_route("*", "/{path:.*}", self._answer)

    async def _say(self, _sid: str, text: str) -> str:
        return f"{POD}: {text}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request)
        return web.json_response({"pod": POD, "path": request.path, "body": await request.text()})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        self._sockets.add(answer)
        if request.path == "/cut" and request.transport is not None:
            request.transport.abort()
        async for message in answer:
            await answer.send_str(POD if message.data == "who" else message.data)
        self._sockets.discard(answer)
        return answer

    async def run(self, port: int) -> None:
        """Serve until SIGTERM, and a while longer."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        # A kept-alive connection ends with the pod, not in between.
        runner = web.AppRunner(self.app, access_log=None, keepalive_timeout=3600)
        await runner.setup()
        await web.TCPSite(runner, None, port).start()
        await ended.wait()
        await asyncio.sleep(NOTICE)
        await asyncio.gather(*(one.close(code=WSCloseCode.GOING_AWAY) for one in self._sockets))
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(Backend().run(int(sys.argv[1])))
