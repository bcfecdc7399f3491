"""A client comes back to the endpoint that served it: by our cookie, or by the session id of Engine.IO."""

import asyncio
import re
from collections import Counter

import msgspec
import pytest
from wire.harness import WAIT, Peer, proxying
from wire.several import KEY, at, backends, get, serving, upgrade

from proxy.http.message import Client, Request
from proxy.model.config import Endpoint, ProxyConfig, Share, Target, Upstream
from proxy.model.policy import CookieAffinity, EngineIoAffinity
from proxy.model.wire import UpstreamEntry
from proxy.upstream.affinity import Selection
from proxy.upstream.outlier_detection import ERRORS

KEYED = CookieAffinity("6b1e0a52-3f0e-4f5c-9a3b-1c2d3e4f5a6b")
OURS = re.compile(r"SLUICE=(s1\.[0-9a-f]{32}); Path=/; HttpOnly; SameSite=Lax")
POLL = "/socket.io/?EIO=4&transport=polling"


def value_of(fields: dict[str, str]) -> str:
    found = OURS.fullmatch(fields["set-cookie"])
    assert found is not None
    return found[1]


async def test_cookie_brings_requests_and_upgrades_back() -> None:
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(KEYED,)))
        _, fields, first = await get(proxy)
        cookie = f"Cookie: SLUICE={value_of(fields)}"
        again = [await get(proxy, "/", cookie) for _ in range(4)]
        sockets = [await upgrade(proxy, "/", cookie) for _ in range(4)]

    assert [body for _, _, body in again] == [first] * 4
    assert [found["x-number"] for _, found in sockets] == [first] * 4
    assert not any("set-cookie" in found for found in [fields for _, fields, _ in again] + [fields for _, fields in sockets])


async def test_cookie_is_set_by_an_upgrade_too() -> None:
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(KEYED,)))
        status, fields = await upgrade(proxy)
        _, _, body = await get(proxy, "/", f"Cookie: SLUICE={value_of(fields)}")

    assert (status, fields["x-number"]) == (101, body)


async def test_cookie_is_not_forwarded_and_others_are() -> None:
    async with proxying() as proxy, backends(1) as one:
        proxy.serves(serving(at(one[0].port), policies=(KEYED,)))
        value = value_of((await get(proxy))[1])
        await get(proxy, "/", f"Cookie: a=1; SLUICE={value}; b=2", "X-Last: 1")
        await get(proxy, "/", f"Cookie: SLUICE={value}")
        seen = [[line for line in head.split(b"\r\n") if line.lower().startswith((b"cookie", b"x-last"))] for head in one[0].seen]

    assert seen == [[], [b"Cookie: a=1; b=2", b"X-Last: 1"], []]


async def test_cookie_of_the_application_is_left_alone() -> None:
    async with proxying() as proxy, backends(1) as one:
        proxy.serves(serving(at(one[0].port), policies=(KEYED,)))
        _, fields, _ = await get(proxy, "/", "Cookie: SLUICE=theirs")
        seen = [line for line in one[0].seen[0].split(b"\r\n") if line.startswith(b"Cookie")]

    assert "set-cookie" not in fields
    assert seen == [b"Cookie: SLUICE=theirs"]


async def test_cookie_says_what_the_policy_says() -> None:
    policy = CookieAffinity("key", name="STICK", max_age=3600, same_site="None")
    async with proxying() as proxy, backends(1) as one:
        proxy.serves(serving(at(one[0].port), policies=(policy,)))
        _, fields, _ = await get(proxy)

    assert re.fullmatch(
        r"STICK=s1\.[0-9a-f]{32}; Path=/; Max-Age=3600; HttpOnly; SameSite=None",
        fields["set-cookie"],
    )


async def test_cookie_is_secure_behind_a_proxy_that_ended_tls() -> None:
    async with proxying(trusted=True) as proxy, backends(1) as one:
        proxy.serves(serving(at(one[0].port), policies=(KEYED,)))
        _, fields, _ = await get(proxy, "/", "X-Forwarded-Proto: https")

    assert "; HttpOnly; Secure; SameSite=Lax" in fields["set-cookie"]


