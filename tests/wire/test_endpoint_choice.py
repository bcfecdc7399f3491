"""Hashing, pods by name, rewritten paths: which endpoint a request comes to, and what it sees."""

import asyncio
import contextlib
from collections import Counter

import pytest
from wire.harness import Backend, proxying
from wire.several import KEY, at, backends, get, held, serving, upgrade

from proxy.model.config import Endpoint, Path
from proxy.model.policy import Connections, HashOn, PodTarget, Rewrite

USERS = 50
"""That one of three endpoints has none of them happens in one run of 200 million."""


@pytest.mark.parametrize(
    ("on", "target", "field"),
    [
        (HashOn("header", "x-user"), "/", "X-User: {}"),
        (HashOn("cookie", "user"), "/", "Cookie: other=1; user={}"),
        (HashOn("query", "user"), "/?a=1&user={}", "X-Nothing: 1"),
    ],
)
async def test_hash_of_the_same_value_comes_to_the_same_endpoint(on: HashOn, target: str, field: str) -> None:
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(on,), balancing="hash"))
        found = [{(await get(proxy, target.format(user), field.format(user)))[2] for _ in range(3)} for user in range(USERS)]
        sockets = [(await upgrade(proxy, target.format(user), field.format(user)))[1]["x-number"] for user in range(USERS)]

    assert [len(one) for one in found] == [1] * USERS
    assert set().union(*found) == {"0", "1", "2"}
    assert [{one} for one in sockets] == found


async def test_hash_of_the_address_comes_to_one_endpoint() -> None:
    async with proxying(trusted=True) as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(HashOn("client-ip"),), balancing="hash"))
        same = {(await get(proxy, "/", "X-Forwarded-For: 192.0.2.7"))[2] for _ in range(6)}
        others = {(await get(proxy, "/", f"X-Forwarded-For: 192.0.2.{number}"))[2] for number in range(30)}

    assert len(same) == 1
    assert others == {"0", "1", "2"}


async def test_hash_without_its_value_is_balanced_as_ever() -> None:
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(HashOn("header", "x-user"),), balancing="hash"))
        found = Counter([(await get(proxy))[2] for _ in range(9)])

    assert found == {"0": 3, "1": 3, "2": 3}


async def test_hash_endpoint_that_goes_moves_only_its_own_share() -> None:
    async with proxying() as proxy, backends(4) as four:
        endpoints = [at(one.port) for one in four]
        policies = (HashOn("header", "x-user"),)
        proxy.serves(serving(*endpoints, policies=policies, balancing="hash"))
        before = [(await get(proxy, "/", f"X-User: {user}"))[2] for user in range(40)]
        proxy.serves(serving(*endpoints[:3], policies=policies, balancing="hash"))
        after = [(await get(proxy, "/", f"X-User: {user}"))[2] for user in range(40)]

    assert "3" in before
    assert [new for old, new in zip(before, after, strict=True) if old != "3"] == [old for old in before if old != "3"]
    assert "3" not in after


async def test_hash_endpoint_that_refuses_passes_its_keys_on() -> None:
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(HashOn("header", "x-user"),), balancing="hash"))
        first = (await get(proxy, "/", "X-User: a"))[2]
        await three[int(first)].backend.gone()
        found = [(await get(proxy, "/", "X-User: a"))[::2] for _ in range(5)]

    assert {status for status, _ in found} == {200}
    assert first not in {name for _, name in found}
    assert len({name for _, name in found}) == 1


def pods(*ports: int) -> list[Endpoint]:
    return [at(port, pod=f"room-{number}") for number, port in enumerate(ports)]


@pytest.mark.parametrize(("rewrite", "seen"), [(None, "/ws/room-1/talk?x=1"), ("", "/talk?x=1"), ("/app", "/app/talk?x=1")])
async def test_pod_in_the_path_gets_its_upgrades(rewrite: str | None, seen: str) -> None:
    policies = (PodTarget("/ws"), *(() if rewrite is None else (Rewrite(rewrite, "/ws", True),)))
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*pods(*(one.port for one in three)), policies=policies, path=Path("prefix", "/ws")))
        found = [await upgrade(proxy, f"/ws/room-{number}/talk?x=1") for number in (1, 1, 2, 1)]
        heads = [head.split(b"\r\n")[0].decode() for head in three[1].seen]

    assert [(status, fields["x-number"]) for status, fields in found] == [(101, "1"), (101, "1"), (101, "2"), (101, "1")]
    assert heads == [f"GET {seen} HTTP/1.1"] * 3


