"""Inside a tunnel: frames, ends and pressure."""

import asyncio
import zlib

import pytest
from wire.harness import WAIT, proxying
from wire.verbs import UPGRADE, frame, opened

from proxy.settings import Settings


async def test_ping_payload_passes_end_to_end_and_a_flood_holds_up_nobody() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        for size in (0, 1, 125):
            ping, pong = frame(9, b"p" * size, masked=True), frame(10, b"p" * size)
            await client.sends(ping)
            await backend.sees(ping)
            await backend.sends(pong)
            await client.sees(pong)
        flood = frame(9, b"12345678", masked=True) * 100_000
        client.writer.write(flood)
        await proxy.is_innocent()
        await backend.sees(flood)


async def test_data_that_comes_with_the_end_is_delivered_before_it() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        last = frame(1, b"last words")
        backend.writer.write(last)
        backend.writer.write_eof()
        await client.sees(last)
        await client.ends()
        await proxy.is_innocent()


async def test_slow_client_gets_every_byte_after_the_backends_end() -> None:
    async with proxying(Settings(close_wait=1.0)) as proxy:
        client, backend = await opened(proxy)
        client.writer.transport.pause_reading()
        last = frame(2, b"x" * 8_000_000)
        backend.writer.write(last)
        backend.closes()
        await proxy.is_innocent()
        client.writer.transport.resume_reading()
        await client.sees(last)
        await client.ends()


async def test_message_that_never_ends_is_not_kept() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        fragments = frame(2, b"", masked=True, first=0) + frame(0, b"f" * 100, masked=True, first=0) * 10_000
        await asyncio.gather(client.sends(fragments), backend.sees(fragments))
        side = next(iter(proxy.runtime.tunnels)).client
        assert side.scanner.pending == b""
        assert side.other.transport.get_write_buffer_size() == 0
        await proxy.is_innocent()


async def test_compressed_bomb_passes_as_the_few_bytes_it_is() -> None:
    async with proxying() as proxy:
        packer = zlib.compressobj(wbits=-15)
        packed = packer.compress(bytes(64 * 1024 * 1024)) + packer.flush(zlib.Z_SYNC_FLUSH)
        bomb = frame(2, packed.removesuffix(b"\0\0\xff\xff"), masked=True, first=0xC0)
        extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
        client, backend = await opened(proxy, extension, extension)
        await asyncio.gather(client.sends(bomb), backend.sees(bomb))

        assert len(bomb) < 100_000
        assert next(iter(proxy.runtime.tunnels)).client.scanner.payload_bytes < 100_000


async def test_frame_of_which_the_header_promises_much_is_not_waited_for() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        begun = b"\x82\xff" + (1 << 62).to_bytes(8, "big") + b"mask" + b"some"
        await client.sends(begun)
        await backend.sees(begun)
        await proxy.is_innocent()


@pytest.mark.parametrize("more", [b"GET /admin HTTP/1.1\r\nHost: a.test\r\n\r\n", frame(1, b"late", masked=True), b"\xff\x00junk"])
async def test_what_follows_a_close_frame_is_never_read_as_a_request(more: bytes) -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        close = frame(8, b"\x03\xe8", masked=True)
        await client.sends(close + more)
        await backend.sees(close + more)
        await backend.sends(frame(8, b"\x03\xe8"))
        backend.closes()
        await client.sees(frame(8, b"\x03\xe8"))
        await client.ends()
        assert proxy.backend.count == 1
        await proxy.is_innocent()


async def test_second_request_in_a_tunnel_is_a_malformed_frame() -> None:
    async with proxying(Settings(close_wait=0.3)) as proxy:
        client, backend = await opened(proxy)
        await client.sends(UPGRADE + b"\r\n")
        await client.sees(frame(8, b"\x03\xea"))
        await client.ends()
        assert (await backend.reads(8))[:2] == b"\x88\x82"
        await backend.ends()
        assert proxy.backend.count == 1
        await proxy.is_innocent()


async def test_close_behind_a_half_sent_frame_of_100_mb_waits_for_its_end() -> None:
    async with proxying(Settings(close_wait=WAIT)) as proxy:
        client, backend = await opened(proxy)
        whole = frame(2, bytes(100_000_000))
        await backend.sends(whole[:1000])
        await client.sees(whole[:1000])
        next(iter(proxy.runtime.tunnels)).close(1001, b"", "drain")
        backend.writer.write(whole[1000:] + frame(1, b"after"))
        async with asyncio.timeout(WAIT):
            left = len(whole) - 1000
            while left:
                left -= len(await client.reader.readexactly(min(left, 1_000_000)))
        await client.sees(frame(8, b"\x03\xe9"))
        await client.sends(frame(8, b"\x03\xe9", masked=True))
        await backend.reads(8)
        await backend.sends(frame(8, b"\x03\xe9"))
        await client.ends()
        await backend.ends()