async def test_cookie_is_secure_over_tls() -> None:
    async with proxying(policies=(KEYED,)) as proxy:
        client = await proxy.client(secure=True)
        await client.sends(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        _, fields, _ = await client.answer()

    assert "; HttpOnly; Secure; SameSite=Lax" in fields["set-cookie"]


async def test_cookie_of_an_endpoint_that_is_gone_is_set_anew() -> None:
    async with proxying() as proxy, backends(3) as three:
        endpoints = [at(one.port) for one in three]
        proxy.serves(serving(*endpoints, policies=(KEYED,)))
        _, fields, first = await get(proxy)
        old = value_of(fields)
        proxy.serves(serving(*(endpoints[: int(first)] + endpoints[int(first) + 1 :]), policies=(KEYED,)))
        _, fields, second = await get(proxy, "/", f"Cookie: SLUICE={old}")
        again = (await get(proxy, "/", f"Cookie: SLUICE={value_of(fields)}"))[2]

    assert second != first
    assert again == second


async def test_cookie_of_an_endpoint_that_terminates_is_set_anew() -> None:
    async with proxying() as proxy, backends(2) as two:
        proxy.serves(serving(*(at(one.port) for one in two), policies=(KEYED,)))
        _, fields, first = await get(proxy)
        old = value_of(fields)
        states = ["draining" if one.number == int(first) else "ready" for one in two]
        proxy.serves(serving(*(at(one.port, state=state) for one, state in zip(two, states, strict=True)), policies=(KEYED,)))
        _, fields, second = await get(proxy, "/", f"Cookie: SLUICE={old}")

    assert second != first
    assert value_of(fields) != old


async def test_cookie_of_an_endpoint_that_refuses_moves_on_with_the_request() -> None:
    async with proxying() as proxy, backends(2) as two:
        proxy.serves(serving(*(at(one.port) for one in two), policies=(KEYED,)))
        _, fields, first = await get(proxy)
        old = value_of(fields)
        await two[int(first)].backend.gone()
        status, fields, second = await get(proxy, "/", f"Cookie: SLUICE={old}")

    assert (status, second) == (200, str(1 - int(first)))
    assert value_of(fields) != old


async def test_cookie_of_an_endpoint_that_is_left_out_for_failing_is_set_anew() -> None:
    async with (
        proxying(trusted=True) as proxy,
        backends(2, lambda head: b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n" if b"X-Fail" in head else None) as two,
    ):
        proxy.serves(serving(*(at(one.port) for one in two), policies=(KEYED,)))
        clients = [f"X-Forwarded-For: {address}" for address in ("192.0.2.7", "198.51.100.7", "203.0.113.7")]
        _, fields, first = await get(proxy, "/", clients[0])
        cookie = f"Cookie: SLUICE={value_of(fields)}"
        failed = [(await get(proxy, "/", cookie, "X-Fail: 1", clients[number % 3]))[0] for number in range(ERRORS)]
        _, fields, second = await get(proxy, "/", cookie, clients[0])

    assert failed == [500] * ERRORS
    assert second != first
    assert f"SLUICE={value_of(fields)}" not in cookie


async def test_endpoints_that_change_alone_are_followed() -> None:
    """As an EndpointSlice changes: the route stays as it is, and what it remembers of endpoints must not."""
    async with proxying() as proxy, backends(3) as three:
        endpoints = [at(one.port) for one in three]
        proxy.serves(serving(*endpoints[:2], policies=(KEYED,)))
        cookies = {found[2]: value_of(found[1]) for found in [await get(proxy) for _ in range(2)]}
        before = [(await get(proxy, "/", f"Cookie: SLUICE={cookies[name]}"))[2] for name in ("0", "1")]
        proxy.runtime.apply({f"u/{KEY}": UpstreamEntry(Upstream((endpoints[1], endpoints[2])))}, ())
        kept = await get(proxy, "/", f"Cookie: SLUICE={cookies['1']}")
        moved = [await get(proxy, "/", f"Cookie: SLUICE={cookies['0']}") for _ in range(2)]
        late = next(value_of(fields) for _, fields, body in moved if body == "2")
        back = [(await get(proxy, "/", f"Cookie: SLUICE={late}"))[2] for _ in range(3)]

    assert before == ["0", "1"]
    assert (kept[2], "set-cookie" in kept[1]) == ("1", False)
    assert {body for _, _, body in moved} == {"1", "2"}
    assert back == ["2", "2", "2"]


@pytest.mark.parametrize("forged", ["s1." + "0" * 32, "s1." + "f" * 32])
async def test_cookie_that_names_nothing_is_set_anew(forged: str) -> None:
    async with proxying() as proxy, backends(2) as two:
        proxy.serves(serving(*(at(one.port) for one in two), policies=(KEYED,)))
        status, fields, _ = await get(proxy, "/", f"Cookie: SLUICE={forged}")

    assert status == 200
    assert value_of(fields) != forged


async def test_cookie_shows_no_address_and_depends_on_its_key() -> None:
    values = []
    async with proxying() as proxy, backends(1) as one:
        for key in ("one", "other"):
            proxy.serves(serving(at(one[0].port), policies=(CookieAffinity(key),)))
            values.append(value_of((await get(proxy))[1]))

    assert values[0] != values[1]


async def test_cookie_counts_over_the_upstreams_of_a_route() -> None:
    async with proxying() as proxy, backends(2) as two:
        proxy.serves(serving(at(two[0].port), policies=(KEYED,), more={"test/other:80": (at(two[1].port),)}))
        firsts = [await get(proxy) for _ in range(2)]
        back = [(await get(proxy, "/", f"Cookie: SLUICE={value_of(fields)}"))[2] for _, fields, _ in firsts for _ in range(3)]

    assert {body for _, _, body in firsts} == {"0", "1"}
    assert back == [body for _, _, body in firsts for _ in range(3)]


def handshakes(head: bytes) -> bytes | None:
    """Answer polling handshakes as Engine.IO 4 does, each with another session id."""
    if b"transport=polling " not in head and b"transport=polling&t=" not in head:
        return None
    port = re.search(rb"\r\nX-Sid: ([^\r]*)", head)
    packet = b'0{"sid":"%b","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000}' % (port[1] if port else b"none")
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: %d\r\n\r\n%b" % (len(packet), packet)


ENGINE = EngineIoAffinity("test")


async def test_sid_brings_polls_and_upgrades_to_who_gave_it() -> None:
    async with proxying() as proxy, backends(3, handshakes) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(ENGINE,)))
        wrong = []
        for number in range(12):
            await get(proxy, POLL, f"X-Sid: sid-{number}")
            (owner,) = [one.number for one in three if any(f"X-Sid: sid-{number}\r\n".encode() in head for head in one.seen)]
            polls = [(await get(proxy, f"{POLL}&sid=sid-{number}"))[2] for _ in range(3)]
            _, fields = await upgrade(proxy, f"/socket.io/?EIO=4&transport=websocket&sid=sid-{number}")
            wrong += [one for one in (*polls, fields["x-number"]) if one != str(owner)]
        spread = Counter(one.number for one in three for head in one.seen if b"X-Sid" in head)

    assert wrong == []
    assert spread == {0: 4, 1: 4, 2: 4}


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n0{"sid"\r\n11\r\n:"one","a":[1,2]}\r\n0\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n14:0{"sid":"one"}2:40',
        b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\nContent-Encoding: identity\r\n\r\n0{"sid":"one"}',
        b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0{"sid":"one"}\x1e4hello',
    ],
)
async def test_sid_is_learned_however_the_answer_is_framed_and_split(answer: bytes) -> None:
    async with proxying(policies=(ENGINE,)) as proxy, backends(3) as three:
        client = await proxy.client()
        await client.sends(f"GET {POLL} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
        backend = await proxy.backend.accepts()
        await backend.head()
        for place in range(len(answer)):
            await backend.sends(answer[place : place + 1])
            await asyncio.sleep(0)
        backend.closes()
        head, _, body = answer.partition(b"\r\n\r\n")
        chunked = b"Transfer-Encoding: chunked" in await client.head()
        found = await chunks(client) if chunked else await client.reads(len(body))
        proxy.serves(serving(at(proxy.backend.port), *(at(one.port) for one in three), policies=(ENGINE,)))
        seen = []
        for _ in range(4):
            client = await proxy.client()
            await client.sends(f"GET {POLL}&sid=one HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
            seen.append((await (await proxy.backend.accepts()).head()).split(b" ")[1])
            client.resets()

    assert found == (b'0{"sid":"one","a":[1,2]}' if b"chunked" in head else body)
    assert seen == [f"{POLL}&sid=one".encode()] * 4


async def chunks(client: Peer) -> bytes:
    """Read a body in chunks."""
    found = b""
    async with asyncio.timeout(WAIT):
        while size := int(await client.reader.readline(), 16):
            found += (await client.reader.readexactly(size + 2))[:-2]
    return found


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\nContent-Encoding: gzip\r\n\r\n0{"sid":"one"}',
        b'HTTP/1.1 400 Bad Request\r\nContent-Length: 14\r\n\r\n0{"sid":"one"}',
        b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n4{"sid":"one"}',
        b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n0[{"sid":"one"}]',
        b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n0{"sid":1  }',
        b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n0{"sid":"one",',
    ],
)
async def test_sid_is_not_learned_from_what_is_no_open_packet(answer: bytes) -> None:
    async with proxying() as proxy, backends(3, lambda head: answer if b"sid=" not in head else None) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(ENGINE,)))
        await get(proxy, POLL)
        found = Counter([(await get(proxy, f"{POLL}&sid=one"))[2] for _ in range(6)])

    assert found == {"0": 2, "1": 2, "2": 2}


