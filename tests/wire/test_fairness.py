"""What one peer may have done in one turn of the event loop is counted, whatever it sends; an innocent is served meanwhile.

The attacker sends as much as the kernel takes. What was done is looked at in every turn of the loop that the proxy runs in.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest
from wire.harness import WAIT, Peer, Proxy, config_for, proxying
from wire.verbs import GET, SWITCH, UPGRADE, frame, opened

from proxy.exchange.http1_downstream import BUFFER_LIMIT, REQUESTS_PER_TURN, Http1Downstream
from proxy.http.message import Client
from proxy.http1.chunked import LINES_PER_TURN
from proxy.http1.head_scanner import MAX_HEAD
from proxy.observability.metrics import HTTP_REQUESTS
from proxy.tls.stream import RECORDS_PER_TURN
from proxy.websocket.frames import FRAMES_PER_TURN

UNKNOWN = b"GET /none HTTP/1.1\r\nHost: a.test\r\n\r\n"
"""What the proxy answers itself where it serves /ws only."""
FLOOD = 512 * 1024
MOST_AT_ONCE = 256_000
"""Bytes that uvloop reads at once."""


class PerTurn:
    """The most that a count grew by in one turn of the loop."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.count = count
        self.most = 0
        self.turns = 0

    async def watch(self) -> None:
        before = self.count()
        while True:
            await asyncio.sleep(0)
            now = self.count()
            if now != before:
                self.turns += 1
                self.most = max(self.most, now - before)
                before = now


@contextlib.asynccontextmanager
async def counting(count: Callable[[], int]) -> AsyncIterator[PerTurn]:
    found = PerTurn(count)
    task = asyncio.create_task(found.watch())
    try:
        yield found
    finally:
        task.cancel()


async def swallow(peer: Peer) -> None:
    """Read all that comes, so that nothing waits for it."""
    with contextlib.suppress(ConnectionError):
        while await peer.reader.read(1 << 20):
            pass


