"""WebSockets through the proxy: the handshake, the bytes, and how each way of ending ends."""

import asyncio
import os

import pytest
from wire.harness import proxying, socketless
from wire.several import WS_KEY
from wire.verbs import SWITCH, UPGRADE, closes_of, frame, opened

from proxy.model.policy import Timeouts
from proxy.observability.metrics import WS_BYTES, WS_MESSAGES
from proxy.settings import Settings
from proxy.websocket.handshake import accept_for


async def test_handshake_passes_end_to_end() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(
            UPGRADE + b"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        )
        backend = await proxy.backend.accepts()
        head = await backend.head()
        assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in head
        assert b"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n" in head
        extra = b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate; x=1\r\n"
        await backend.sends(SWITCH + extra + b"\r\n")
        assert extra in await client.head()


async def test_bytes_pass_unchanged_both_ways_and_are_counted() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        sizes = [0, 1, 125, 126, 127, 65535, 65536, 300_000]
        up = [frame(2, os.urandom(size), masked=True) for size in sizes]
        down = [frame(1, b"a" * size) for size in sizes]
        for data in up:
            await client.sends(data)
            await backend.sees(data)
        for data in down:
            await backend.sends(data)
            await client.sees(data)
        stats = proxy.runtime.stats.route("ingress/test/a/0")
        proxy.runtime.flush_tunnel_stats()
        assert (stats.value(WS_MESSAGES), stats.value(WS_BYTES)) == (len(sizes), sum(sizes))
        assert (stats.value(WS_MESSAGES, 1), stats.value(WS_BYTES, 1)) == (len(sizes), sum(sizes))


async def test_single_bytes_and_fragments_pass_unchanged() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        data = frame(1, b"a" * 130, masked=True, first=0) + frame(9, b"ping", masked=True) + frame(0, b"b", masked=True)
        for place in range(len(data)):
            await client.sends(data[place : place + 1])
        await backend.sees(data)
        proxy.runtime.flush_tunnel_stats()
        assert proxy.runtime.stats.route("ingress/test/a/0").value(WS_MESSAGES) == 1


async def test_bytes_beside_the_handshake_arrive_in_order() -> None:
    async with proxying() as proxy:
        early, late = frame(1, b"early", masked=True), frame(1, b"first")
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n" + early)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(SWITCH + b"\r\n" + late)
        await client.head()
        await client.sees(late)
        await backend.sees(early)


async def test_request_behind_a_refused_upgrade_is_not_the_backends() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\nGET /admin HTTP/1.1\r\nHost: b.test\r\n\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
        assert (await client.answer())[2] == b"no"
        await client.ends()
        await backend.ends()


@pytest.mark.parametrize("status", [b"200 OK", b"302 Found", b"403 Forbidden", b"426 Upgrade Required", b"500 Oops"])
async def test_refused_upgrade_is_an_ordinary_answer(status: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(
            b"HTTP/1.1 " + status + b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 4\r\n\r\nbody"
        )
        found, fields, body = await client.answer()
        assert (found, body) == (int(status[:3]), b"body")
        assert "upgrade" not in fields
        await proxy.is_innocent()


@pytest.mark.parametrize(
    "switch",
    [
        SWITCH.replace(accept_for(WS_KEY).encode(), b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        SWITCH.replace(b"Upgrade: websocket", b"Upgrade: other"),
        SWITCH.replace(b"Connection: Upgrade\r\n", b""),
        SWITCH + b"Sec-WebSocket-Protocol: unasked\r\n",
        SWITCH + b"Sec-WebSocket-Extensions: unasked\r\n",
    ],
)
async def test_switch_that_does_not_answer_is_502(switch: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(switch + b"\r\n")
        assert (await client.answer())[0] == 502
        await backend.ends()


async def test_handshake_that_is_not_answered_is_504() -> None:
    async with proxying(policies=(Timeouts(handshake=0.3),)) as proxy:
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n")
        await proxy.backend.accepts()
        assert (await client.answer())[0] == 504


@pytest.mark.slow
async def test_close_handshake_of_the_client_is_counted_as_the_clients() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        close = frame(8, (4001).to_bytes(2, "big") + b"bye", masked=True)
        await client.sends(close)
        await backend.sees(close)
        answer = frame(8, (4001).to_bytes(2, "big"))
        await backend.sends(answer)
        backend.closes()
        await client.sees(answer)
        await client.ends()
        await socketless(proxy)
        assert closes_of(proxy) == {("4001", "client"): 1}


@pytest.mark.parametrize("who", ["client", "backend"])
async def test_reset_of_one_side_ends_the_other(who: str) -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        (client if who == "client" else backend).resets()
        await (backend if who == "client" else client).ends()
        await socketless(proxy)
        assert closes_of(proxy) == {("1006", who): 1}


@pytest.mark.parametrize("who", ["client", "backend"])
async def test_half_close_is_passed_on_and_the_other_direction_goes_on(who: str) -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        one, other = (client, backend) if who == "client" else (backend, client)
        one.writer.write_eof()
        assert await other.rest() == b""
        data = frame(1, b"still", masked=other is client)
        await other.sends(data)
        await one.sees(data)
        other.closes()
        await one.ends()


@pytest.mark.slow
async def test_idle_socket_is_closed_with_1001_to_both_sides() -> None:
    async with proxying(Settings(close_wait=0.3), policies=(Timeouts(idle=0.3),)) as proxy:
        client, backend = await opened(proxy)
        await client.sees(b"\x88\x02\x03\xe9")
        head = await backend.reads(6)
        assert head[:2] == b"\x88\x82"
        assert bytes(a ^ b for a, b in zip(await backend.reads(2), head[2:4], strict=True)) == b"\x03\xe9"
        await client.ends()
        await backend.ends()
        await socketless(proxy)
        assert closes_of(proxy) == {("1001", "proxy:idle"): 1}


@pytest.mark.slow
async def test_close_waits_for_the_frame_that_is_under_way() -> None:
    async with proxying(Settings(close_wait=1.0)) as proxy:
        client, backend = await opened(proxy)
        whole = frame(2, b"x" * 1000)
        await backend.sends(whole[:500])
        await client.sees(whole[:500])
        next(iter(proxy.runtime.tunnels)).close(1012, b"service restart", "test")
        await backend.sends(whole[500:] + frame(1, b"after"))
        await client.sees(whole[500:] + frame(8, b"\x03\xf4service restart"))
        await backend.reads(6)
        await client.sends(frame(8, b"\x03\xf4", masked=True))
        await client.ends()


async def test_reserved_bits_pass_when_an_extension_was_negotiated() -> None:
    async with proxying() as proxy:
        extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
        client, backend = await opened(proxy, extension, extension)
        data = frame(1, b"compressed", masked=True, first=0xC0)
        await client.sends(data)
        await backend.sees(data)


@pytest.mark.slow
async def test_slow_client_stops_the_backend() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        client.writer.transport.pause_reading()
        sent = 0
        block = frame(2, bytes(65_000))
        try:
            async with asyncio.timeout(1.0):
                while sent < 200_000_000:
                    backend.writer.write(block)
                    await backend.writer.drain()
                    sent += len(block)
        except TimeoutError:
            pass
        assert sent < 64 * 1024 * 1024
