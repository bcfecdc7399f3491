"""One replica of the demo's chat: python-socketio on aiohttp. Replicas tell each other what was said over loopback HTTP.

Usage: chat_backend.py NAME. Prints the port that it listens on, then reads the peers' URLs from one line of standard input.
"""

import asyncio
import sys

import aiohttp
import socketio
from aiohttp import web


class Chat:
    """The chat room as one replica sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peers: list[str] = []
        self.server = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*")
        self.server.on("connect", self.connect)
        self.server.on("say", self.say)
        self.session: aiohttp.ClientSession | None = None

    async def connect(self, sid: str, _environ: dict[str, object], _auth: object = None) -> None:
        """Greet a newcomer with the name of this replica."""
        await self.server.emit("welcome", {"replica": self.name}, to=sid)

    async def say(self, _sid: str, data: object) -> str:
        """Tell everyone, here and at the other replicas, what one client said."""
        message = {"text": str(data)[:500], "replica": self.name}
        await self.server.emit("said", message)
        for peer in self.peers:
            assert self.session is not None  # noqa: S101  made before the first client can come
            async with self.session.post(f"{peer}/relay", json=message):
                pass
        return "delivered"

    async def relay(self, request: web.Request) -> web.Response:
        """Take what was said at another replica."""
        await self.server.emit("said", await request.json())
        return web.Response(status=204)


async def main(name: str) -> None:
    """Serve until the process is ended or its standard input closes."""
    chat = Chat(name)
    app = web.Application()
    chat.server.attach(app)
    app.router.add_post("/relay", chat.relay)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession() as chat.session:
        print(runner.addresses[0][1], flush=True)
        loop = asyncio.get_running_loop()
        chat.peers = (await loop.run_in_executor(None, sys.stdin.readline)).split()
        await loop.run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
