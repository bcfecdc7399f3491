"""One client provokes failures of endpoints, an innocent is beside it: endpoints that serve others are not left out.

And the opposite: those that fail clients of several networks are. A peer that the proxy trusts says which client it is.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable

import msgspec
import pytest
from wire.harness import Proxy, proxying
from wire.verbs import CLIENTS, behaving, counted, with_endpoints

from proxy.model.config import ProxyConfig
from proxy.model.policy import Timeouts
from proxy.settings import Settings
from proxy.upstream.outlier_detection import ERRORS

INNOCENT = "233.252.0.7"
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
MISFIT = SWITCH.replace(b"s3pP", b"AAAA") + b"\r\n"
OFFER = b"Sec-WebSocket-Protocol: "


def ok(port: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nX-Port: %d\r\nContent-Length: 0\r\n\r\n" % port


def sound(port: int, head: bytes) -> bytes | None:
    """What a backend says that is in order: each failure of it is a client's doing."""
    if b"Upgrade: websocket\r\n" in head:
        if OFFER + b"dropped\r\n" in head:
            return None
        chosen = OFFER + b"another\r\n" if OFFER + b"answered\r\n" in head else b""
        return SWITCH + chosen + b"X-Port: %d\r\n\r\n" % port
    if head.startswith(b"GET /events "):
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Port: %d\r\n\r\n" % port
    broken: dict[bytes, bytes | None] = {
        b"/socket": None,
        b"/fault": b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        b"/slow": b"",
    }
    return broken.get(head.split(b" ")[1], ok(port))


PROVOKED: dict[str, tuple[bytes, bytes, int]] = {
    "subprotocol that is not taken, and the connection dropped": (b"/", UPGRADE + OFFER + b"dropped\r\n", 502),
    "subprotocol that is answered with another": (b"/", UPGRADE + OFFER + b"answered\r\n", 502),
    "plain request where only WebSockets are served": (b"/socket", b"", 502),
    "request that is answered 500": (b"/fault", b"", 500),
    "request that is not answered in time": (b"/slow", b"", 504),
}
WAITS = dict.fromkeys(("request that is not answered in time", "does not answer handshakes", "does not answer"), 0.6)
"""Seconds after which an answer is given up where none comes; elsewhere many, as the machine may be busy."""


def each(ways: Iterable[str]) -> pytest.MarkDecorator:
    """Run a test for each way to fail."""
    return pytest.mark.parametrize("how", [pytest.param(how, marks=pytest.mark.slow if how in WAITS else ()) for how in ways])


ATTACKERS: dict[str, Callable[[], Iterable[str]]] = {
    "one address": lambda: itertools.repeat("192.0.2.7"),
    "one network": lambda: (f"192.0.2.{number % 256}" for number in itertools.count()),
    "one /64": lambda: (f"2001:db8:1:2::{number:x}" for number in itertools.count()),
    "one /48": lambda: (f"2001:db8:1:{number:x}::7" for number in itertools.count()),
    "two networks": lambda: itertools.cycle(("192.0.2.7", "2001:db8:1::7")),
}


def serving(*ports: int, how: str = "") -> ProxyConfig:
    """Serve by these endpoints, with time limits for the failure that is to be seen."""
    plain = with_endpoints(*ports)
    wait = WAITS.get(how, 10.0)
    policies = (Timeouts(connect=9.0, handshake=wait, response=wait),)
    routes = {key: msgspec.structs.replace(route, policies=policies) for key, route in plain.routes.items()}
    return msgspec.structs.replace(plain, routes=routes)


async def asks(proxy: Proxy, address: str, path: bytes = b"/", fields: bytes = b"") -> tuple[int, str]:
    """Send one request on a connection of its own for a client; give the status, and which endpoint says it was there."""
    client = await proxy.client()
    await client.sends(b"GET %b HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: %b\r\n%b\r\n" % (path, address.encode(), fields))
    status, _, rest = (await client.head()).decode().partition(" ")[2].partition(" ")
    return int(status), rest.partition("X-Port: ")[2].partition("\r\n")[0]


async def provokes(proxy: Proxy, how: str, addresses: Iterable[str], count: int = 8 * ERRORS) -> None:
    """Provoke failures, for each of `addresses` in turn."""
    path, fields, status = PROVOKED[how]
    found = await asyncio.gather(*(asks(proxy, address, path, fields) for address in itertools.islice(addresses, count)))
    assert {one for one, _ in found} == {status}


async def reaches(proxy: Proxy, path: bytes = b"/", fields: bytes = b"") -> set[str]:
    """The endpoints that the innocent client reaches, who is served each time."""
    found = [await asks(proxy, INNOCENT, path, fields) for _ in range(4)]
    assert {status for status, _ in found} == {101 if fields else 200}
    return {port for _, port in found}


@pytest.mark.parametrize("attackers", ATTACKERS)
@each(PROVOKED)
async def test_failures_that_one_client_provokes_leave_no_endpoint_out(how: str, attackers: str) -> None:
    """The innocent comes after the attack only: that it was served is not what keeps the endpoints in."""
    async with proxying(trusted=True) as proxy, behaving(sound) as one, behaving(sound) as another:
        proxy.serves(serving(one.port, another.port, how=how))
        await provokes(proxy, how, ATTACKERS[attackers]())
        after_attack = counted(proxy)
        found = [await reaches(proxy), await reaches(proxy, fields=UPGRADE)]

    assert after_attack == (2, 0)
    assert found == [{str(one.port), str(another.port)}] * 2


