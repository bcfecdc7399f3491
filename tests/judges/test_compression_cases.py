"""Autobahn's categories 12 and 13: permessage-deflate (RFC 7692) offered, negotiated and used end to end, directly and through.

The client and its compression are written here, byte by byte; the server is the `websockets` library's, which compresses too.
What it sends is the same to the byte, because the same messages have gone through the same compressor.
"""

import asyncio
import contextlib
import random
import re
import zlib
from collections.abc import AsyncIterator

import pytest
from judges.autobahn import REQUEST, close, frame, frames_of
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from wire.harness import WAIT, config_for, proxying, trusting

OFFERS = {
    "13.1": b"permessage-deflate",
    "13.2": b"permessage-deflate; server_no_context_takeover",
    "13.3": b"permessage-deflate; server_max_window_bits=9",
    "13.4": b"permessage-deflate; server_max_window_bits=15",
    "13.5": b"permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
    "13.6": b"permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
    "13.7": b"permessage-deflate; server_no_context_takeover; server_max_window_bits=9, "
    b"permessage-deflate; server_no_context_takeover, permessage-deflate",
    "client may": b"permessage-deflate; client_max_window_bits; client_no_context_takeover",
}
SIZES = (0, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)
_RANDOM = random.Random(12)  # noqa: S311  the same bytes in every run
_WORDS = b"".join(b"%d lorem ipsum dolor sit amet, " % number for number in range(5000))
TEXTS = [_WORDS[:size] for size in SIZES]
NOISE = [_RANDOM.randbytes(size) for size in SIZES]
KINDS = {"12.1 text": (1, TEXTS), "12.2 what does not compress": (2, NOISE), "12.3 zeros": (2, [bytes(size) for size in SIZES])}


async def echo(socket: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in socket:
            await socket.send(message)


@pytest.fixture
async def server() -> AsyncIterator[int]:
    async with serve(echo, "127.0.0.1", 0, max_size=None, compression="deflate", ping_interval=None, close_timeout=1) as made:
        yield next(iter(made.sockets)).getsockname()[1]


class Client:
    """A raw client that compresses as was agreed; everything it gets is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._bits = 15
        self._deflate = zlib.compressobj(wbits=-15)
        self._inflate = zlib.decompressobj(wbits=-15)
        self.agreed = b""
        self.got = b""

    async def offers(self, offer: bytes) -> None:
        self._writer.write(REQUEST[:-2] + b"Sec-WebSocket-Extensions: " + offer + b"\r\n\r\n")
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        lines = [line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-extensions:")]
        self.agreed = b"".join(lines)
        bits = re.search(rb"client_max_window_bits=(\d+)", self.agreed)
        self._bits = int(bits[1]) if bits else 15
        self._deflate = zlib.compressobj(wbits=-self._bits)

    def sends(self, opcode: int, message: bytes, *, pieces: int = 1) -> None:
        """Send a compressed message in as many frames; the first one says that it is (RFC 7692, 6.1)."""
        packed = (self._deflate.compress(message) + self._deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")
        if b"client_no_context_takeover" in self.agreed:
            self._deflate = zlib.compressobj(wbits=-self._bits)
        size = -(-len(packed) // pieces)
        for number in range(pieces):
            part = packed[number * size : (number + 1) * size]
            last = number == pieces - 1
            self._writer.write(frame(0 if number else opcode, part, fin=last, rsv=0 if number else 4))
            if not last:
                self._writer.write(frame(9, b"between"))  # a control frame is never compressed

    def sends_raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def sees(self) -> tuple[int, bytes]:
        """The next message, decompressed; pongs are kept, not told."""
        packed, opcode, compressed = b"", 0, False
        while True:
            head = await self._reads(2)
            size = head[1]
            if size >= 126:
                size = int.from_bytes(await self._reads(2 if size == 126 else 8), "big")
            payload = await self._reads(size)
            if head[0] & 8:
                assert head[0] == 0x8A
                assert payload == b"between"
                continue
            if head[0] & 15:
                opcode, compressed = head[0] & 15, bool(head[0] & 0x40)
            packed += payload
            if head[0] & 0x80:
                break
        if not compressed:
            return opcode, packed
        message = self._inflate.decompress(packed + b"\0\0\xff\xff")
        if b"server_no_context_takeover" in self.agreed:
            self._inflate = zlib.decompressobj(wbits=-15)
        return opcode, message

    async def _reads(self, count: int) -> bytes:
        found = await self._reader.readexactly(count)
        self.got += found
        return found

    async def rest(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            return await self._reader.read()
        return b""


@contextlib.asynccontextmanager
async def connected(port: int, *, secure: bool = False) -> AsyncIterator[Client]:
    context = trusting() if secure else None
    name = "a.test" if secure else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24, ssl=context, server_hostname=name)
    try:
        async with asyncio.timeout(WAIT):
            yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def converse(client: Client, offer: bytes, opcode: int, messages: list[bytes], pieces: int) -> tuple[bytes, bytes]:
    """Say every message and hear its echo; give what was agreed and every byte that came."""
    await client.offers(offer)
    assert b"permessage-deflate" in client.agreed
    for message in messages:
        client.sends(opcode, message, pieces=pieces)
        assert await client.sees() == (opcode, message)
    client.sends_raw(close())
    rest = await client.rest()
    assert rest == b"\x88\x02\x03\xe8"
    return client.agreed, client.got


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offer", OFFERS)
async def test_compressed_messages_are_the_same_through_the_proxy(
    server: int, offer: str, kind: str, pieces: int, secure: bool
) -> None:
    opcode, messages = KINDS[kind]
    async with connected(server) as client:
        direct = await converse(client, OFFERS[offer], opcode, messages, pieces)
    async with proxying() as proxy:
        proxy.serves(config_for(server))
        async with connected(proxy.tls_port if secure else proxy.port, secure=secure) as client:
            through = await converse(client, OFFERS[offer], opcode, messages, pieces)

    assert through == direct


REFUSED = {
    "bits that nobody agreed on": (b"permessage-deflate", frame(2, b"x", rsv=2)),
    "compressed ping": (b"permessage-deflate", frame(9, b"x", rsv=4)),
    "compressed continuation": (b"permessage-deflate", frame(2, b"x", fin=False, rsv=4) + frame(0, b"y", rsv=4)),
    "not deflate at all": (b"permessage-deflate", frame(2, b"\xff\xff\xff\xff", rsv=4)),
    "reserved opcode": (b"permessage-deflate", frame(3, b"x")),
    "extension that is not taken": (b"x-unknown; parameter=1", frame(1, b"x", rsv=4)),
    "no such window": (b"permessage-deflate; server_max_window_bits=99", frame(1, b"x", rsv=4)),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_misuse_of_compression_has_the_same_verdict_through_the_proxy(server: int, name: str) -> None:
    offer, misuse = REFUSED[name]

    async def play(port: int) -> tuple[bytes, list[bytes]]:
        async with connected(port) as client:
            await client.offers(offer)
            client.sends_raw(misuse)
            frames = frames_of(await client.rest())
            return client.agreed, [one[2:4] for one in frames if one[0] == 0x88]

    direct = await play(server)
    async with proxying() as proxy:
        proxy.serves(config_for(server))
        through = await play(proxy.port)

    assert through == direct
    assert len(direct[1]) == 1
