"""The life of WebSockets on a real node: closed well, refused, placed and kept alive while Kubernetes objects change."""

import asyncio
import itertools
import json
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import socketio
from cluster.nodes import Namespace
from cluster.serving import Release, deployment
from cluster_node import Node

pytestmark = pytest.mark.timeout(180)
GRACE = 20
PACED = GRACE - 2
"""Seconds that the sockets of a pod have: all of its grace period but two."""
BACKENDS = [{"service": "chat", "port": 80}]
PATIENT = 20
"""Seconds that a Socket.IO client waits for an answer; by default it gives its namespace one."""
CLIENT = """
import asyncio, sys, websockets.asyncio.client

async def main(host, address, port):
    async with websockets.asyncio.client.connect(f"ws://{host}/", host=address, port=int(port), ping_interval=None) as opened:
        await opened.send("hello")
        await opened.recv()
        print("open", flush=True)
        await opened.wait_closed()

asyncio.run(main(*sys.argv[1:]))
"""


class Chat(Namespace):
    """A namespace with two pods that have `GRACE` seconds to end and leave all closing to the proxy; one proxy pod, two workers."""

    def __init__(self, release: Release, name: str) -> None:
        super().__init__(release.node, name)
        self.release = release
        self.port = release.ports()["http"]
        self.address = f"http://{release.node.address}:{self.port}"

    def open(self) -> None:
        self.kubectl("create", "namespace", self.name)
        self.wait("create", "serviceaccount/default")
        pods, service = deployment("chat", 2)
        spec = pods["spec"]["template"]["spec"]
        spec["terminationGracePeriodSeconds"] = GRACE
        spec["containers"][0]["env"] = [{"name": "NOTICE", "value": "3600"}]
        self.apply(pods, service)
        self.kubectl("rollout", "status", "deployment/chat", "--timeout=60s")

    def serve(self, name: str, **rule: Any) -> None:
        """Apply a route of this name and host, and wait until it is served."""
        spec = {
            "ingressClassName": self.release.name,
            "hosts": [host(name)],
            "rules": [{"websocket": {"backends": BACKENDS}, **rule}],
        }
        self.apply({"apiVersion": "sluice.dev/v1alpha1", "kind": "WsRoute", "metadata": {"name": name}, "spec": spec})
        self.wait("condition=Programmed", f"wsroute/{name}")

    def pods(self) -> list[str]:
        """Return the names of the pods that are not ending."""
        found = json.loads(self.kubectl("get", "pods", "--selector=app=chat", "-o=json"))["items"]
        return [one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]]

    def client(self, name: str) -> aiohttp.ClientSession:
        """A client of a route, without cookies."""
        return aiohttp.ClientSession(
            self.address,
            headers={"Host": host(name)},
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=15),
        )

    def closes(self, name: str, cause: str) -> dict[str, float]:
        """Return how many sockets of a route the proxy has closed for a cause, by code."""
        (pod,) = self.release.pods()
        labels = f'route="wsroute/{self.name}/{name}/0"', f'by="proxy:{cause}"'
        lines = [line for line in self.release.metrics(pod).splitlines() if line.startswith("sluice_ws_closes_total{")]
        return {
            line.split('code="')[1].split('"')[0]: float(line.split()[-1])
            for line in lines
            if all(label in line for label in labels)
        }


def host(name: str) -> str:
    return f"{name}.example.com"


@pytest.fixture(scope="module")
def chat(images: Node) -> Iterator[Chat]:
    release = Release(images, f"life-{secrets.token_hex(3)}")
    release.helm("install", "--create-namespace", replicaCount=1, proxy={"workers": 2, "drainTime": "3s"})
    one = Chat(release, f"chat-{secrets.token_hex(3)}")
    one.open()
    yield one
    for namespace in (one, release):
        namespace.kubectl("delete", "namespace", namespace.name, "--wait=false")


Socket = aiohttp.ClientWebSocketResponse


async def who(opened: Socket) -> str:
    """Ask a socket for its pod."""
    await opened.send_str("who")
    return await opened.receive_str()


async def end(opened: Socket) -> tuple[int | None, str | None, float]:
    """Wait until a socket is closed; return code, reason and when. Without a frame the code is 1006."""
    message = await opened.receive()
    return opened.close_code, message.extra, time.monotonic()


async def refusal(session: aiohttp.ClientSession, path: str = "/", **headers: str) -> tuple[int, bool]:
    """Ask for a WebSocket; return the status of the answer, and whether it says when to come back."""
    try:
        async with session.ws_connect(path, headers=headers):
            return 101, False
    except aiohttp.WSServerHandshakeError as error:
        return error.status, error.headers is not None and "Retry-After" in error.headers


async def test_deleted_route_answers_404_at_once_and_closes_its_sockets_one_after_the_other(chat: Chat) -> None:
    chat.serve("removed", http={"backends": BACKENDS}, close={"drain": {"over": "4s"}})
    async with chat.client("removed") as session:
        opened = [await session.ws_connect("/") for _ in range(16)]
        ends = [asyncio.create_task(end(one)) for one in opened]
        async with session.get("/") as answer:
            before = answer.status
        # kubectl returns when it has heard of the end itself; by then the drain may be over.
        deleting = asyncio.create_task(asyncio.to_thread(chat.kubectl, "delete", "wsroute", "removed"))
        async with asyncio.timeout(20):
            while True:
                async with session.get("/") as answer:
                    if answer.status == 404:
                        break
        left = sum(not one.done() for one in ends)
        await deleting
        async with asyncio.timeout(20):
            seen = await asyncio.gather(*ends)

    times = sorted(when for _, _, when in seen)
    assert before == 200
    assert left > len(seen) / 2
    assert {(code, reason) for code, reason, _ in seen} == {(1012, "service restart")}
    assert 2 < times[-1] - times[0] < 6
    assert max(second - first for first, second in itertools.pairwise(times)) < 1.5


