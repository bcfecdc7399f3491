"""10,000 sockets over two workers: changes leave them alone, and a drain of half of them is even."""

import asyncio
import json
import re
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from e2e.harness import HOST, Hub, config, proxy

from proxy.model.config import Endpoint, EndpointState, ProxyConfig, Upstream
from proxy.model.policy import Close, CloseMode, Drain, Timeouts

SOCKETS = 10_000
PROCESSES = 2
"""Of clients. The backends' ends are in a third."""
RELOADS = 100
OVER = 20.0
"""Seconds of the drain: 250 closes in each, which the clients here can follow beside other work."""
ROUTE, SERVICE = "wsroute/default/shop/all", "default/shop:80"
ENDS = Path(__file__).with_name("many_ends.py")

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """The processes that hold ends inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Ends:
    """A process that holds ends of sockets."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self, seconds: float = 80) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            return (await self._process.stdout.readline()).decode().strip()

    async def ask(self, question: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{question}\n".encode())
        return json.loads(await self.says())


@asynccontextmanager
async def ends(*arguments: str) -> AsyncIterator[Ends]:
    """Run a process that holds ends of sockets."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ENDS), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # A report has thousands of close frames in one line.
        limit=16 << 20,
    )
    try:
        yield Ends(process)
    finally:
        process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


class Clients:
    """All clients, in several processes."""

    def __init__(self, parts: list[Ends]) -> None:
        self._parts = parts

    async def echoes(self) -> int:
        """Send a message over each socket; tell how many came back."""
        found: list[int] = await asyncio.gather(*(part.ask("echo") for part in self._parts))
        return sum(found)

    async def report(self) -> tuple[dict[str, int], list[list[tuple[float, str]]]]:
        """Tell how many sockets ended, how many of them without a close frame, and the close frames of each that got one."""
        found = await asyncio.gather(*(part.ask("report") for part in self._parts))
        closes = [[(at, text) for at, text in one] for part in found for one in part["closes"]]
        return {key: sum(part[key] for part in found) for key in ("lost", "without", "after")}, closes

    async def ended(self, count: int, seconds: float) -> tuple[dict[str, int], list[list[tuple[float, str]]]]:
        """Wait until so many sockets ended; tell what became of them."""
        async with asyncio.timeout(seconds):
            while (found := await self.report())[0]["lost"] < count:
                await asyncio.sleep(0.5)
        return found


@asynccontextmanager
async def clients(port: int) -> AsyncIterator[Clients]:
    """Open the sockets."""
    async with AsyncExitStack() as stack:
        share = str(SOCKETS // PROCESSES)
        parts = [await stack.enter_async_context(ends("clients", str(port), share, HOST)) for _ in range(PROCESSES)]
        assert await asyncio.gather(*(part.says() for part in parts)) == ["open"] * PROCESSES
        yield Clients(parts)


def served(mode: CloseMode, idle: float, endpoints: list[tuple[int, EndpointState]]) -> ProxyConfig:
    """One route: what becomes of sockets whose endpoint goes, a value that changes nothing, and where sockets go."""
    base = config(endpoints[0][0])
    policies = (Timeouts(idle=idle), Close(on_endpoint_terminating=mode, drain=Drain(OVER, 1012, "service restart")))
    return msgspec.structs.replace(
        base,
        routes={ROUTE: msgspec.structs.replace(base.routes[ROUTE], policies=policies)},
        upstreams={SERVICE: Upstream(tuple(Endpoint("127.0.0.1", port, state) for port, state in endpoints))},
    )


def churned(number: int, ports: list[int]) -> list[tuple[int, EndpointState]]:
    """Return the endpoints of a reload: one comes and goes, and the second is by turns ready, not ready, terminating and gone."""
    states: tuple[EndpointState | None, ...] = ("ready", "unready", "draining", None)
    second = states[number % 4]
    found: list[tuple[int, EndpointState]] = [(ports[0], "ready"), (1 + number, "unready" if number % 2 else "ready")]
    return found if second is None else [*found, (ports[1], second)]


async def test_ten_thousand_sockets_outlive_a_hundred_changes_and_a_drain_of_half_of_them_is_even(hub: Hub) -> None:
    async with ends("backend") as backends, proxy(hub, "--workers", "2") as one:
        ports = [int(port) for port in (await backends.says()).split()]
        hub.publish(served("keep", 1000, [(port, "ready") for port in ports]))
        await one.ready()
        async with clients(one.http) as found:
            for number in range(RELOADS):
                hub.publish(served("keep", 1001 + number, churned(number, ports)))
                await hub.acknowledged()
            alive, untouched = await found.echoes(), await found.report()
            rows = json.loads((await one.ask("/sockets"))[1])
            leaving = sum(row["endpoint"] == f"127.0.0.1:{ports[0]}" for row in rows)

            hub.publish(served("drain", 2000, [(port, "ready") for port in ports]))
            await hub.acknowledged()
            hub.publish(served("drain", 2000, [(ports[0], "draining"), (ports[1], "ready")]))
            counts, closes = await found.ended(leaving, OVER + 30)
            rest = await found.echoes()
            _, metrics = await one.ask("/metrics")

    assert alive == SOCKETS
    assert untouched == ({"lost": 0, "without": 0, "after": 0}, [])
    # LeastConnections over the counts of both workers: half of the sockets each, but for handshakes that raced.
    assert abs(leaving - SOCKETS / 2) <= SOCKETS / 100
    assert counts == {"lost": leaving, "without": 0, "after": 0}
    assert Counter(text for one_socket in closes for _, text in one_socket) == {"1012 service restart": leaving}
    assert all(len(one_socket) == 1 for one_socket in closes)
    assert rest == SOCKETS - leaving
    assert float(re.findall(r'by="proxy:endpoint_terminating",code="1012",route="\S+"\} (\S+)', metrics)[0]) == leaving
    times = sorted(at for one_socket in closes for at, _ in one_socket)
    tenths = Counter(min(9, int(10 * (at - times[0]) / OVER)) for at in times)
    expected = leaving / 10
    assert all(abs(tenths[tenth] - expected) <= expected / 10 for tenth in range(10)), tenths
