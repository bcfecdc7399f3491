"""Real `sluice-proxy` processes under faults: stalls, slow readers of endless answers, endpoints that fail, churn."""

import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from e2e.harness import HOST, Hub, Proxy, backend, config, get, issue, ok, proxy, trusting, until

from proxy.websocket.handshake import accept_for

MIB = 1024 * 1024
GIB = 1024 * MIB
READERS = 8


def lags_over(metrics: str, bound: str) -> float:
    """How many turns of a worker's loop came later than a bucket's bound."""
    counts = {
        found[1]: float(found[2])
        for found in re.finditer(r'^sluice_worker_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', metrics, re.MULTILINE)
    }
    return counts["+Inf"] - counts[bound]


@pytest.mark.parametrize("stall", [0.2, 0.5])
async def test_stall_of_the_loop_is_seen_and_nobody_loses_an_answer(hub: Hub, stall: float) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port))
        await one.ready()
        (worker,) = one.workers()
        before = lags_over((await one.ask("/metrics"))[1], "0.05")
        os.kill(worker, signal.SIGSTOP)
        waiting = [asyncio.create_task(get(one.http)) for _ in range(20)]
        health, _ = await one.ask("/healthz")
        await asyncio.sleep(stall)  # this is the stall
        os.kill(worker, signal.SIGCONT)
        answers = await asyncio.gather(*waiting)
        after = lags_over((await one.ask("/metrics"))[1], "0.05")
        workers = one.workers()

    assert after > before
    assert health == 200
    assert all(ok(answer) for answer in answers)
    assert workers == [worker]


async def test_endpoint_that_is_left_out_is_shown_as_such_on_the_admin_port(hub: Hub) -> None:
    async with backend() as good, proxy(hub, "--workers", "2") as one:
        async with backend() as gone:
            pass
        hub.publish(config(good, others=(gone,)))
        await one.ready()
        async with asyncio.timeout(20):
            while True:
                assert ok(await get(one.http))
                (route,) = json.loads((await one.ask("/routes"))[1])
                (shown,) = route["http"]["backends"]
                left_out = {endpoint["port"]: endpoint["ejected_by"] for endpoint in shown["endpoints"]}
                if left_out[gone] == 2:
                    break

    assert left_out == {good: 0, gone: 2}


@pytest.mark.parametrize("how", ["flag", "variable"])
async def test_log_level_says_which_lines_are_written(hub: Hub, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for level in ("info", "error"):
        if how == "variable":
            monkeypatch.setenv("SLUICE_LOG_LEVEL", level)
        async with (
            backend() as port,
            proxy(hub, *(("--log-level", level) if how == "flag" else ()), stderr=asyncio.subprocess.PIPE) as one,
        ):
            hub.publish(config(port))
            await one.ready()
            one.process.terminate()
            async with asyncio.timeout(20):
                _, errors = await one.process.communicate()
            written.append(b" INFO " in errors)

    assert written == [True, False]


def resident(pid: int, *, peak: bool = False) -> int:
    """KiB of memory that a process has, or had at most since `forget_peak`."""
    name = "VmHWM" if peak else "VmRSS"
    return next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name))


def open_connections(metrics: str) -> float:
    """How many clients' connections are open."""
    return sum(float(count) for count in re.findall(r"^sluice_connections\{[^}]*\} (\S+)$", metrics, re.MULTILINE))


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5)


