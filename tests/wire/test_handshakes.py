"""Handshakes: upgrades that are refused in any framing, and bytes that come before the handshake is done."""

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidURI
from wire.harness import config_for, proxying, socketless
from wire.verbs import SWITCH, UPGRADE, closes_of, frame

from proxy.model.policy import HttpsRedirect
from proxy.settings import Settings

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
JUNK = b"\xff\x00junk"


@pytest.mark.parametrize("status", [b"200 OK", b"302 Found", b"401 Unauthorized", b"404 Not Found", b"426 Upgrade Required"])
@pytest.mark.parametrize(
    ("framed", "seen"),
    [
        (b"Content-Length: 4\r\n\r\nbody", b"body"),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n", b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"),
        (b"\r\nbody", b"4\r\nbody\r\n0\r\n\r\n"),
    ],
)
async def test_refusal_arrives_whole_however_it_is_framed_and_the_client_may_ask_on(
    status: bytes, framed: bytes, seen: bytes
) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 " + status + b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Mine: 1\r\n" + framed)
        if framed.startswith(b"\r\n"):
            backend.closes()
        head = await client.head()
        await client.sees(seen)
        await backend.ends()
        await client.sends(b"GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n")
        other = await proxy.backend.accepts()
        await other.head()
        await other.sends(OK)

        assert (await client.answer())[0] == 200
        assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
        assert b"\r\nX-Mine: 1\r\n" in head
        assert b"Upgrade: websocket" not in head
        assert b"Connection: Upgrade" not in head


@pytest.mark.parametrize("protocol", [b"foo", b"h2c", b"websocketx"])
async def test_request_behind_an_upgrade_to_something_else_is_not_the_backends(protocol: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        upgrade = b"GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
        await client.sends(upgrade + b"GET /admin HTTP/1.1\r\nHost: a.test\r\n\r\n")
        backend = await proxy.backend.accepts()
        first = await backend.head()
        await backend.sends(OK)
        answered = await client.rest()
        other = await proxy.client()
        await other.sends(b"GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n")
        second = await backend.head()
        await backend.sends(OK)

        assert (await other.answer())[0] == 200
        assert first.startswith(b"GET /x HTTP/1.1\r\n")
        assert b"Upgrade" not in first
        assert answered.count(b"HTTP/1.1 ") == 1
        assert second.startswith(b"GET /next HTTP/1.1\r\n")


@pytest.mark.parametrize("field", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n"])
async def test_switch_with_a_bodys_fields_is_a_switch_without_them(field: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        first = frame(1, b"hello")
        await backend.sends(SWITCH + field + b"\r\n" + first)
        head = await client.head()

        assert head.startswith(b"HTTP/1.1 101 ")
        assert field not in head
        await client.sees(first)


@pytest.mark.parametrize("upgrade", [True, False])
async def test_backend_that_speaks_no_tls_is_502(upgrade: bool) -> None:
    async with proxying() as proxy:
        proxy.serves(config_for(proxy.backend.port, tls=True))
        client = await proxy.client()
        await client.sends((UPGRADE if upgrade else b"GET / HTTP/1.1\r\nHost: a.test\r\n") + b"\r\n")
        backend = await proxy.backend.accepts()
        assert await backend.reads(2) == b"\x16\x03"
        await backend.sends(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        assert (await client.answer())[0] == 502


async def test_junk_before_the_switch_is_a_malformed_frame_behind_it() -> None:
    async with proxying(Settings(close_wait=0.3)) as proxy:
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n" + JUNK)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(SWITCH + b"\r\n")
        await client.head()
        await client.sees(frame(8, b"\x03\xea"))
        await client.ends()
        assert (await backend.reads(8))[:2] == b"\x88\x82"
        await backend.ends()
        await socketless(proxy)

        assert list(closes_of(proxy)) == [("1002", "proxy:protocol_error")]
        await proxy.is_innocent()


async def test_junk_before_a_refusal_reaches_no_backend() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n" + JUNK)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        assert (await client.answer())[2] == b"no"
        await client.ends()
        await backend.ends()

        assert proxy.backend.count == 1
        await proxy.is_innocent()


async def test_redirect_of_a_handshake_names_https_which_the_client_websockets_does_not_follow() -> None:
    """What docs/troubleshooting.md tells its users; where a release follows it, the page is to say so."""
    async with proxying(policies=(HttpsRedirect(),)) as proxy:
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n")
        status, fields, _ = await client.answer()
        with pytest.raises(InvalidURI, match="scheme isn't ws or wss"):
            async with connect("ws://a.test/chat", host="127.0.0.1", port=proxy.port, open_timeout=10, proxy=None):
                pass

        assert (status, fields["location"]) == (308, "https://a.test/ws")