async def test_pod_in_the_host_gets_its_upgrades() -> None:
    async with proxying() as proxy, backends(2) as two:
        proxy.serves(serving(*pods(*(one.port for one in two)), policies=(PodTarget(),), host="*.rooms.test"))
        found = [await upgrade(proxy, "/talk", host=f"{name}.rooms.test") for name in ("room-1", "room-0", "room-2", "127-0-0-1")]

    assert [(status, fields.get("x-number")) for status, fields in found] == [(101, "1"), (101, "0"), (404, None), (101, "0")]


@pytest.mark.parametrize(
    "path", ["/ws", "/ws/", "/ws/room-9", "/ws/10.0.0.9/x", "/ws/room-1%20/x", "/ws/ROOM_1", "/ws/:::::::", "/ws/x:"]
)
async def test_pod_that_is_not_behind_the_route_is_404(path: str) -> None:
    async with proxying() as proxy, backends(2) as two:
        proxy.serves(serving(*pods(*(one.port for one in two)), policies=(PodTarget("/ws"),), path=Path("prefix", "/ws")))
        status, _ = await upgrade(proxy, path)

    assert status == 404
    assert [one.seen for one in two] == [[], []]


async def test_pod_path_with_two_readings_is_refused() -> None:
    async with proxying() as proxy, backends(2) as two:
        proxy.serves(serving(*pods(*(one.port for one in two)), policies=(PodTarget("/ws"),), path=Path("prefix", "/ws")))
        found = [
            (await upgrade(proxy, path))[0] for path in ("/ws/room-0/../room-1", "/ws/room-0/%2e%2e/room-1", "/ws/room-0/a%20b")
        ]

    assert found == [400, 400, 101]
    assert two[1].seen == []


async def test_pod_that_cannot_be_reached_is_502_and_no_other_is_asked() -> None:
    async with proxying() as proxy, backends(2) as two:
        proxy.serves(serving(*pods(*(one.port for one in two)), policies=(PodTarget("/ws"),), path=Path("prefix", "/ws")))
        await two[1].backend.gone()
        found = [(await upgrade(proxy, "/ws/room-1"))[0] for _ in range(2)]

    assert found == [502, 502]
    assert two[0].seen == []


async def test_pods_that_come_and_go_are_followed() -> None:
    async with proxying() as proxy, backends(2) as two:
        policies, path = (PodTarget("/ws"),), Path("prefix", "/ws")
        proxy.serves(serving(at(two[0].port, pod="old"), policies=policies, path=path))
        before = [(await upgrade(proxy, f"/ws/{name}"))[0] for name in ("old", "new")]
        proxy.serves(serving(at(two[0].port, pod="new"), at(two[1].port, pod="late"), policies=policies, path=path))
        after = [(await upgrade(proxy, f"/ws/{name}"))[0] for name in ("old", "new", "late")]

    assert (before, after) == ([101, 404], [404, 101, 101])


async def test_ordinary_requests_of_a_route_to_pods_are_balanced() -> None:
    async with proxying() as proxy, backends(2) as two:
        proxy.serves(serving(*pods(*(one.port for one in two)), policies=(PodTarget("/ws"),), path=Path("prefix", "/ws")))
        found = [(await get(proxy, "/ws/room-1"))[2] for _ in range(4)]

    assert sorted(found) == ["0", "0", "1", "1"]


