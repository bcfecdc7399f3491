"""`make demo-check`: the demo on free ports, driven as a person would; prints each step and ends with 0 or 1."""

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import socketio
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from demo import EXAMPLE, DemoError, backends, make_certificate, sluice, write_endpoints, write_secret, write_whole

T = TypeVar("T")

WAIT = 15.0
"""Seconds that any one step may take."""
POLL = 0.02
CROWD = 6
"""Sockets of the replica that ends."""
GRACE = 3.0
"""Seconds over which they are closed."""

BAD_OBJECT = """apiVersion: sluice.dev/v1alpha1
kind: WsRoute
metadata: {name: wrong}
spec:
  ingressClassName: sluice
  hosts: [wrong.localhost]
  rules:
  - websocket:
      backends: [{service: chat-0, port: 8081}]
"""


class CheckError(Exception):
    """A step did not do what it should."""


class Loopback(AbstractResolver):
    """Every name is this machine, as browsers hold it for *.localhost."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Answer with 127.0.0.1."""
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is held."""


def step(text: str) -> None:
    """Print what was just seen to work."""
    print(f"ok    {text}", flush=True)


def expect(condition: object, sentence: str) -> None:
    """Fail with a sentence."""
    if not condition:
        raise CheckError(sentence)


async def until(what: str, look: Callable[[], Awaitable[T]], good: Callable[[T], object]) -> T:
    """Look again and again until it is good, for at most `WAIT` seconds."""
    found = None
    try:
        async with asyncio.timeout(WAIT):
            while True:
                found = await look()
                if good(found):
                    return found
                await asyncio.sleep(POLL)
    except TimeoutError:
        raise CheckError(f"{what} within {WAIT:g} s; last seen: {str(found)[:300]}") from None


class Visitor:
    """A person with a browser and a terminal: HTTPS that trusts the demo's certificates, a chat client, the admin port."""

    def __init__(self, https: str, http: str, admin: str, folder: Path) -> None:
        self.https = int(https.rsplit(":", 1)[1])
        self.http = int(http.rsplit(":", 1)[1])
        self.admin = admin
        self.folder = folder
        self.trust = ssl.create_default_context()

    def session(self) -> aiohttp.ClientSession:
        """Open a session that resolves every name to this machine."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=Loopback(), ssl=self.trust, force_close=True, use_dns_cache=False),
            timeout=aiohttp.ClientTimeout(total=WAIT),
        )

    async def get(self, host: str, path: str) -> tuple[int, str]:
        """GET over https on a fresh connection."""
        async with self.session() as session, session.get(f"https://{host}:{self.https}{path}", allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def ask_admin(self, path: str) -> str:
        """GET from the admin port."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.admin}{path}") as answer:
            return await answer.text()

    async def serial(self) -> int:
        """Return the serial number of the certificate served now."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", self.https, ssl=context, server_hostname="chat.localhost")
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(certificate).serial_number


class Chatter:
    """One Socket.IO client in the chat."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.client = socketio.AsyncClient(http_session=session, reconnection=False)
        self.heard: list[str] = []
        self.lost = False
        self.client.on("said", self._said)
        self.client.on("disconnect", self._gone)

    async def _said(self, data: dict[str, Any]) -> None:
        self.heard.append(data["text"])

    async def _gone(self, *_: object) -> None:
        self.lost = True


@contextlib.asynccontextmanager
async def chatting(visitor: Visitor, replica: int, transports: list[str]) -> AsyncIterator[Chatter]:
    """Be in the chat at one replica."""
    async with visitor.session() as session:
        chatter = Chatter(session)
        url = f"https://chat.localhost:{visitor.https}/?replica={replica}"
        await chatter.client.connect(url, transports=transports, wait_timeout=WAIT)
        try:
            yield chatter
        finally:
            await chatter.client.disconnect()


async def say(who: Chatter, text: str, *listeners: Chatter) -> None:
    """Send a message and see that everybody gets it."""
    answer = await who.client.call("say", text, timeout=WAIT)
    expect(answer == "delivered", f"the chat answered {answer!r}")
    for listener in listeners:

        async def heard(chatter: Chatter = listener) -> list[str]:
            return chatter.heard

        await until(f"{text!r} was not heard", heard, lambda said: text in said)


