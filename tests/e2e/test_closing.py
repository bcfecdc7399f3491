"""Real processes: sockets that a change, a signal or a command closes, seen by their clients; and the commands themselves."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from e2e.harness import HOST, Hub, Proxy, backend, config, proxy, until

from controller.admin_client import CommandError, fetch_sockets, order_drain
from proxy.model.config import Endpoint, ProxyConfig, Upstream
from proxy.model.policy import Close, Drain
from proxy.model.sockets import DrainOrder

ROUTE, SERVICE = "wsroute/default/shop/all", "default/shop:80"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can look into."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class Clients:
    """Open sockets, and when and how each was closed."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._port = port
        self.sockets: list[aiohttp.ClientWebSocketResponse] = []
        self.ended: list[tuple[int, float, int | None, str]] = []
        self.echoes = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, count: int) -> None:
        for _ in range(count):
            one = await self._session.ws_connect(f"http://127.0.0.1:{self._port}/ws", headers={"Host": HOST})
            self.sockets.append(one)
            self._tasks.append(asyncio.create_task(self._watch(len(self.sockets) - 1, one)))

    async def _watch(self, number: int, one: aiohttp.ClientWebSocketResponse) -> None:
        message = await one.receive()
        while message.type is aiohttp.WSMsgType.TEXT:
            self.echoes += 1
            message = await one.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE
        self.ended.append((number, asyncio.get_running_loop().time(), message.data, message.extra or ""))
        await one.close()

    async def all_ended(self, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Close what is open: a connection that is left to the collector fails whichever test runs then."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with asyncio.timeout(15):
            await asyncio.gather(*(one.close() for one in self.sockets))

    def tenths(self, over: float, start: float) -> list[int]:
        found = [0] * 10
        for _, at, _, _ in self.ended:
            found[max(0, min(9, int(10 * (at - start) / over)))] += 1
        return found


@contextlib.asynccontextmanager
async def clients(one: Proxy) -> AsyncIterator[Clients]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        made = Clients(session, one.http)
        try:
            yield made
        finally:
            await made.stop()


async def none_left(path: Path) -> None:
    """Wait until the backends have answered too."""
    async with asyncio.timeout(10):
        while await fetch_sockets(str(path)):
            await asyncio.sleep(0.02)


def with_close(found: ProxyConfig, close: Close) -> ProxyConfig:
    route = msgspec.structs.replace(found.routes[ROUTE], policies=(close,))
    return msgspec.structs.replace(found, routes={ROUTE: route})


async def test_route_removed_closes_its_two_hundred_sockets_evenly_over_all_workers(hub: Hub) -> None:
    close = Close(drain=Drain(4.0, 4012, "gone"))
    async with backend() as port, proxy(hub, "--workers", "2") as one, clients(one) as found:
        hub.publish(with_close(config(port), close))
        await one.ready()
        await found.open(200)
        start = asyncio.get_running_loop().time()
        hub.publish(msgspec.structs.replace(config(port), routes={}, upstreams={}))
        await found.all_ended(15)
        _, metrics = await one.ask("/metrics")
        tenths = found.tenths(4.0, start)

    assert [(code, reason) for _, _, code, reason in found.ended] == [(4012, "gone")] * 200
    assert 'sluice_ws_closes_total{by="proxy:route_deleted",code="4012",route="-"} 200.0' in metrics
    # 200 ms after 400 ms of a second worker's and the client's own, on a machine that others use.
    assert all(10 <= count <= 30 for count in tenths), tenths


async def test_endpoint_that_terminates_is_left_and_the_others_keep_their_sockets(hub: Hub) -> None:
    close = Close(drain=Drain(0.5, 1012, "service restart"))
    async with backend() as first, backend() as second, proxy(hub, "--workers", "2") as one, clients(one) as found:
        whole = with_close(config(first, others=[second]), close)
        hub.publish(whole)
        await one.ready()
        await found.open(40)
        rows = json.loads((await one.ask("/sockets"))[1])
        leaving = sum(row["endpoint"] == f"127.0.0.1:{first}" for row in rows)
        ending = Upstream((Endpoint("127.0.0.1", first, "draining"), Endpoint("127.0.0.1", second)))
        hub.publish(msgspec.structs.replace(whole, upstreams={SERVICE: ending}))
        await until(lambda: len(found.ended) == leaving)
        await found.open(10)
        rows = json.loads((await one.ask("/sockets"))[1])

    assert len(rows) == 50 - leaving
    assert {row["endpoint"] for row in rows} == {f"127.0.0.1:{second}"}
    assert [(code, reason) for _, _, code, reason in found.ended] == [(1012, "service restart")] * leaving


async def test_sockets_of_both_workers_are_listed_and_drained_by_command(hub: Hub) -> None:
    path = hub.path.with_name("admin.sock")
    async with (
        backend() as port,
        proxy(hub, "--workers", "2", "--admin-socket", str(path), "--drain-time", "1s") as one,
        clients(one) as found,
    ):
        hub.publish(config(port))
        await one.ready()
        await found.open(30)
        await found.sockets[0].send_str("hello")
        await until(lambda: found.echoes == 1)
        rows = await fetch_sockets(str(path))
        none = await order_drain(str(path), DrainOrder("wsroute/default/other"))
        count = await order_drain(str(path), DrainOrder(f"127.0.0.1:{port}", 0.5, 4001, "by hand"))
        with pytest.raises(CommandError, match="code is 1006"):
            await order_drain(str(path), DrainOrder(ROUTE, 1.0, 1006))
        closing = await fetch_sockets(str(path))
        await found.all_ended(10)
        await none_left(path)
        await found.open(1)
        (left,) = await fetch_sockets(str(path))
        mode = path.stat().st_mode & 0o777
        _, metrics = await one.ask("/metrics")
        one.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await one.process.wait()

    assert len({row.id for row in rows}) == 30
    assert {(row.route, row.service, row.endpoint, row.client) for row in rows} == {
        (ROUTE, SERVICE, f"127.0.0.1:{port}", "127.0.0.1")
    }
    assert sorted((row.messages_in, row.messages_out, row.bytes_in, row.bytes_out) for row in rows)[28:] == [(0,) * 4, (1, 1, 5, 5)]
    assert (none, count) == (0, 30)
    assert {row.closing for row in closing} <= {"command"}
    assert [(code, reason) for _, _, code, reason in found.ended[:30]] == [(4001, "by hand")] * 30
    assert 'by="proxy:command",code="4001"' in metrics
    assert left.age < 10
    assert (mode, path.exists()) == (0o600, False)


async def test_commands_show_and_drain_as_a_user_types_them(hub: Hub) -> None:
    path = hub.path.with_name("admin.sock")

    async def sluice(*arguments: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controller.cli", *arguments, "--admin-socket", str(path)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async with backend() as port, proxy(hub, "--workers", "1", "--admin-socket", str(path)) as one, clients(one) as found:
        hub.publish(config(port))
        await one.ready()
        await found.open(3)
        shown = await sluice("sockets")
        as_json = await sluice("sockets", "--format", "json")
        wrong = await sluice("drain", ROUTE, "--code", "1005")
        drained = await sluice("drain", "wsroute/default/shop", "--over", "0s", "--reason", "bis später")
        await found.all_ended(10)
    absent = await sluice("sockets")

    head, *lines = shown[1].splitlines()
    assert head.split() == [
        "ROUTE",
        "ENDPOINT",
        "CLIENT",
        "AGE",
        "IDLE",
        "IN",
        "OUT",
        "BYTES",
        "IN",
        "BYTES",
        "OUT",
        "RTT",
        "CLOSING",
    ]
    assert [line.split()[:3] for line in lines] == [[ROUTE, f"127.0.0.1:{port}", "127.0.0.1"]] * 3
    assert len(json.loads(as_json[1])) == 3
    assert (wrong[0], wrong[2]) == (
        1,
        "code is 1005; 1000 to 1014 other than 1004, 1005 and 1006, or 3000 to 4999, would be accepted.\n",
    )
    assert drained == (0, "3 sockets are closed over 0s.\n", "")
    assert [(code, reason) for _, _, code, reason in found.ended] == [(1012, "bis später")] * 3
    assert absent[0] == 1
    assert absent[2].startswith(f"The proxy cannot be asked at {path}: ")
    assert "ssl:" not in absent[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
async def test_commands_of_another_user_are_refused_whatever_the_files_mode(hub: Hub, open_folder: Path) -> None:
    path = open_folder / "admin.sock"
    async with backend() as port, proxy(hub, "--workers", "1", "--admin-socket", str(path)) as one:
        hub.publish(config(port))
        await one.ready()
        path.chmod(0o666)
        script = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            "s.sendall(b'GET /v1/sockets HTTP/1.1\\r\\nHost: proxy\\r\\nConnection: close\\r\\n\\r\\n');"
            "print(s.makefile('rb').readline().decode().strip())"
        )
        process = await asyncio.create_subprocess_exec(
            *("/usr/bin/python3", "-c", script, str(path)), stdout=asyncio.subprocess.PIPE, user=65534, group=65534
        )
        async with asyncio.timeout(20):
            out, _ = await process.communicate()
        own = await fetch_sockets(str(path))

    assert out.decode().strip() == "HTTP/1.1 403 Forbidden"
    assert own == []


async def test_sigterm_closes_two_hundred_sockets_evenly_with_1001_over_all_workers(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2", "--drain-time", "4s") as one, clients(one) as found:
        hub.publish(with_close(config(port), Close(drain=Drain(1.0, 4012, "gone"))))
        await one.ready()
        await found.open(200)
        start = asyncio.get_running_loop().time()
        one.process.send_signal(signal.SIGTERM)
        await found.all_ended(15)
        async with asyncio.timeout(15):
            status = await one.process.wait()

    assert [(code, reason) for _, _, code, reason in found.ended] == [(1001, "")] * 200
    assert all(10 <= count <= 30 for count in found.tenths(4.0, start))
    assert status == 0


async def test_second_cause_neither_restarts_nor_doubles_a_drain_that_is_under_way(hub: Hub) -> None:
    close = Close(drain=Drain(4.0, 4012, "gone"))
    async with backend() as port, proxy(hub, "--workers", "2") as one, clients(one) as found:
        whole = with_close(config(port), close)
        hub.publish(whole)
        await one.ready()
        await found.open(100)
        start = asyncio.get_running_loop().time()
        ending = Upstream((Endpoint("127.0.0.1", port, "draining"),))
        hub.publish(msgspec.structs.replace(whole, upstreams={SERVICE: ending}))
        await until(lambda: len(found.ended) >= 40)
        hub.publish(msgspec.structs.replace(whole, routes={}, upstreams={}))
        await found.all_ended(15)
        _, metrics = await one.ask("/metrics")
        tenths = found.tenths(4.0, start)

    assert [(code, reason) for _, _, code, reason in found.ended] == [(4012, "gone")] * 100
    assert found.ended[-1][1] - start < 4.5
    assert all(5 <= count <= 15 for count in tenths), tenths
    assert "proxy:endpoint_terminating" in metrics
    assert 'by="proxy:route_deleted"' not in metrics