class Endless:
    """A raw backend that sends a GiB to everybody who asks, as fast as it is taken: an answer's body, or a frame."""

    def __init__(self) -> None:
        self.sent = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            key = re.search(r"(?im)^sec-websocket-key: *(\S+)", head)
            if key is None:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
            else:
                accept = accept_for(key[1])
                writer.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n\x82\x7f" + GIB.to_bytes(8, "big")
                )
            block = bytes(256 * 1024)
            for _ in range(GIB // len(block)):
                writer.write(block)
                await writer.drain()
                self.sent += len(block)
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Endless"]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def stuck(self) -> None:
        """Wait until nobody takes anything for a while."""
        async with asyncio.timeout(20):
            seen, same = -1, 0
            while same < 5:
                await asyncio.sleep(0.02)
                same = same + 1 if self.sent == seen else 0
                seen = self.sent


ASK = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
ASK_WS = (
    f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("asked", [ASK, ASK_WS], ids=["http", "ws"])
async def test_slow_reader_of_a_gibibyte_costs_a_worker_under_a_mebibyte(hub: Hub, asked: bytes, secure: bool) -> None:
    """Eight of them at their common peak, against what the worker has when a quick one has read of such a stream and is gone."""
    authority = trustme.CA()
    context = trusting(authority)
    async with Endless().running() as endless, proxy(hub, "--workers", "1") as one:
        hub.publish(config(endless.port, issue(authority, HOST)))
        await one.ready()
        (worker,) = one.workers()

        async def opened() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            port, tls = (one.https, {"ssl": context, "server_hostname": HOST}) if secure else (one.http, {})
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024, **tls)
            writer.write(asked)
            await reader.readuntil(b"\r\n\r\n")
            return reader, writer

        reader, writer = await opened()
        for _ in range(128):
            await reader.readexactly(MIB)
        writer.transport.abort()
        async with asyncio.timeout(10):
            while open_connections((await one.ask("/metrics"))[1]):
                await asyncio.sleep(0.02)
        before = resident(worker)
        forget_peak(worker)
        endless.sent = 0
        slow = [await opened() for _ in range(READERS)]
        for _ in range(3):
            await endless.stuck()
            for reader, _ in slow:
                for _ in range(8):
                    await reader.readexactly(MIB)
        await endless.stuck()
        after = resident(worker, peak=True)
        sent = endless.sent
        for _, writer in slow:
            writer.transport.abort()

    assert sent > READERS * 24 * MIB
    assert after - before < READERS * 1024


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def of_clients(one: Proxy, state: str) -> list[str]:
    """Sockets of a state (proc(5): 08 is CLOSE_WAIT) on the ports that clients use."""
    ports = {f":{port:04X}" for port in (one.http, one.https)}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[1][-5:] in ports and row[3] == state]


async def visits(one: Proxy, context: ssl.SSLContext, host: str) -> None:
    """Come as all kinds of clients: some ask, some talk over a WebSocket, some vanish in the middle of whatever they do."""
    for _ in range(4):
        assert ok(await get(one.http, host=host))
    for _ in range(2):
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", one.https, ssl=context, server_hostname=host)
            writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert ok(await reader.read())
            writer.transport.abort()
    for begun in (b"", b"GET / HTTP/1.1\r\nHo", b"\x16\x03\x01\x02\x00\x01", ASK_WS.replace(HOST.encode(), host.encode())):
        for port in (one.http, one.https):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            writer.transport.abort()
    async with asyncio.timeout(10):
        for secure in (False, True):
            port, tls = (one.https, {"ssl": context, "server_hostname": host}) if secure else (one.http, {})
            reader, writer = await asyncio.open_connection("127.0.0.1", port, **tls)
            writer.write(ASK_WS.replace(HOST.encode(), host.encode()))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(b"\x81\x82\0\0\0\0hi")
            assert await reader.readexactly(4) == b"\x81\x02hi"
            writer.transport.abort()


async def test_churn_leaves_descriptors_and_memory_as_they_were(hub: Hub) -> None:
    """The soak in small: routes, endpoints and certificates come and go, clients vanish, a worker is killed again and again."""
    authority = trustme.CA()
    context = trusting(authority)

    async def rounds(one: Proxy, ports: tuple[int, int], count: int) -> dict[int, tuple[int, int]]:
        """Churn; return the descriptors and KiB of the supervisor and the steady worker when all is quiet again."""
        steady = one.workers()[0]
        for number in range(count):
            host = f"h{number}.example.com"
            hub.publish(config(ports[number % 2], issue(authority, host), host))
            await hub.acknowledged()
            await visits(one, context, host)
            if number % 5 == 4:
                (other,) = set(one.workers()) - {steady}
                os.kill(other, signal.SIGKILL)
                await until(lambda gone=other: gone not in one.workers() and len(one.workers()) == 2)
        async with backend() as quiet:
            hub.publish(config(quiet))
            await hub.acknowledged()
            async with asyncio.timeout(10):
                while "sluice_upstream_connections{" in (metrics := (await one.ask("/metrics"))[1]) and (
                    open_connections(metrics) or not re.search(r"^sluice_upstream_connections\{.*\} 0\.0$", metrics, re.MULTILINE)
                ):
                    await asyncio.sleep(0.02)
            return {pid: (descriptors(pid), resident(pid)) for pid in (one.process.pid, steady)}

    async with backend() as first, backend() as second, proxy(hub, "--workers", "2") as one:
        hub.publish(config(first))
        await one.ready()
        before = await rounds(one, (first, second), 15)
        after = await rounds(one, (first, second), 30)
        left = of_clients(one, "08")

    grown = {pid: (after[pid][0] - before[pid][0], after[pid][1] - before[pid][1]) for pid in before}
    # A descriptor left in each round would be thirty, a TLS socket with its buffers 4 MiB.
    assert [pid for pid, (files, kib) in grown.items() if files > 4 or kib > 2048] == []
    assert left == []
