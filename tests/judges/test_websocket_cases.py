"""The categories of Autobahn's case list, each case twice: directly to an echo server and through the proxy.

The verdicts are the same: what the client gets of messages and pongs, and the code of the close frame. Where the proxy refuses a
malformed header itself, the server behind it would have refused it with the same code.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import pytest
from judges.autobahn import CASES, REQUEST, Verdict, frames_of, verdict
from judges.echo import serving_echo
from wire.harness import WAIT, config_for, proxying

from proxy.settings import Settings

SMALL = 4096
"""Bytes up to which a case is sent one by one; longer ones go in pieces."""
PIECE = 997
_REFUSED = ("2.5 ", "3.", "4.", "5.1 ", "5.2 ", "5.9 ", "5.11 ", "5.15 ", "5.18 ", "unmasked ")
MALFORMED = [name for name in CASES if name.startswith(_REFUSED)]
"""Cases with a header that the proxy itself refuses."""


@pytest.fixture
async def server() -> AsyncIterator[int]:
    async with serving_echo() as port:
        yield port


class Recorder:
    """Stands before a server, passes everything on, and keeps what was sent to it behind the head."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.seen = b""
        self._server_port = port
        self._ended = asyncio.Event()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._server_port)
        answering = asyncio.create_task(self._pass_on(there, writer))
        head = await reader.readuntil(b"\r\n\r\n")
        back.write(head)
        pieces = []
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1024 * 1024):
                pieces.append(piece)
                back.write(piece)
        self.seen = b"".join(pieces)
        back.close()
        await answering
        writer.close()
        self._ended.set()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1024 * 1024):
                writer.write(piece)
            writer.write_eof()

    async def whole(self) -> bytes:
        """What came, when the connection has ended."""
        await asyncio.wait_for(self._ended.wait(), WAIT)
        return self.seen

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Recorder"]:
        made = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = made.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            made.close()


async def play(port: int, data: bytes, piece: int = 0) -> Verdict:
    """Send a case, at once or in pieces; give its verdict."""
    async with asyncio.timeout(WAIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024 * 1024)
        writer.write(REQUEST)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")

        async def send() -> None:
            with contextlib.suppress(ConnectionError):
                for place in range(0, len(data), piece or len(data)):
                    writer.write(data[place : place + (piece or len(data))])
                    await asyncio.sleep(0)
                    if piece:
                        await writer.drain()
                await writer.drain()

        sending = asyncio.create_task(send())
        seen = b""
        with contextlib.suppress(ConnectionError):
            while read := await reader.read(1024 * 1024):
                seen += read
        await sending
        writer.close()
    return verdict(seen)


@pytest.mark.parametrize("name", CASES)
async def test_case_has_the_same_verdict_through_the_proxy_and_the_backend_sees_its_very_bytes(server: int, name: str) -> None:
    data = CASES[name]
    direct = await play(server, data)
    async with Recorder(server).running() as recorder, proxying() as proxy:
        proxy.serves(config_for(recorder.port))
        through = await play(proxy.port, data)
        seen = await recorder.whole()

    assert through == direct
    if seen != data:
        # The proxy refused a header: whole frames before it, then a close frame of its own, with the code 1001.
        assert direct[1] == 1002
        assert seen[:-8] in [b"", *itertools.accumulate(frames_of(data))][:-1]
        assert seen[-8:-6] == b"\x88\x82"
        assert bytes(a ^ b for a, b in zip(seen[-2:], seen[-6:-4], strict=True)) == b"\x03\xe9"


@pytest.mark.parametrize("name", MALFORMED)
async def test_closing_waits_for_no_answer_of_a_client_that_broke_the_protocol(server: int, name: str) -> None:
    """Autobahn ends a connection that lasts for a second after the last frame, and has another verdict then."""
    async with proxying(Settings(close_wait=10 * WAIT)) as proxy:
        proxy.serves(config_for(server))
        _, code = await play(proxy.port, CASES[name])

    assert code == 1002


@pytest.mark.parametrize("name", CASES)
async def test_case_has_the_same_verdict_when_it_comes_byte_by_byte(server: int, name: str) -> None:
    data = CASES[name]
    direct = await play(server, data)
    async with proxying() as proxy:
        proxy.serves(config_for(server))
        through = await play(proxy.port, data, 1 if len(data) <= SMALL else PIECE)

    assert through == direct