async def polling(visitor: Visitor) -> None:
    """Chat by long polling alone, as a client does that may not open WebSockets (Engine.IO 4, Socket.IO 5)."""
    url = f"https://chat.localhost:{visitor.https}/socket.io/?EIO=4&transport=polling&replica=0"
    async with visitor.session() as session:

        async def get(url: str) -> str:
            async with session.get(url) as answer:
                return await answer.text()

        opened = json.loads((await get(url))[1:])
        url += f"&sid={opened['sid']}"
        heard = ""
        for packet in ("40", '42["say","by polling"]'):
            async with session.post(url, data=packet) as answer:
                expect(answer.status == 200, f"polling answered {answer.status}")
        async with asyncio.timeout(WAIT):
            while "by polling" not in heard:
                heard += await get(url)
    step("chat by long polling")


async def pages(visitor: Visitor) -> None:
    """Load the page, and be redirected to it."""
    status, text = await visitor.get("chat.localhost", "/")
    expect(status == 200 and "Sluice chat" in text, f"the page answered {status}")
    step("page over https")
    async with (
        visitor.session() as session,
        session.get(f"http://chat.localhost:{visitor.http}/?a=b", allow_redirects=False) as answer,
    ):
        wanted = f"https://chat.localhost:{visitor.https}/?a=b"
        found = answer.headers.get("Location")
        expect(answer.status == 308 and found == wanted, f"plain http answered {answer.status}, Location {found}")
    step("plain http is redirected to https with 308")


async def edit_while_open(visitor: Visitor, first: Chatter, second: Chatter) -> None:
    """Change the route and the certificate, add a wrong object; the chat goes on."""
    route = visitor.folder / "route.yaml"
    original = route.read_text()
    status, _ = await visitor.get("chat.localhost", "/news/")
    expect(status == 404, f"the page server answered {status} for a page that it does not have")
    write_whole(route, original.replace("value: /}", "value: /moved}"))
    await until("the edited route was not served", lambda: visitor.get("chat.localhost", "/"), lambda r: "no route" in r[1].lower())
    await say(first, "after the edit", first, second)
    step("a route was edited: / is gone at once, the open sockets stayed")
    write_whole(route, original)
    await until("the restored route was not served", lambda: visitor.get("chat.localhost", "/"), lambda r: r[0] == 200)

    before = await visitor.serial()
    chain, key = make_certificate()
    visitor.trust.load_verify_locations(cadata=chain.decode())
    write_secret(visitor.folder, chain, key)
    await until("the new certificate was not served", visitor.serial, lambda serial: serial != before)
    await say(second, "after the certificate", first, second)
    step("the certificate was replaced: new connections get it, the open sockets stayed")

    write_whole(visitor.folder / "wrong.yaml", BAD_OBJECT)
    problems = await until("the problem was not shown", lambda: visitor.ask_admin("/problems"), lambda text: "8081" in text)
    expect('Service \\"default/chat-0\\" has no port 8081' in problems, f"the message is {problems}")
    status, _ = await visitor.get("chat.localhost", "/")
    expect(status == 200, f"the page answered {status} beside a wrong object")
    await say(first, "beside the wrong object", first, second)
    step("a wrong object was added: its message is shown at /problems, all else is served")
    expect(not first.lost and not second.lost, "a socket was lost")


async def metrics(visitor: Visitor) -> None:
    """See all of it in the metrics."""
    wanted = (
        'sluice_ws_connections{route="wsroute/default/chat/replica-0",service="default/chat-0:80"} 1.0',
        'sluice_ws_handshakes_total{code="101",route="wsroute/default/chat/replica-1"}',
        'sluice_ws_messages_total{direction="in",route="wsroute/default/chat/replica-0"}',
        'sluice_http_requests_total{code="200",method="GET",route="wsroute/default/chat/page",service="default/web:80"}',
        'sluice_problems{reason="PortNotFound"} 1.0',
    )
    text = await until(
        "the metrics did not show it", lambda: visitor.ask_admin("/metrics"), lambda text: all(line in text for line in wanted)
    )
    expect("sluice_tls_handshakes_total" in text, "no TLS handshakes in the metrics")
    step("the metrics show the sockets, messages, requests and the problem")


def endpoints_while_ending(ports: dict[str, int]) -> str:
    """Write slices in which the first replica of the chat terminates, and the other one serves its Service too."""
    ending, ready = "ready: false, serving: true, terminating: true", "ready: true"
    wanted = (
        ("chat-0", ports["chat-0"], ending),
        ("chat-0", ports["chat-1"], ready),
        ("chat-1", ports["chat-1"], ready),
        ("web", ports["web"], ready),
    )
    return "---\n".join(
        f"""apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-{number}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1], conditions: {{{conditions}}}}}]
"""
        for number, (service, port, conditions) in enumerate(wanted)
    )


