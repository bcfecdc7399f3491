"""Limits over real sockets: what is one too many reaches no backend, and what ends makes room."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from wire.harness import WAIT, Peer, Proxy, config_for, connectionless, proxying, socketless
from wire.verbs import SWITCH, UPGRADE, opened, told

from proxy.http.message import Answer
from proxy.model.config import Endpoint, ProxyConfig, Upstream
from proxy.model.policy import AllowedOrigins, Connections, Policy, Rate, Timeouts
from proxy.settings import Settings

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"


def behind(address: bytes) -> bytes:
    return b"X-Forwarded-For: " + address + b"\r\n"


def replaced(config: ProxyConfig, upstream: Upstream) -> ProxyConfig:
    return msgspec.structs.replace(config, upstreams={"test/backend:80": upstream})


async def until_free(proxy: Proxy) -> None:
    """Wait until nothing is counted as open any more."""
    await connectionless(proxy)
    await socketless(proxy)


@pytest.mark.parametrize(
    ("policy", "settings", "status"),
    [
        (Connections(total=2), Settings(), 503),
        (Connections(per_client=2), Settings(), 429),
        (Connections(per_endpoint=2), Settings(), 503),
        (Connections(per_client=2, status=503), Settings(), 503),
        (Timeouts(), Settings(max_connections=2), 503),
        (Timeouts(), Settings(max_connections_per_client=2), 429),
        (Connections(total=9, per_client=2), Settings(max_connections=3, max_connections_per_client=3), 429),
    ],
)
async def test_one_too_many_is_refused_until_one_ends(policy: Policy, settings: Settings, status: int) -> None:
    async with proxying(settings, (policy,)) as proxy:
        first = await opened(proxy)
        await opened(proxy)
        refused = [await told(proxy), await told(proxy)]
        first[0].resets()
        await first[1].rest()
        first[1].resets()
        async with asyncio.timeout(WAIT):
            while len(proxy.runtime.tunnels) > 1:
                await asyncio.sleep(0)
        third = await opened(proxy)
        again = await told(proxy)
        _, ordinary, _ = await proxy.passes(GET)
        del third

    assert refused == [(status, "5", 0)] * 2
    assert again == (status, "5", 0)
    assert ordinary == 204


@pytest.mark.parametrize("policy", [Connections(total=1), Connections(per_client=1), Connections(per_endpoint=1)])
async def test_handshake_under_way_counts_and_one_that_fails_makes_room(policy: Policy) -> None:
    async def refused_by_the_backend(backend: Peer, client: Peer) -> None:
        await backend.sends(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        assert (await client.answer())[0] == 403

    async def broken_by_the_backend(backend: Peer, client: Peer) -> None:
        backend.resets()
        assert (await client.answer())[0] == 502

    async def no_answer_to_the_key(backend: Peer, client: Peer) -> None:
        await backend.sends(SWITCH.replace(b"Accept: ", b"Accept: x") + b"\r\n")
        assert (await client.answer())[0] == 502

    async def left_by_the_client(backend: Peer, client: Peer) -> None:
        client.resets()
        assert await backend.rest() == b""

    ways: list[Callable[[Peer, Peer], Awaitable[None]]] = [
        *(refused_by_the_backend, broken_by_the_backend, no_answer_to_the_key, left_by_the_client)
    ]
    async with proxying(policies=(policy,)) as proxy:
        statuses = []
        for way in ways:
            client = await proxy.client()
            await client.sends(UPGRADE + b"\r\n")
            backend = await proxy.backend.accepts()
            await backend.head()
            statuses.append((await told(proxy))[0])
            await way(backend, client)
            client.resets()
            backend.resets()
            await until_free(proxy)
        await opened(proxy)

    assert statuses == [429 if policy == Connections(per_client=1) else 503] * 4


async def test_clients_behind_a_trusted_proxy_are_told_apart() -> None:
    async with proxying(policies=(Connections(per_client=1),), trusted=True) as proxy:
        for address in (b"192.0.2.1", b"192.0.2.2", b"2001:db8::1"):
            await opened(proxy, behind(address))
        statuses = [
            (await told(proxy, UPGRADE + behind(address) + b"\r\n"))[0]
            for address in (b"192.0.2.1", b"2001:0db8::1", b"::ffff:192.0.2.2")
        ]

    assert statuses == [429, 429, 429]


async def test_exempt_client_is_not_counted() -> None:
    async with proxying(policies=(Connections(per_client=1, exempt=("127.0.0.0/8",)),)) as proxy:
        for _ in range(3):
            await opened(proxy)


async def test_requests_under_way_count_where_they_are_to() -> None:
    policy = Connections(per_client=1, requests=True, status=503)
    async with proxying(policies=(policy,)) as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        over = [(await told(proxy, GET))[0], (await told(proxy))[0]]
        await backend.sends(b"HTTP/1.1 204 No Content\r\n\r\n")
        after = (await client.answer())[0]
        await client.sends(GET)
        await backend.head()
        await backend.sends(b"HTTP/1.1 204 No Content\r\n\r\n")
        again = (await client.answer())[0]

    assert (over, after, again) == ([503, 503], 204, 204)


async def test_full_endpoint_is_skipped() -> None:
    async with proxying() as proxy, proxying() as other:
        config = config_for(proxy.backend.port, Connections(per_endpoint=1), Timeouts(connect=1.0))
        upstream = Upstream((Endpoint("127.0.0.1", proxy.backend.port), Endpoint("127.0.0.1", other.backend.port)))
        proxy.serves(replaced(config, upstream))
        for backend in (proxy.backend, other.backend):
            client = await proxy.client()
            await client.sends(UPGRADE + b"\r\n")
            peer = await backend.accepts()
            await peer.head()
            await peer.sends(SWITCH + b"\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        refused = await told(proxy)
        counts = (proxy.backend.count, other.backend.count)

    assert (refused[:2], counts) == ((503, "5"), (1, 1))


async def test_endpoint_that_cannot_be_reached_keeps_no_seat() -> None:
    async with proxying() as proxy:
        config = config_for(proxy.backend.port, Connections(per_endpoint=1), Timeouts(connect=1.0))
        with socket.create_server(("127.0.0.1", 0)) as closed:
            nobody = closed.getsockname()[1]
        upstream = Upstream((Endpoint("127.0.0.1", nobody), Endpoint("127.0.0.1", proxy.backend.port)))
        proxy.serves(replaced(config, upstream))
        await opened(proxy)
        live = proxy.runtime.upstreams["test/backend:80"]
        sockets = [pool.counter.sockets for pool in live.ready]
        refused = await told(proxy)
        after = [pool.counter.sockets for pool in live.ready]
        for peer in proxy.peers:
            peer.resets()
        await until_free(proxy)
        free = [pool.counter.load for pool in live.ready]
        proxy.serves(config_for(proxy.backend.port, Timeouts(connect=1.0)))

    assert (sockets, refused[0], after, free) == ([0, 1], 502, [0, 1], [0, 0])


async def test_counts_survive_a_reload() -> None:
    async with proxying(policies=(Connections(total=2, per_client=2, per_endpoint=2),)) as proxy:
        await opened(proxy)
        for limit in (5, 2):
            proxy.serves(config_for(proxy.backend.port, Connections(total=limit, per_client=limit, per_endpoint=limit)))
        await opened(proxy)
        before = await told(proxy)
        proxy.serves(config_for(proxy.backend.port, Connections(per_endpoint=2)))
        after = await told(proxy)

    assert (before, after) == ((503, "5", 0), (503, "5", 0))


@pytest.mark.parametrize("upgrades_only", [True, False])
async def test_client_that_comes_too_often_is_refused(upgrades_only: bool) -> None:
    policy = Rate("handshakes", rate=0.01, burst=2, upgrades_only=upgrades_only)
    async with proxying(policies=(policy,)) as proxy:
        await opened(proxy)
        await opened(proxy)
        status, after, seen = await told(proxy)
        ordinary = (await told(proxy, GET))[0] if not upgrades_only else (await proxy.passes(GET))[1]

    assert (status, seen, ordinary) == (429, 0, 204 if upgrades_only else 429)
    assert 90 <= int(after) <= 100


async def test_who_is_refused_for_its_origin_or_its_rate_takes_no_place() -> None:
    policies = (Connections(total=1), AllowedOrigins(("https://b.test",)), Rate("handshakes", rate=0.01, burst=1))
    async with proxying(policies=policies) as proxy:
        refused = await told(proxy)
        head = UPGRADE.replace(b"https://a.test", b"https://b.test") + b"\r\n"
        client = await proxy.client()
        await client.sends(head)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(SWITCH + b"\r\n")
        await client.head()
        too_often = await told(proxy, head)

    assert (refused[0], too_often[0]) == (403, 429)


async def test_rate_that_lets_nobody_in_answers_500() -> None:
    async with proxying() as proxy:
        proxy.serves(config_for(proxy.backend.port, Rate("handshakes", rate=0.0, burst=1), Timeouts(connect=1.0)))
        refused = await told(proxy)
        proxy.serves(config_for(proxy.backend.port, Timeouts(connect=1.0)))

    assert refused == (500, "", 0)


@pytest.mark.parametrize(("policy", "status"), [(Connections(total=3), 503), (Connections(per_client=3), 429)])
async def test_sockets_from_before_there_was_a_limit_count_once(policy: Policy, status: int) -> None:
    async with proxying() as proxy:
        pairs = [await opened(proxy) for _ in range(3)]
        limited = config_for(proxy.backend.port, policy)
        seen = []
        for _ in range(2):  # a limit that goes and comes back finds those that it counted
            proxy.serves(limited)
            seen.append((await told(proxy))[0])
            proxy.serves(config_for(proxy.backend.port))
        proxy.serves(limited)
        for number, (client, backend) in enumerate(pairs[:2]):
            client.resets()
            await backend.rest()
            backend.resets()
            async with asyncio.timeout(WAIT):
                while len(proxy.runtime.tunnels) > 2 - number:
                    await asyncio.sleep(0)
        more = [await opened(proxy), await opened(proxy)]
        seen.append((await told(proxy))[0])
        del more
    assert seen == [status, status, status]


async def test_limit_behind_a_filter_that_needs_time_holds_and_is_given_back() -> None:
    asked = asyncio.Event()
    gate = asyncio.Event()

    async def passes() -> Answer | None:
        await asyncio.sleep(0)
        return None

    async def waits() -> Answer | None:
        asked.set()
        await gate.wait()
        return None

    async with proxying(policies=(Connections(total=1),)) as proxy:
        (route,) = proxy.runtime.routes.values()
        limits = route.filters
        route.filters = (lambda _: passes(), *limits, lambda _: waits())
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n")
        async with asyncio.timeout(WAIT):
            await asked.wait()

        assert (await told(proxy))[0] == 503
        client.resets()
        await until_free(proxy)
        gate.set()
        client, _ = await opened(proxy)
        assert (await told(proxy))[0] == 503
        client.resets()
        await until_free(proxy)
        await opened(proxy)
        route.filters = ()