async def test_sid_of_an_endpoint_that_is_gone_goes_to_another() -> None:
    async with proxying() as proxy, backends(3, handshakes) as three:
        endpoints = [at(one.port) for one in three]
        proxy.serves(serving(*endpoints, policies=(ENGINE,)))
        await get(proxy, POLL, "X-Sid: one")
        (owner,) = [one.number for one in three if one.seen]
        proxy.serves(serving(*(endpoints[:owner] + endpoints[owner + 1 :]), policies=(ENGINE,)))
        found = {(await get(proxy, f"{POLL}&sid=one"))[::2] for _ in range(4)}

    assert found == {(200, str(number)) for number in range(3) if number != owner}


async def test_sid_of_an_endpoint_that_terminates_stays_while_it_serves() -> None:
    async with proxying() as proxy, backends(2, handshakes) as two:
        proxy.serves(serving(*(at(one.port) for one in two), policies=(ENGINE,)))
        await get(proxy, POLL, "X-Sid: one")
        (owner,) = [one.number for one in two if one.seen]
        states = ["draining" if one.number == owner else "ready" for one in two]
        proxy.serves(serving(*(at(one.port, state=state) for one, state in zip(two, states, strict=True)), policies=(ENGINE,)))
        old = {(await get(proxy, f"{POLL}&sid=one"))[2] for _ in range(3)}
        new = {(await get(proxy, "/"))[2] for _ in range(3)}

    assert (old, new) == ({str(owner)}, {str(1 - owner)})


