"""Changes under open sockets: none is lost, and the change is served."""

import asyncio
import contextlib
import json
import ssl
from pathlib import Path

import aiohttp
import pytest
from demo import make_certificate, sluice, write_secret, write_whole
from e2e.standalone import echo_backends, endpoints_text
from websockets.asyncio.client import ClientConnection, connect

pytestmark = pytest.mark.timeout(180)

SOCKETS = 400
CHANGES = 100

OBJECTS = """apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: sluice}
spec: {controller: sluice.dev/ingress-controller}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {ports: [{name: http, port: 80}]}
"""


def route_text(number: int) -> str:
    return json.dumps(
        {
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "WsRoute",
            "metadata": {"name": "echo"},
            "spec": {
                "ingressClassName": "sluice",
                "hosts": ["chat.localhost"],
                "tls": {"secretName": "chat-tls"},
                "rules": [
                    {
                        "name": "echo",
                        "path": {"type": "Prefix", "value": f"/v{number}"},
                        "websocket": {"backends": [{"service": "echo", "port": 80}]},
                        "http": {"backends": [{"service": "echo", "port": 80}]},
                    }
                ],
            },
        }
    )


def trusting_nobody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def until_answers(url: str, wanted: int) -> None:
    """Ask on fresh connections until the answer has the wanted status."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting_nobody(), force_close=True)) as session,
        asyncio.timeout(10),
    ):
        while True:
            async with session.get(url, headers={"Host": "chat.localhost"}, server_hostname="chat.localhost") as answer:
                if answer.status == wanted:
                    return


async def ask(client: ClientConnection, text: str) -> str:
    async with asyncio.timeout(20):
        await client.send(text)
        return str(await client.recv())


async def test_hundred_changes_under_open_sockets_lose_none(tmp_path: Path) -> None:
    write_whole(tmp_path / "objects.yaml", OBJECTS)
    write_whole(tmp_path / "route.json", route_text(0))
    (tmp_path / "generated").mkdir()
    write_secret(tmp_path, *make_certificate())
    free = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "2", "--drain-time", "1s"]
    async with contextlib.AsyncExitStack() as stack:
        ports = await stack.enter_async_context(echo_backends(4))
        write_whole(tmp_path / "endpoints.yaml", endpoints_text(ports))
        # The backend shares this loop: start Sluice in a thread, so that its first lines can be awaited.
        manager = sluice(tmp_path, free)
        _, listening = await asyncio.to_thread(manager.__enter__)
        stack.push_async_callback(asyncio.to_thread, manager.__exit__, None, None, None)
        port = listening["https"].rsplit(":", 1)[1]
        await until_answers(f"https://127.0.0.1:{port}/v0/x", 200)
        context = trusting_nobody()
        clients = [
            await stack.enter_async_context(
                connect(
                    f"wss://chat.localhost:{port}/v0/ws",
                    ssl=context,
                    server_hostname="chat.localhost",
                    host="127.0.0.1",
                    port=int(port),
                    ping_interval=None,
                    close_timeout=5,
                )
            )
            for _ in range(SOCKETS)
        ]

        for number in range(1, CHANGES + 1):
            write_whole(tmp_path / "route.json", route_text(number))
            if number % 3 == 0:
                first = number % len(ports)
                write_whole(tmp_path / "endpoints.yaml", endpoints_text(ports, {ports[first], ports[(first + 1) % len(ports)]}))
            if number % 5 == 0:
                write_secret(tmp_path, *make_certificate())
            await until_answers(f"https://127.0.0.1:{port}/v{number}/x", 200)
            some = clients[(number * 4) % SOCKETS :][:4]
            assert await asyncio.gather(*(ask(client, f"change {number}") for client in some)) == [f"change {number}"] * len(some)

        await until_answers(f"https://127.0.0.1:{port}/v0/x", 404)
        assert await asyncio.gather(*(ask(client, "still here") for client in clients)) == ["still here"] * SOCKETS
        async with aiohttp.ClientSession() as session, session.get(f"http://{listening['admin']}/metrics") as answer:
            text = await answer.text()
        assert 'sluice_ws_connections{route="wsroute/default/echo/echo",service="default/echo:80"} 400.0' in text
        await asyncio.gather(*(client.close() for client in clients))