async def test_client_says_by_itself_of_no_network_that_it_is_there() -> None:
    """X-Forwarded-For of a peer that is not trusted makes one client no more than one."""
    async with proxying() as proxy, behaving(sound) as one, behaving(sound) as another:
        proxy.serves(serving(one.port, another.port))
        await provokes(proxy, "request that is answered 500", itertools.cycle(CLIENTS))

        assert counted(proxy) == (2, 0)


SERVED = {"answer": (b"/", b""), "socket": (b"/", UPGRADE), "answer that goes on": (b"/events", b"")}


@pytest.mark.parametrize("served", SERVED)
@each(PROVOKED)
async def test_endpoint_that_serves_another_network_is_not_left_out_by_attackers_of_three(how: str, served: str) -> None:
    async with proxying(trusted=True) as proxy, behaving(sound) as one, behaving(sound) as another:
        proxy.serves(serving(one.port, another.port, how=how))
        ends = {str(one.port), str(another.port)}
        for _ in range(2):
            assert await reaches(proxy, *SERVED[served]) == ends
            await provokes(proxy, how, itertools.cycle(CLIENTS))

            assert counted(proxy) == (2, 0)
        assert await reaches(proxy) == ends


@each(PROVOKED)
async def test_endpoint_is_left_out_by_three_networks_where_nobody_else_is_served(how: str) -> None:
    """The attack of the test above is one: nothing but the innocent keeps the endpoints in."""
    async with proxying(trusted=True) as proxy, behaving(sound) as one, behaving(sound) as another:
        proxy.serves(serving(one.port, another.port, how=how))
        await provokes(proxy, how, itertools.cycle(CLIENTS))

        assert counted(proxy) == (1, 1)


BROKEN: dict[str, tuple[Callable[[int, bytes], bytes | None], bytes]] = {
    "drops handshakes": (lambda _port, _head: None, UPGRADE),
    "answers handshakes with what does not fit": (lambda _port, _head: MISFIT, UPGRADE),
    "does not answer handshakes": (lambda _port, _head: b"", UPGRADE),
    "drops requests": (lambda _port, _head: None, b""),
    "answers what is no HTTP": (lambda _port, _head: b"SSH-2.0-x\r\n\r\n", b""),
    "answers 503": (lambda _port, _head: b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", b""),
    "begins to answer 500 and never ends": (lambda _port, _head: b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
    "does not answer": (lambda _port, _head: b"", b""),
}


@each(BROKEN)
async def test_broken_endpoint_is_left_out_once_clients_of_three_networks_met_it(how: str) -> None:
    reply, fields = BROKEN[how]
    async with proxying(trusted=True) as proxy, behaving(sound) as good, behaving(reply) as bad:
        proxy.serves(serving(good.port, bad.port, how=how))
        await asyncio.gather(*(asks(proxy, address, b"/", fields) for address in sorted(CLIENTS[:2] * 2 * ERRORS)))
        of_two = counted(proxy)
        await asyncio.gather(*(asks(proxy, address, b"/", fields) for address in CLIENTS[2:] * 4))
        of_three = counted(proxy)
        after = [await asks(proxy, address, b"/", fields) for address in (*CLIENTS, INNOCENT)]

    assert (of_two, of_three) == ((2, 0), (1, 1))
    assert after == [(101 if fields else 200, str(good.port))] * 4


@pytest.mark.slow
async def test_slow_body_that_is_given_up_is_no_answer_of_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one client that sends slowly keeps a broken endpoint in."""
    monkeypatch.setattr("proxy.exchange.states.BODY_GRACE", 0.2)
    reply, _ = BROKEN["answers 503"]

    def answers(port: int, head: bytes) -> bytes | None:
        return b"" if head.startswith(b"POST") else reply(port, head)

    async with (
        proxying(Settings(min_body_rate=1_000_000), trusted=True) as proxy,
        behaving(answers) as one,
        behaving(answers) as other,
    ):
        proxy.serves(serving(one.port, other.port))
        for number in range(2 * (ERRORS - 1)):
            await asks(proxy, CLIENTS[number % 3])
        assert counted(proxy) == (2, 0)
        for _ in range(2):
            slow = await proxy.client()
            await slow.sends(b"POST / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 233.252.0.7\r\nContent-Length: 100\r\n\r\nslow")
            await slow.ends()
        await asks(proxy, CLIENTS[0])

        assert counted(proxy) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("served", SERVED)
async def test_innocent_of_the_attackers_own_network_is_served_on(served: str) -> None:
    async with proxying(trusted=True) as proxy, behaving(sound) as one, behaving(sound) as another:
        for how in PROVOKED:
            proxy.serves(serving(one.port, another.port, how=how))
            await provokes(proxy, how, itertools.repeat("233.252.0.66"))

            assert await reaches(proxy, *SERVED[served]) == {str(one.port), str(another.port)}
