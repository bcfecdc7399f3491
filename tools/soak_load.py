"""The objects and the load of `make soak`: kept-alive requests, WebSockets that echo, clients that vanish with a reset."""

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from demo import make_certificate, write_endpoints, write_secret, write_whole
from demo_check import Loopback

KILL_SHADOW = 5.0
"""Seconds after a worker was killed in which a lost connection is the kill's."""
WAIT = 15.0
"""Seconds that an answer may take."""
PLACES = ("nothing", "hello", "certificate", "head", "body", "answer", "frame")
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
DICE = random.Random()  # noqa: S311  no secret


def write(folder: Path, ports: list[int], turn: int) -> None:
    """Write all objects; each turn has other names, hosts and paths, other backends and another certificate.

    One of the endpoints of `web` refuses connections.
    """
    services = {service: ports[(turn + place) % len(ports)] for place, service in enumerate(("chat-0", "chat-1", "web"))}
    write_secret(folder, *make_certificate())
    write_endpoints(folder, services)
    objects = [
        f"""apiVersion: v1
kind: Service
metadata: {{name: {service}}}
spec: {{ports: [{{name: http, port: 80}}]}}
"""
        for service in services
    ]
    objects.append(
        f"""apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-2, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: {services["web"]}}}]
endpoints: [{{addresses: [127.0.0.2], conditions: {{ready: true}}}}]
"""
    )
    objects += [
        f"""apiVersion: sluice.dev/v1alpha1
kind: WsRoute
metadata: {{name: {name}}}
spec:
  ingressClassName: sluice
  hosts: [{name}.localhost, {name}-{turn}.localhost]
  {tls}
  rules:
  - name: fixed
    websocket: {{backends: [{{service: chat-0, port: 80}}]}}
    http: {{backends: [{{service: web, port: 80}}]}}
    close: &close {{drain: {{over: 5s}}}}
    keepalive: {{interval: 1s, misses: 20, to: Both}}
  - name: turn-{turn}
    path: {{type: Prefix, value: /turn-{turn}}}
    websocket: {{backends: [{{service: chat-{turn % 2}, port: 80}}]}}
    http: {{backends: [{{service: chat-{turn % 2}, port: 80}}]}}
    close: *close
"""
        for name, tls in (("plain", ""), ("secure", "tls: {secretName: chat-tls}"))
    ]
    write_whole(folder / "objects.yaml", "---\n".join(objects))


class Load:
    """The clients of one run, what they did and what went wrong."""

    def __init__(self, listening: dict[str, str]) -> None:
        self.port = {scheme: int(listening[scheme].rsplit(":", 1)[1]) for scheme in ("http", "https")}
        self.began = time.monotonic()
        self.turn = 0
        self.killed = -KILL_SHADOW
        self.count: Counter[str] = Counter()
        self.faults: list[str] = []
        self.trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts anybody: the certificate changes each second
        self.trust.check_hostname = False
        self.trust.verify_mode = ssl.CERT_NONE
        self.distrust = ssl.create_default_context()
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=Loopback(), ssl=self.trust, limit=0), timeout=aiohttp.ClientTimeout(total=WAIT)
        )

    def seconds(self) -> float:
        """Return how long the run has taken."""
        return time.monotonic() - self.began

    async def again(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do it over and over; what fails without a kill is a fault."""
        while True:
            try:
                await act()
            except (aiohttp.ClientError, OSError, EOFError) as error:
                self.count["lost"] += 1
                if self.seconds() - self.killed > KILL_SHADOW:
                    self.faults.append(f"{self.seconds():.0f} s: {act.__name__}: {type(error).__name__}: {error}")
                await asyncio.sleep(0.1)

    async def request(self) -> None:
        """Ask on a kept-alive connection, by a route's fixed path or by the newest."""
        await asyncio.sleep(DICE.random() / 5)
        url = DICE.choice((f"http://plain.localhost:{self.port['http']}", f"https://secure.localhost:{self.port['https']}"))
        path = DICE.choice(("/", f"/turn-{self.turn}"))
        method, body = DICE.choice((("GET", None), ("POST", bytes(DICE.randrange(1, 20000)))))
        async with self.session.request(method, url + path, data=body) as answer:
            if answer.status != 200 or await answer.read() != b"hello world\n":
                raise aiohttp.ClientError(f"{method} {path} was answered {answer.status}")
        self.count["requests"] += 1

    async def echo(self) -> None:
        """Open a WebSocket, have messages echoed for a while, close it; what takes its rule or endpoint away drains it before."""
        url = DICE.choice((f"ws://plain.localhost:{self.port['http']}", f"wss://secure.localhost:{self.port['https']}"))
        async with self.session.ws_connect(url + DICE.choice(("/", f"/turn-{self.turn}"))) as ws:
            until = self.seconds() + DICE.uniform(1, 60)
            while self.seconds() < until:
                sent = DICE.randbytes(DICE.choice((10, 300, 5000, 60000)))
                await ws.send_bytes(sent)
                got = await ws.receive(timeout=WAIT)
                if got.type is aiohttp.WSMsgType.CLOSE and got.data == 1012:
                    self.count["drained"] += 1
                    return
                if got.type is not aiohttp.WSMsgType.BINARY:
                    raise aiohttp.ClientError(f"a WebSocket ended: {got.type!r} {got.data!r}")
                if got.data != sent:
                    self.faults.append(f"{self.seconds():.0f} s: an echo was not what was sent")
                self.count["messages"] += 1
                await asyncio.sleep(DICE.random() / 2)

    async def vanish(self) -> None:
        """Leave with a reset: after no byte, in a hello, over the certificate, in a head, a body, an answer or a frame."""
        await asyncio.sleep(DICE.random() / 2)
        where, secure = DICE.choice(PLACES), DICE.random() < 0.5
        tls = self.trust if secure and where != "hello" else None
        host = "secure.localhost" if secure else "plain.localhost"
        port = self.port["https" if secure else "http"]
        if where == "certificate":
            with contextlib.suppress(ssl.SSLCertVerificationError):
                await asyncio.open_connection("127.0.0.1", self.port["https"], ssl=self.distrust, server_hostname=host)
            self.count["vanished"] += 1
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=host if tls else None)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            head = f"GET / HTTP/1.1\r\nHost: {host}\r\n"
            early = {"nothing": "", "hello": "\x16\x03\x01", "head": head, "body": f"{head}Content-Length: 99\r\n\r\nhalf"}
            writer.write(early.get(where, head + (UPGRADE if where == "frame" else "\r\n")).encode())
            if where == "frame":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"\x82\xfe\x10\x00maskhalf")
            await asyncio.sleep(DICE.random() / 5)
        finally:
            writer.transport.abort()
        self.count["vanished"] += 1
