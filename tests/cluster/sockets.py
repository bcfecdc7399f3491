"""A backend outside of the cluster that takes WebSockets, the slice that leads to it, and how sockets to it are counted."""

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from cluster.installation import Pod, endpoint_slice, until


def own_address() -> str:
    """An address of this machine that is not loopback: endpoints there may be used in a cluster."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


@contextlib.asynccontextmanager
async def silent_backend() -> AsyncIterator[tuple[str, int]]:
    """Take WebSockets and say nothing; give where."""

    async def handle(request: web.Request) -> web.StreamResponse:
        one = web.WebSocketResponse()
        await one.prepare(request)
        async for _ in one:
            pass
        return one

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, own_address(), 0).start()
    try:
        address, port = runner.addresses[0][:2]
        yield address, port
    finally:
        await runner.cleanup()


def slice_at(namespace: str, address: str, port: int, **conditions: bool) -> dict[str, Any]:
    found = endpoint_slice(namespace, "chat", address, **conditions)
    found["ports"][0]["port"] = port
    return found


async def counts(pod: Pod, series: str, value: int) -> None:
    await until(lambda: pod.ask("/metrics"), lambda found: f"{series} {value}.0\n" in found[1])