@pytest.mark.parametrize(
    ("rewrite", "path", "asked", "seen"),
    [
        (Rewrite("", "/ws"), Path("prefix", "/ws"), "/ws", "/"),
        (Rewrite("", "/ws"), Path("prefix", "/ws"), "/ws/", "/"),
        (Rewrite("", "/ws"), Path("prefix", "/ws"), "/ws/a%20b/?q=/ws", "/a%20b/?q=/ws"),
        (Rewrite("", "/ws"), Path("prefix", "/ws"), "/ws/a%0d%0aX:%20y", "/a%0d%0aX:%20y"),
        (Rewrite("/app", "/ws"), Path("prefix", "/ws"), "/ws?x", "/app?x"),
        (Rewrite("/app", ""), Path("prefix", "/"), "/a/b", "/app/a/b"),
        (Rewrite("/other", None), Path("exact", "/one"), "/one?x=1", "/other?x=1"),
    ],
)
async def test_rewrite_puts_its_prefix_in_place_of_the_matched_one(rewrite: Rewrite, path: Path, asked: str, seen: str) -> None:
    async with proxying() as proxy, backends(1) as one:
        proxy.serves(serving(at(one[0].port), policies=(rewrite,), path=path))
        await get(proxy, asked)
        await upgrade(proxy, asked)
        heads = [head.split(b"\r\n")[0] for head in one[0].seen]

    assert heads == [f"GET {seen} HTTP/1.1".encode()] * 2


@pytest.mark.parametrize("asked", ["/ws/x/../../ws/y", "/ws/%2e%2e/ws/x", "//ws/x", "/ws/..;/ws/x", "/%77s/x"])
async def test_rewrite_refuses_paths_that_climb_out_of_its_prefix(asked: str) -> None:
    async with proxying() as proxy, backends(1) as one:
        proxy.serves(serving(at(one[0].port), policies=(Rewrite("/app", "/ws"),), path=Path("prefix", "/ws")))
        status, _, _ = await get(proxy, asked)

    assert status == 400
    assert one[0].seen == []


async def test_thousand_pods_are_named_without_a_route_for_each() -> None:
    async with proxying() as proxy, backends(1) as one:
        far = [Endpoint(f"192.0.2.{number % 250}", 1000 + number, pod=f"room-{number}") for number in range(1000)]
        config = serving(*far, at(one[0].port, pod="here"), policies=(PodTarget("/ws"),), path=Path("prefix", "/ws"))
        proxy.serves(config)
        async with asyncio.timeout(5):
            found = [(await upgrade(proxy, path))[0] for path in ("/ws/here", "/ws/nowhere")]
        entries = len(config.routes), len(proxy.runtime.upstreams[KEY].ready)

    assert found == [101, 404]
    assert entries == (1, 1001)


async def test_pod_that_is_full_is_503_and_no_other_is_asked() -> None:
    async with proxying() as proxy, backends(2) as two:
        policies = (PodTarget("/ws"), Connections(per_endpoint=1))
        proxy.serves(serving(*pods(*(one.port for one in two)), policies=policies, path=Path("prefix", "/ws")))
        _, first = await held(proxy, "/ws/room-1")
        second, _ = await upgrade(proxy, "/ws/room-1")
        other, _ = await upgrade(proxy, "/ws/room-0")

    assert first[0].startswith("HTTP/1.1 101 ")
    assert (second, other) == (503, 101)


async def test_hashed_upgrade_skips_an_endpoint_that_is_full() -> None:
    async with proxying() as proxy, backends(2) as two:
        policies = (HashOn("header", "x-user"), Connections(per_endpoint=1))
        proxy.serves(serving(*(at(one.port) for one in two), policies=policies, balancing="hash"))
        heads = [(await held(proxy, "/", "X-User: a"))[1] for _ in range(2)]
        third, _ = await upgrade(proxy, "/", "X-User: a")

    assert {line for lines in heads for line in lines if "X-Number" in line} == {"X-Number: 0", "X-Number: 1"}
    assert third == 503


async def test_ewma_sends_less_to_the_endpoint_that_takes_its_time() -> None:
    slow = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow"
    async with proxying() as proxy, backends(1) as fast:
        waiting = Backend()
        await waiting.start()

        async def dawdle() -> None:
            while True:
                peer = await waiting.connections.get()
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    while await peer.reader.readuntil(b"\r\n\r\n"):
                        # Being slow is what this backend is for; nothing waits for it.
                        await asyncio.sleep(0.15)
                        peer.writer.write(slow)

        task = asyncio.create_task(dawdle())
        try:
            proxy.serves(serving(at(fast[0].port), at(waiting.port), balancing="ewma"))
            found = Counter([(await get(proxy))[2] for _ in range(30)])
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await waiting.gone()

    assert found["0"] >= 27
    assert found["slow"] >= 1
