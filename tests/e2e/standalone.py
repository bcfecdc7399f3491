"""`sluice standalone` on a folder, as tests start it and look at it, and backends that its objects name."""

import asyncio
import base64
import contextlib
import datetime as dt
import json
import queue
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web
from e2e.harness import trusting

WAIT = 15.0
AUTHORITY = trustme.CA()
HOSTS = ("a.localhost", "b.localhost")
FREE = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1", "--drain-time", "0s"]


def objects(host: str) -> str:
    name = host.split(".", maxsplit=1)[0]
    return f"""apiVersion: v1
kind: Service
metadata: {{name: echo}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: sluice.dev/v1alpha1
kind: WsRoute
metadata: {{name: {name}}}
spec:
  hosts: [{host}]
  tls: {{secretName: {name}-tls, redirect: false}}
  rules: [{{name: all, websocket: {{backends: [{{service: echo, port: 80}}]}}, http: {{backends: [{{service: echo, port: 80}}]}}}}]
"""


def secret(host: str, *, key: str | None = None, begins: int = -10, ends: int = 100) -> str:
    """A Secret whose certificate begins and ends so many days from now."""
    now = dt.datetime.now(dt.UTC)
    begin, end = (now + dt.timedelta(days=days) for days in (begins, ends))
    issued = AUTHORITY.issue_cert(host, not_before=begin, not_after=end)
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": f"{host.split('.', maxsplit=1)[0]}-tls"},
            "data": {
                "tls.crt": base64.b64encode(chain).decode(),
                "tls.key": key if key is not None else base64.b64encode(issued.private_key_pem.bytes()).decode(),
            },
        }
    )


class Running:
    """`sluice standalone` on a folder of its own."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], listening: dict[str, str]) -> None:
        self.folder = folder
        self.http, self.https, self.admin = (int(listening[name].rsplit(":", 1)[1]) for name in ("http", "https", "admin"))
        self.lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def _read(self, lines: Iterator[str]) -> None:
        with contextlib.suppress(ValueError):
            for line in lines:
                self.lines.put(line)

    def shows(self, page: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{page}", timeout=5) as answer:
            return json.load(answer)

    async def until_shows(self, page: str, condition: Callable[[Any], bool]) -> Any:
        async with asyncio.timeout(WAIT):
            while not condition(found := await asyncio.to_thread(self.shows, page)):
                await asyncio.sleep(0.02)
        return found

    def line(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.lines.get(timeout=WAIT))
        return found

    async def ask(self, host: str, path: str = "/", *, name: str | None = "", secure: bool = True) -> int:
        """Ask over TLS with a server name of its own; the status."""
        context = trusting(AUTHORITY)
        if name is None:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with asyncio.timeout(WAIT):
            if secure:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.https, ssl=context, server_hostname=(name or host) if name is not None else ""
                )
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.http)
            writer.write(f'GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: "test"\r\nConnection: close\r\n\r\n'.encode())
            answer = await reader.read(-1)
            writer.close()
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                await writer.wait_closed()
        return int(answer.split(b" ", 2)[1])


def endpoints_text(ports: list[int], ready: Collection[int] | None = None) -> str:
    """A slice for each port; all of them are ready, or those that `ready` names."""
    return "---\n".join(
        f"""apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: echo-{port}, labels: {{kubernetes.io/service-name: echo}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: {str(ready is None or port in ready).lower()}}}}}]
"""
        for port in ports
    )


async def echo(request: web.Request) -> web.StreamResponse:
    """Echo messages; an ordinary request is told the port that answered."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        assert request.transport is not None
        return web.Response(text=str(request.transport.get_extra_info("sockname")[1]))
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@contextlib.asynccontextmanager
async def echo_backends(count: int) -> AsyncIterator[list[int]]:
    app = web.Application()
    app.router.add_get("/{path:.*}", echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    for _ in range(count):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield [address[1] for address in runner.addresses]
    finally:
        await runner.cleanup()