async def test_what_one_port_of_a_pod_set_counts_for_its_other_port() -> None:
    """The rule's `http` and `websocket` name two ports of the same pods."""
    addresses = [f"192.0.2.{number}" for number in range(1, 9)]
    async with proxying() as proxy:
        plain = serving(at(proxy.backend.port), policies=(KEYED, ENGINE))
        (route,) = plain.routes.values()
        web, sockets = ("test/web:80", 8080), ("test/ws:80", 9000)
        upstreams = {key: Upstream(tuple(Endpoint(one, port) for one in addresses)) for key, port in (web, sockets)}
        split = msgspec.structs.replace(route, http=Target((Share(web[0]),)), websocket=Target((Share(sockets[0]),)))
        proxy.serves(
            ProxyConfig(routes={split.id: split}, upstreams={**plain.upstreams, **upstreams}, certificates={}, tls_hosts={})
        )
        active = proxy.runtime.routes[split.id]
        assert active.http is not None
        assert active.websocket is not None
        assert active.http.affinity is not None
        assert active.websocket.affinity is not None
        found = []
        for number in range(8):
            first = active.http.affinity.select(request("/"))
            assert isinstance(first, Selection)
            assert first.pool is not None
            field = first.answer_fields(200, b"", first.pool).decode()
            active.http.affinity.learn(f"sid-{number}", first.pool)
            value = field.partition(": ")[2].partition(";")[0]
            for later in (request("/", f"Cookie: {value}"), request(f"/?EIO=4&transport=websocket&sid=sid-{number}")):
                selection = active.websocket.affinity.select(later)
                assert isinstance(selection, Selection)
                assert selection.pool is not None
                found.append((selection.pool.address == first.pool.address, selection.pool.port))

    assert found == [(True, 9000)] * 16


def request(target: str, *fields: str) -> Request:
    lines = [field.encode() for field in fields]
    return Request(Client(peer="192.0.2.99"), "GET", target, 11, "a.test", "a.test", lines, upgrade=False)