async def replica_that_ends(visitor: Visitor, ports: dict[str, int]) -> None:
    """Terminate a replica with sockets open: they get 1012 in time, and come back to the other one."""
    route = visitor.folder / "route.yaml"
    write_whole(
        route, route.read_text().replace("- name: replica-0\n", f"- name: replica-0\n    close: {{drain: {{over: {GRACE:g}s}}}}\n")
    )
    await until("the route's drain was not served", lambda: visitor.ask_admin("/routes"), lambda text: f'"over": {GRACE}' in text)
    url = f"https://chat.localhost:{visitor.https}/socket.io/?EIO=4&transport=websocket&replica=0"

    async def endpoints() -> list[str]:
        found = json.loads(await visitor.ask_admin("/sockets"))
        return [row["endpoint"] for row in found if not row.get("closing")]

    async def visit(session: aiohttp.ClientSession, opened: asyncio.Event) -> tuple[int | None, float]:
        """Hold a socket until it is closed; open another then. Return the close code, and when it came."""
        async with session.ws_connect(url) as first:
            message = await first.receive()
            opened.set()
            while message.type is aiohttp.WSMsgType.TEXT:
                message = await first.receive()
            told = message.data if message.type is aiohttp.WSMsgType.CLOSE else 1006
        await held.enter_async_context(session.ws_connect(url))
        return told, asyncio.get_running_loop().time()

    async with visitor.session() as session, contextlib.AsyncExitStack() as held, asyncio.timeout(2 * WAIT):
        opened = [asyncio.Event() for _ in range(CROWD)]
        visits = [asyncio.create_task(visit(session, event)) for event in opened]
        await asyncio.gather(*(event.wait() for event in opened))
        began = asyncio.get_running_loop().time()
        write_whole(visitor.folder / "generated" / "endpoints.yaml", endpoints_while_ending(ports))
        told = await asyncio.gather(*visits)
        expect(
            {code for code, _ in told} == {1012}, f"sockets of the replica that ends saw {sorted(str(code) for code, _ in told)}"
        )
        late = max(at for _, at in told) - began
        expect(late < GRACE + 1, f"the last one was told after {late:.1f} s")
        other = f"127.0.0.1:{ports['chat-1']}"
        await until("they did not come back to the other replica", endpoints, lambda found: found == [other] * CROWD)
    line = f'sluice_ws_closes_total{{by="proxy:endpoint_terminating",code="1012",route="wsroute/default/chat/replica-0"}} {CROWD}.0'
    await until("the metrics did not show why", lambda: visitor.ask_admin("/metrics"), lambda text: line in text)
    step("a replica ended: its sockets were told 1012 within its time, and came back to the other one")


async def drive(visitor: Visitor, ports: dict[str, int]) -> None:
    """Do what a person would, step by step."""
    await until("not ready", lambda: visitor.ask_admin("/readyz"), lambda text: "not" not in text.lower())
    step("ready")
    await pages(visitor)
    await polling(visitor)
    async with chatting(visitor, 0, ["polling", "websocket"]) as first, chatting(visitor, 1, ["polling", "websocket"]) as second:
        expect(first.client.transport() == "websocket", f"the transport is {first.client.transport()}")
        step("polling was upgraded to a WebSocket")
        await say(first, "hello", first, second)
        await say(second, "hello yourself", first, second)
        step("messages went both ways between the two replicas")
        await edit_while_open(visitor, first, second)
        await metrics(visitor)
    await replica_that_ends(visitor, ports)


def main() -> int:
    """Run the check; return the exit code."""
    try:
        with tempfile.TemporaryDirectory() as scratch, backends() as ports:
            folder = Path(scratch) / "chat"
            shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("generated"))
            chain, key = make_certificate()
            write_secret(folder, chain, key)
            write_endpoints(folder, ports)
            free = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-time", "1s"]
            with sluice(folder, free) as (_, listening):
                step("sluice standalone listens on " + ", ".join(f"{name} {address}" for name, address in listening.items()))
                visitor = Visitor(listening["https"], listening["http"], listening["admin"], folder)
                visitor.trust.load_verify_locations(cadata=chain.decode())
                asyncio.run(drive(visitor, ports))
        step("everything ended")
    except (CheckError, DemoError, aiohttp.ClientError, socketio.exceptions.SocketIOError, OSError, TimeoutError) as error:
        print(f"FAIL  {type(error).__name__}: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
