"""How a proxy ends: requests finish, sockets are closed over a time, what never ends is cut."""

import asyncio
import contextlib
import os
import re
import signal

import aiohttp
import pytest
from e2e.harness import HOST, Hub, backend, config, established, get, ok, proxy, running, until


async def test_sigterm_finishes_requests_closes_sockets_and_ends_before_the_grace(hub: Hub) -> None:
    hold = asyncio.Event()
    async with (
        backend(hold=hold) as port,
        proxy(hub, "--workers", "2", "--drain-delay", "500ms", "--drain-time", "500ms", "--grace", "20s") as one,
        aiohttp.ClientSession() as session,
    ):
        hub.publish(config(port))
        await one.ready()
        sockets = [await session.ws_connect(f"http://127.0.0.1:{one.http}/ws", headers={"Host": HOST}) for _ in range(6)]
        for number, one_socket in enumerate(sockets):
            await one_socket.send_str(str(number))
            assert await one_socket.receive_str(timeout=5) == str(number)
        slow = asyncio.create_task(get(one.http, "/slow"))
        await until(lambda: established(port) >= 7)
        one.process.send_signal(signal.SIGTERM)
        await one.ready(503)
        late = await get(one.http)
        closes = [await one_socket.receive(timeout=10) for one_socket in sockets]
        hold.set()
        finished = await slow
        async with asyncio.timeout(10):
            status = await one.process.wait()

    assert ok(late)
    assert [(close.type, close.data) for close in closes] == [(aiohttp.WSMsgType.CLOSE, 1001)] * 6
    assert ok(finished)
    assert status == 0


async def test_sigterm_lets_an_upload_end_that_was_begun_before(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1", "--drain-time", "1s", "--grace", "20s") as one:
        hub.publish(config(port))
        await one.ready()
        reader, writer = await asyncio.open_connection("127.0.0.1", one.http)
        writer.write(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n01234".encode())
        await until(lambda: established(port) >= 1)
        one.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while True:
                    await get(one.http)
        writer.write(b"56789")
        async with asyncio.timeout(10):
            answer = await reader.read()
            status = await one.process.wait()
        writer.close()

    assert ok(answer)
    assert status == 0


@pytest.mark.parametrize("drips", [False, True])
async def test_clients_that_linger_after_an_early_answer_do_not_hold_up_the_end(hub: Hub, drips: bool) -> None:
    """Silent ones are closed after --close-wait, those that go on sending at the end of --grace."""
    async with (
        backend() as port,
        proxy(hub, "--workers", "1", "--drain-time", "0s", "--close-wait", "200ms", "--grace", "3s") as one,
    ):
        hub.publish(config(port))
        await one.ready()
        reader, writer = await asyncio.open_connection("127.0.0.1", one.http)
        writer.write(b"POST / HTTP/1.1\r\nHost: unknown.example.com\r\nContent-Length: 1000000\r\n\r\n")

        async def drip() -> None:
            while drips:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
            one.process.send_signal(signal.SIGTERM)
            status = await one.process.wait()
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert status == 0


async def test_sigterm_closes_sockets_oldest_first_and_spread_over_the_drain_time(hub: Hub) -> None:
    async with (
        backend() as port,
        proxy(hub, "--workers", "1", "--drain-time", "1s") as one,
        aiohttp.ClientSession() as session,
    ):
        hub.publish(config(port))
        await one.ready()
        sockets = [await session.ws_connect(f"http://127.0.0.1:{one.http}/ws", headers={"Host": HOST}) for _ in range(8)]
        for each in sockets:
            await each.send_str("open")
            await each.receive_str(timeout=5)
        ended: list[tuple[int, float]] = []

        async def watch(number: int) -> None:
            await sockets[number].receive(timeout=10)
            ended.append((number, asyncio.get_running_loop().time()))

        watching = [asyncio.create_task(watch(number)) for number in range(8)]
        one.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*watching)

    assert [number for number, _ in ended] == list(range(8))
    assert ended[-1][1] - ended[0][1] > 0.6


async def test_sigterm_tells_kept_connections_to_come_back_while_it_still_accepts(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2", "--drain-delay", "2s") as one:
        hub.publish(config(port))
        await one.ready()
        kept = await asyncio.open_connection("127.0.0.1", one.http)
        before = await ask(*kept)
        one.process.send_signal(signal.SIGTERM)
        await one.ready(503)
        told = await ask(*kept)
        ended = await kept[0].read()
        again = await get(one.http)
        kept[1].close()

    assert [b"Connection: close" in head for head in (before, told)] == [False, True]
    assert ended == b""
    assert ok(again)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Ask by a connection that is kept; return the head of the answer, whose body was read too."""
    writer.write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))
    assert head.startswith(b"HTTP/1.1 200 ")
    return head


async def test_sigterm_twice_ends_at_once_and_one_that_comes_twice_is_one(hub: Hub) -> None:
    hold = asyncio.Event()
    async with backend(hold=hold) as port, proxy(hub, "--workers", "2", "--drain-delay", "30s") as one:
        hub.publish(config(port))
        await one.ready()
        workers = one.workers()
        one.process.send_signal(signal.SIGTERM)
        await one.ready(503)
        one.process.send_signal(signal.SIGTERM)  # the same signal, from somebody else who had it
        answered = await get(one.http)
        async with asyncio.timeout(10):
            while running(workers):
                one.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.05)
            status = await one.process.wait()

    assert ok(answered)
    assert status == 1


async def test_grace_cuts_a_request_that_never_ends(hub: Hub) -> None:
    async with backend(hold=asyncio.Event()) as port, proxy(hub, "--workers", "1", "--grace", "3s", "--close-wait", "1s") as one:
        hub.publish(config(port))
        await one.ready()
        slow = asyncio.create_task(get(one.http, "/slow"))
        await until(lambda: established(port) > 0)
        one.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(3):
            status = await one.process.wait()
        answers = await asyncio.gather(slow, return_exceptions=True)

    assert status == 0
    assert not ok(answers[0] if isinstance(answers[0], bytes) else b"")


async def test_sigterm_while_a_worker_is_away_answers_what_waits_for_it(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1", "--drain-time", "1s") as one:
        hub.publish(config(port))
        await one.ready()
        for _ in range(3):
            (worker,) = one.workers()
            os.kill(worker, signal.SIGKILL)
            await until(lambda gone=worker: gone not in one.workers())
            await until(lambda: len(one.workers()) == 1)
        (worker,) = one.workers()
        os.kill(worker, signal.SIGKILL)
        await until(lambda: not one.workers())
        asking = asyncio.create_task(get(one.http))
        await asyncio.sleep(0.05)  # the connection waits in the queue; nothing tells when it does
        one.process.terminate()
        answer = await asking

    assert ok(answer)
