"""Fields that a route sets, adds and removes, as the other side sees them."""

import pytest
from wire.harness import Proxy, proxying
from wire.verbs import GET, OK, SWITCH, UPGRADE, frame

from proxy.model.policy import HeaderField, RequestHeaderModifier, ResponseHeaderModifier, Timeouts

TIMEOUTS = Timeouts(connect=1.0)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
REQUEST = RequestHeaderModifier(
    set=(HeaderField("X-Tenant", "shop"),), add=(HeaderField("X-Seen", "edge"),), remove=("X-Debug", "Cookie")
)
RESPONSE = ResponseHeaderModifier(
    set=(HeaderField("X-Frame-Options", "DENY"),), add=(HeaderField("Vary", "Origin"),), remove=("Server", "X-Powered-By")
)


def fields(head: bytes, name: bytes) -> list[bytes]:
    """The values of a field, in order."""
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return [value.strip() for found, _, value in lines if found.lower() == name.lower()]


async def answered(proxy: Proxy, request: bytes, answer: bytes) -> bytes:
    """Ask, let the backend answer, and return the head that the client sees."""
    client = await proxy.client()
    await client.sends(request)
    backend = await proxy.backend.accepts()
    await backend.head()
    await backend.sends(answer)
    head = await client.head()
    backend.closes()
    client.resets()
    return head


async def test_request_fields_are_set_added_and_removed_by_name_in_any_case() -> None:
    async with proxying(policies=(TIMEOUTS, REQUEST)) as proxy:
        lines = b"X-TENANT: evil\r\nx-tenant: evil\r\nX-Seen: client\r\nx-debug: 1\r\nCookie: a=b\r\n"
        asked = b"GET / HTTP/1.1\r\nHost: a.test\r\n" + lines + b"\r\n"
        head, status, _ = await proxy.passes(asked)

        assert status == 204
        assert fields(head, b"X-Tenant") == [b"shop"]
        assert fields(head, b"X-Seen") == [b"client", b"edge"]
        assert (fields(head, b"X-Debug"), fields(head, b"Cookie")) == ([], [])
        assert fields(head, b"Host") == [b"a.test"]


async def test_request_whose_fields_come_again_is_changed_again() -> None:
    """What of a head was remembered is what the client wrote."""
    async with proxying(policies=(TIMEOUTS, REQUEST)) as proxy:
        client = await proxy.client()
        heads = []
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        for number in range(3):
            heads.append(await backend.head())
            await backend.sends(OK)
            assert (await client.answer())[2] == b"hello"
            if number < 2:
                await client.sends(GET)

        assert [(fields(head, b"X-Tenant"), fields(head, b"X-Seen")) for head in heads] == [([b"shop"], [b"edge"])] * 3


async def test_request_without_fields_of_its_own_gets_them() -> None:
    async with proxying(policies=(TIMEOUTS, REQUEST)) as proxy:
        head, _, _ = await proxy.passes(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")

        assert (fields(head, b"X-Tenant"), fields(head, b"X-Seen")) == ([b"shop"], [b"edge"])


async def test_request_field_that_only_contains_a_name_stays() -> None:
    async with proxying(policies=(TIMEOUTS, REQUEST)) as proxy:
        head, _, _ = await proxy.passes(b"GET / HTTP/1.1\r\nHost: a.test\r\nNot-X-Debug: 1\r\nX-Debugger: x-debug: 2\r\n\r\n")

        assert (fields(head, b"Not-X-Debug"), fields(head, b"X-Debugger")) == ([b"1"], [b"x-debug: 2"])


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nServer: app\r\nx-frame-options: SAMEORIGIN\r\nVary: Cookie\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nServer: app\r\nServer: again\r\nX-Frame-Options: A\r\nX-Frame-Options: B\r\nVary: Cookie\r\n"
        + CHUNKED,
        b"HTTP/1.1 304 Not Modified\r\nX-Powered-By: app\r\nVary: Cookie\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nServer: app\r\nVary: Cookie\r\n\r\nuntil the end",
    ],
    ids=["length", "chunked", "not modified", "until the connection ends"],
)
async def test_answer_fields_are_set_added_and_removed(answer: bytes) -> None:
    async with proxying(policies=(TIMEOUTS, RESPONSE)) as proxy:
        head = await answered(proxy, GET, answer)

        assert fields(head, b"X-Frame-Options") == [b"DENY"]
        assert fields(head, b"Vary") == [b"Cookie", b"Origin"]
        assert (fields(head, b"Server"), fields(head, b"X-Powered-By")) == ([], [])
        assert head.split(b"\r\n")[0].split(b" ")[1] == answer.split(b" ")[1]


async def test_answer_of_a_socket_gets_them_and_the_socket_works() -> None:
    async with proxying(policies=(TIMEOUTS, RESPONSE, REQUEST)) as proxy:
        client = await proxy.client()
        await client.sends(UPGRADE + b"Sec-WebSocket-Protocol: chat\r\nX-Debug: 1\r\n\r\n")
        backend = await proxy.backend.accepts()
        seen = await backend.head()
        await backend.sends(SWITCH + b"Server: app\r\nSec-WebSocket-Protocol: chat\r\n\r\n" + frame(1, b"hello"))
        head = await client.head()

        assert (fields(seen, b"X-Tenant"), fields(seen, b"X-Debug")) == ([b"shop"], [])
        assert (fields(head, b"X-Frame-Options"), fields(head, b"Server")) == ([b"DENY"], [])
        assert fields(head, b"Sec-WebSocket-Protocol") == [b"chat"]
        await client.sees(frame(1, b"hello"))
        client.resets()


async def test_answers_of_ours_stay_as_they_are() -> None:
    async with proxying(policies=(TIMEOUTS, RESPONSE)) as proxy:
        proxy.backend.stop()
        client = await proxy.client()
        await client.sends(GET)
        head = await client.head()

        assert head.startswith(b"HTTP/1.1 502 ")
        assert fields(head, b"X-Frame-Options") == []
        client.resets()