@contextlib.asynccontextmanager
async def flooding(peer: Peer, data: bytes, *, small_records: int = 0) -> AsyncIterator[None]:
    """Send `data` as fast as it is taken and read all that comes back; in pieces of `small_records`, each a record of TLS."""

    async def send() -> None:
        pieces = [data[at : at + small_records] for at in range(0, len(data), small_records)] if small_records else [data]
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                peer.writer.write(piece)
                if peer.writer.transport.get_write_buffer_size() > FLOOD:
                    await peer.writer.drain()
            await peer.writer.drain()

    tasks = [asyncio.create_task(send()), asyncio.create_task(swallow(peer))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def echoes(client: Peer, backend: Peer, times: int) -> None:
    """An innocent's messages go through, one after the other."""
    for number in range(times):
        sent = frame(1, b"%d" % number, masked=True)
        await client.sends(sent)
        await backend.sees(sent)
        await backend.sends(frame(1, b"%d" % number))
        await client.sees(frame(1, b"%d" % number))


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(3 * WAIT):
        while not reached():
            await asyncio.sleep(0)


@pytest.mark.parametrize("secure", [False, True])
async def test_requests_of_one_connection_are_counted(secure: bool) -> None:
    async with proxying() as proxy:
        proxy.serves(config_for(proxy.backend.port, path="/ws"))
        innocent = await opened(proxy)
        attacker = await proxy.client(secure=secure)
        many = FLOOD // len(UNKNOWN)
        requests = proxy.runtime.stats.unmatched

        def answered() -> int:
            return sum(requests.labelled(HTTP_REQUESTS).values())

        async with counting(answered) as found, flooding(attacker, UNKNOWN * many):
            await echoes(*innocent, 20)
            await until(lambda: answered() == many)

        # Once when they are read, once from the queue.
        assert REQUESTS_PER_TURN <= found.most <= 2 * REQUESTS_PER_TURN


async def test_requests_that_take_long_are_counted_by_their_time() -> None:
    """A path of many readings takes a hundred times as long as others: a turn that had begun 16 of them held up all others."""
    async with proxying() as proxy:
        proxy.serves(config_for(proxy.backend.port, path="/ws"))
        innocent = await opened(proxy)
        path = b"/%2e;b//c/%2541/." + b"/a" * 7000
        odd = b"GET " + path + b" HTTP/1.1\r\nHost: a.test\r\n\r\n"
        requests = proxy.runtime.stats.unmatched

        def answered() -> int:
            return sum(requests.labelled(HTTP_REQUESTS).values())

        async with counting(answered) as found, flooding(await proxy.client(), odd * 64):
            await echoes(*innocent, 5)
            await until(lambda: answered() == 64)

        # The first of a turn and one more: once when they are read, once from the queue.
        assert found.most <= 4
        await echoes(*innocent, 1)


@pytest.mark.slow
async def test_requests_of_many_connections_wait_in_one_queue_and_hold_a_bounded_buffer() -> None:
    async with proxying() as proxy:
        proxy.serves(config_for(proxy.backend.port, path="/ws"))
        innocent = await opened(proxy)
        many = FLOOD // len(UNKNOWN)
        requests = proxy.runtime.stats.unmatched
        most = 0

        def answered() -> int:
            nonlocal most
            most = max([most, *(one.unread_bytes for one in proxy.runtime.connections)])  # type: ignore[attr-defined]
            return sum(requests.labelled(HTTP_REQUESTS).values())

        async with counting(answered), contextlib.AsyncExitStack() as stack:
            for _ in range(8):
                await stack.enter_async_context(flooding(await proxy.client(), UNKNOWN * many))
            await echoes(*innocent, 20)
            await until(lambda: answered() == 8 * many)

        assert most <= BUFFER_LIMIT + MOST_AT_ONCE
        await echoes(*innocent, 1)


async def test_bytes_that_are_dropped_behind_an_early_answer_are_counted() -> None:
    async with proxying() as proxy:
        proxy.serves(config_for(proxy.backend.port, path="/ws"))
        innocent = await opened(proxy)
        attacker = await proxy.client()
        await attacker.sends(b"POST /none HTTP/1.1\r\nHost: a.test\r\nContent-Length: 999999999\r\n\r\n")
        assert (await attacker.answer())[0] == 404
        (connection,) = proxy.runtime.connections

        def dropped() -> int:
            lingering = connection.lingering  # type: ignore[attr-defined]
            return lingering._dropped if lingering is not None else 0

        async with counting(dropped) as found, flooding(attacker, bytes(32 * FLOOD)):
            await echoes(*innocent, 20)
            await until(lambda: dropped() == 32 * FLOOD)

        assert found.most <= MOST_AT_ONCE


@pytest.mark.parametrize("secure", [False, True])
async def test_requests_before_a_fin_are_all_answered_and_the_last_one_says_that_it_is(secure: bool) -> None:
    async with proxying() as proxy:
        proxy.serves(config_for(proxy.backend.port, path="/ws"))
        client = await proxy.client(secure=secure)
        many = 5 * REQUESTS_PER_TURN
        client.writer.write(UNKNOWN * many)
        if secure:
            # asyncio's TLS cannot end one direction: what comes with a close_notify is answered as far as it is read.
            await client.writer.drain()
        else:
            client.writer.write_eof()
        answers = [await client.answer() for _ in range(many)]

        assert [status for status, _, _ in answers] == [404] * many
        if not secure:
            assert [fields.get("connection") for _, fields, _ in answers] == [None] * (many - 1) + ["close"]
            await client.ends()


async def test_requests_to_a_backend_before_a_fin_are_all_answered() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        client.writer.write(GET * 3)
        client.writer.write_eof()
        backend = await proxy.backend.accepts()
        for number in range(3):
            await backend.head()
            await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
        answers = [await client.answer() for _ in range(3)]

        assert [(body, fields.get("connection")) for _, fields, body in answers] == [(b"0", None), (b"1", None), (b"2", "close")]
        await client.ends()


async def test_half_a_request_before_a_fin_ends_the_connection() -> None:
    async with proxying() as proxy:
        proxy.serves(config_for(proxy.backend.port, path="/ws"))
        client = await proxy.client()
        client.writer.write(UNKNOWN * (2 * REQUESTS_PER_TURN) + UNKNOWN[:10])
        client.writer.write_eof()
        for _ in range(2 * REQUESTS_PER_TURN):
            assert (await client.answer())[0] == 404
        await client.ends()


@pytest.mark.parametrize("connected", [True, False])
async def test_chunks_of_a_request_are_counted(connected: bool) -> None:
    """Also while the backend's connection is still being made."""
    async with proxying() as proxy:
        innocent = await opened(proxy)
        attacker = await proxy.client()
        head = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = b"1\r\nx\r\n" * (FLOOD // 6)
        if connected:
            await attacker.sends(head)
            backend = await proxy.backend.accepts()
        body = chunks + b"0\r\n\r\n"

        def passed() -> int:
            found = [one.exchange for one in proxy.runtime.connections if one.exchange]  # type: ignore[attr-defined]
            return found[0]._body_bytes if found else 0

        async with counting(passed) as found, flooding(attacker, body if connected else head + body):
            if not connected:
                backend = await proxy.backend.accepts()
            reading = asyncio.create_task(backend.head())
            await echoes(*innocent, 20)
            await reading
            async with asyncio.timeout(3 * WAIT):
                seen = await backend.reader.readuntil(b"0\r\n\r\n")

        assert seen == body
        assert LINES_PER_TURN // 2 <= found.most <= 2 * LINES_PER_TURN


async def test_chunks_of_an_answer_are_counted_and_all_arrive_though_the_backend_ends() -> None:
    async with proxying() as proxy:
        innocent = await opened(proxy)
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        body = b"1\r\nx\r\n" * (FLOOD // 6) + b"0\r\n\r\n"

        def passed() -> int:
            found = [one.exchange for one in proxy.runtime.connections if one.exchange]  # type: ignore[attr-defined]
            return found[0]._answer_bytes if found else 0

        async with counting(passed) as found:
            backend.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
            backend.closes()
            reading = asyncio.create_task(client.head())
            await echoes(*innocent, 20)
            await reading
            async with asyncio.timeout(3 * WAIT):
                seen = await client.reader.readuntil(b"0\r\n\r\n")

        assert seen == body
        assert LINES_PER_TURN // 2 <= found.most <= 2 * LINES_PER_TURN


async def test_cut_answer_of_many_chunks_does_not_look_whole() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        chunks = b"1\r\nx\r\n" * (50 * LINES_PER_TURN)
        backend.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        backend.closes()
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        seen = await client.rest()

        assert not seen.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("sender", ["client", "backend"])
async def test_frames_of_one_side_are_counted(sender: str, secure: bool) -> None:
    async with proxying(backend_tls=secure and sender == "backend") as proxy:
        innocent = await opened(proxy)
        others = set(proxy.runtime.tunnels)
        client = await proxy.client(secure=secure and sender == "client")
        await client.sends(UPGRADE + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(SWITCH + b"\r\n")
        await client.head()
        (tunnel,) = proxy.runtime.tunnels - others
        attacker, victim = (client, backend) if sender == "client" else (backend, client)
        one = frame(1, b"x", masked=sender == "client")
        records = len(one) if secure else 0
        many = (FLOOD // 8 if secure else FLOOD) // len(one)
        scanner = (tunnel.client if sender == "client" else tunnel.backend).scanner

        def scanned() -> int:
            return scanner.messages

        async with counting(scanned) as found, flooding(attacker, one * many, small_records=records):
            reading = asyncio.create_task(swallow(victim))
            await echoes(*innocent, 20)
            await until(lambda: scanned() == many)
            reading.cancel()

        limit = RECORDS_PER_TURN if secure else FRAMES_PER_TURN
        assert found.most <= 2 * limit


async def test_frames_before_a_close_all_arrive_however_many_they_are() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        pings = frame(9, masked=True) * (20 * FRAMES_PER_TURN)
        close = frame(8, b"\x03\xe8", masked=True)
        await client.sends(pings + close)
        await backend.sees(pings + close)
        await backend.sends(frame(8, b"\x03\xe8"))
        await client.sees(frame(8, b"\x03\xe8"))
        backend.closes()
        await client.ends()


async def test_frames_that_wait_stop_when_the_other_side_reads_none_and_go_on_when_it_does() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        backend.writer.transport.pause_reading()
        message = frame(2, bytes(1000), masked=True)
        many = 20_000
        async with flooding(client, message * many):
            (tunnel,) = proxy.runtime.tunnels
            await until(lambda: tunnel.client.read_paused)
            assert tunnel.backend.transport.get_write_buffer_size() < 2 * MOST_AT_ONCE
            backend.writer.transport.resume_reading()
            async with asyncio.timeout(3 * WAIT):
                seen = await backend.reader.readexactly(len(message) * many)

        assert seen == message * many


class Nowhere(asyncio.Transport):
    """A transport that drops what is written."""

    def write(self, data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return False


def seconds_per_byte(proxy: Proxy, size: int) -> float:
    """Let a head of `size` bytes come byte by byte; the time that each takes."""
    connection = Http1Downstream(proxy.runtime, Client(peer="127.0.0.1"))
    connection.connection_made(Nowhere())
    data = b"GET / HTTP/1.1\r\nHost: a.test\r\nX: " + b"x" * size
    start = time.process_time()
    for at in range(len(data)):
        connection.data_received(data[at : at + 1])
    spent = time.process_time() - start
    assert connection.unread_bytes == len(data)
    connection.connection_lost(None)
    return spent / len(data)


async def test_head_that_grows_byte_by_byte_costs_the_same_for_each_byte() -> None:
    """Nothing is scanned anew: of a head eight times as long, a byte would cost eight times as much."""
    async with proxying() as proxy:
        pairs = [(seconds_per_byte(proxy, MAX_HEAD // 9), seconds_per_byte(proxy, MAX_HEAD - 100)) for _ in range(3)]

        assert min(long / short for short, long in pairs) < 3


async def test_answers_head_that_grows_byte_by_byte_is_passed_on() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        answer = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2000 + b"\r\nContent-Length: 2\r\n\r\nok"
        for at in range(len(answer)):
            await backend.sends(answer[at : at + 1])
            await asyncio.sleep(0)
        status, fields, body = await client.answer()

        assert (status, fields["x"], body) == (200, "x" * 2000, b"ok")