async def test_limit_that_is_lowered_counts_sockets_that_are_open_already_and_refuses_more_with_503(chat: Chat) -> None:
    chat.serve("limited", limits={"connections": 100})
    async with chat.client("limited") as session:
        opened = [await session.ws_connect("/") for _ in range(3)]
        await asyncio.to_thread(chat.serve, "limited", limits={"connections": 3})
        over = [await refusal(session) for _ in range(8)]
        answers = [await who(one) for one in opened]
        await opened.pop().close()
        async with asyncio.timeout(10):
            while (await refusal(session))[0] != 101:
                pass

    assert over == [(503, True)] * 8
    assert set(answers) <= set(chat.pods())


async def test_origins_that_are_applied_refuse_others_with_403(chat: Chat) -> None:
    chat.serve("listed")
    async with chat.client("listed") as session:
        before = await refusal(session, Origin="https://evil.example.com")
        await asyncio.to_thread(chat.serve, "listed", origins=["https://*.example.org"])
        refused = [await refusal(session, Origin=one) for one in ("https://evil.example.com", "https://example.org", "null")]
        absent = await refusal(session)
        taken = await refusal(session, Origin="https://app.example.org")

    assert before == taken == (101, False)
    assert [*refused, absent] == [(403, False)] * 4


async def test_socket_io_clients_without_cookies_upgrade_at_the_pod_that_they_polled(chat: Chat) -> None:
    chat.serve("support", http={"backends": BACKENDS}, affinity={"engineIO": {}})

    async def talk() -> tuple[str, str]:
        async with chat.client("support") as session:
            web = socketio.AsyncClient(http_session=session, reconnection=False, request_timeout=PATIENT)
            await web.connect(chat.address, wait_timeout=PATIENT)  # polling first, as every client does by default
            said = await web.call("say", "hello", timeout=10)
            transport = web.transport()
            await web.disconnect()
        return transport, said.removesuffix(": hello")

    async with asyncio.timeout(60):
        talks = await asyncio.gather(*(talk() for _ in range(40)))

    assert {transport for transport, _ in talks} == {"websocket"}
    assert {pod for _, pod in talks} == set(chat.pods())


async def test_path_names_the_pod_that_a_socket_goes_to(chat: Chat) -> None:
    chat.serve("rooms", path={"value": "/rooms"}, websocket={"backends": BACKENDS, "target": "Pod"})
    wanted = chat.pods() * 3
    async with chat.client("rooms") as session:
        found = []
        for name in wanted:
            async with session.ws_connect(f"/rooms/{name}/lobby") as opened:
                found.append(await who(opened))
        unknown = [await refusal(session, path) for path in ("/rooms/chat-0", "/rooms", f"/rooms/{chat.node.address}")]

    assert found == wanted
    assert unknown == [(404, False)] * 3


async def test_client_that_is_frozen_is_closed_and_counted_while_others_stay(chat: Chat) -> None:
    chat.serve("frozen", keepalive={"interval": "1s", "misses": 2})
    command = [sys.executable, "-c", CLIENT, host("frozen"), chat.node.address, str(chat.port)]
    async with chat.client("frozen") as session:
        alive = await session.ws_connect("/")
        ended = asyncio.create_task(end(alive))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                assert await process.stdout.readline() == b"open\n"
            before = await asyncio.to_thread(chat.closes, "frozen", "ping_timeout")
            process.send_signal(signal.SIGSTOP)
            async with asyncio.timeout(20):
                while not (counted := await asyncio.to_thread(chat.closes, "frozen", "ping_timeout")):
                    pass
        finally:
            process.kill()
            await process.wait()
        stays = not ended.done()
        ended.cancel()

    assert before == {}
    assert list(counted.values()) == [1]
    assert stays


async def test_pod_that_is_deleted_has_its_sockets_closed_over_its_grace_period(chat: Chat) -> None:
    chat.serve("chat")
    deleted, _ = chat.pods()
    async with chat.client("chat") as session:
        opened = [await session.ws_connect("/") for _ in range(72)]
        pods = [await who(one) for one in opened]
        ends = {one: asyncio.create_task(end(one)) for one in opened}
        leaving = [ends[one] for one, pod in zip(opened, pods, strict=True) if pod == deleted]
        began = time.monotonic()
        await asyncio.to_thread(chat.kubectl, "delete", "pod", deleted, "--wait=false")
        async with asyncio.timeout(10):
            await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
        fresh = [await session.ws_connect("/") for _ in range(20)]
        elsewhere = {await who(one) for one in fresh}
        first = sum(not one.done() for one in leaving)
        async with asyncio.timeout(GRACE + 10):
            seen = await asyncio.gather(*leaving)
        stay = [one for one in ends.values() if one not in leaving]
        kept = sum(not one.done() for one in stay)
        for one in stay:
            one.cancel()

    times = sorted(when - began for _, _, when in seen)
    thirds = [sum(PACED * third / 3 <= when < PACED * (third + 1) / 3 for when in times) for third in range(3)]
    assert len(leaving) >= 24
    assert {(code, reason) for code, reason, _ in seen} == {(1012, "service restart")}
    assert deleted not in elsewhere
    assert first > len(leaving) / 2
    assert times[-1] < GRACE
    assert times[-1] - times[0] > PACED * 0.75
    assert min(thirds) >= len(leaving) / 5, times
    assert kept == len(stay) > 0
