"""The demo's web page: static files from tools/web. Prints the port that it listens on; ends when its standard input closes."""

import asyncio
import sys
from pathlib import Path

from aiohttp import web

FOLDER = Path(__file__).parent / "web"


async def page(_request: web.Request) -> web.FileResponse:
    """Serve the chat's page."""
    return web.FileResponse(FOLDER / "index.html")


async def main() -> None:
    """Serve until standard input closes."""
    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_static("/static", FOLDER)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
