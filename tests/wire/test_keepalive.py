"""The proxy's own pings: who is asked and when, what is done with answers, and what becomes of who gives none."""

import asyncio
import socket

import pytest
from wire.harness import WAIT, Peer, Proxy, proxying
from wire.verbs import SWITCH, UPGRADE, closed, frame, opened, unmasked

from proxy.model.policy import Keepalive, Timeouts
from proxy.observability.metrics import WS_PING_RTT
from proxy.observability.stats_delta import HistogramDelta
from proxy.settings import Settings
from proxy.websocket.socket_rows import describe

INTERVAL = 0.3
SHORT = Keepalive(interval=INTERVAL)
GOING_AWAY = b"\x03\xe9"
FAST = Settings(close_wait=0.3)


async def asked(client: Peer) -> bytes:
    """The client sees a ping next; its payload."""
    head = await client.reads(2)
    assert head == b"\x89\x0c"
    return await client.reads(12)


def rtt_of(proxy: Proxy) -> HistogramDelta | None:
    return proxy.runtime.stats.route("ingress/test/a/0").take_delta().histograms.get((WS_PING_RTT.number, ()))


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 5, 100])
async def test_silent_client_is_asked_and_its_answer_goes_no_further(step: int) -> None:
    async with proxying(policies=(SHORT,)) as proxy:
        client, backend = await opened(proxy)
        payloads = [await asked(client)]
        for number in range(3):
            pong = frame(10, payloads[-1], masked=True)
            for place in range(0, len(pong), step):
                await client.sends(pong[place : place + step])
            if number < 2:
                payloads.append(await asked(client))
        last = frame(1, b"behind the pongs", masked=True)
        await client.sends(last)
        await backend.sees(last)

        assert len({payload[:8] for payload in payloads}) == 1
        assert [payload[8:] for payload in payloads] == [number.to_bytes(4, "big") for number in (1, 2, 3)]
        found = rtt_of(proxy)
        assert found is not None
        assert sum(found.counts) == 3


@pytest.mark.slow
async def test_silent_backend_is_asked_in_a_masked_frame_where_it_is_meant() -> None:
    async with proxying(policies=(Keepalive(interval=INTERVAL, to="backend"),)) as proxy:
        client, backend = await opened(proxy)
        for _ in range(2):
            assert await backend.reads(2) == b"\x89\x8c"
            await backend.sends(frame(10, unmasked(await backend.reads(16))))
        last = frame(1, b"behind the pongs")
        await backend.sends(last)

        await client.sees(last)


async def test_both_sides_are_asked_where_both_are_meant() -> None:
    async with proxying(policies=(Keepalive(interval=INTERVAL, to="both"),)) as proxy:
        client, backend = await opened(proxy)
        to_client = await asked(client)
        assert await backend.reads(2) == b"\x89\x8c"

        assert to_client[:8] != unmasked(await backend.reads(16))[:8]


async def test_pong_of_one_socket_is_nothing_to_another() -> None:
    async with proxying(policies=(SHORT,)) as proxy:
        one, _ = await opened(proxy)
        other, backend = await opened(proxy)
        foreign = frame(10, await asked(one), masked=True)
        await other.sends(foreign)

        await backend.sees(foreign)


@pytest.mark.slow
async def test_frames_of_the_client_replace_the_ping() -> None:
    async with proxying(policies=(SHORT,)) as proxy:
        client, backend = await opened(proxy)
        loop = asyncio.get_running_loop()
        until = loop.time() + 4 * INTERVAL
        said = frame(10, b"", masked=True)
        while loop.time() < until:
            await client.sends(said)
            await backend.sees(said)
            answer = frame(1, b"x")
            await backend.sends(answer)
            await client.sees(answer)  # and no ping before it

        await asked(client)


async def test_frames_towards_the_client_replace_nothing() -> None:
    async with proxying(policies=(SHORT,)) as proxy:
        client, backend = await opened(proxy)

        async def chatter() -> None:
            while True:
                await backend.sends(frame(1, b"tick"))
                await asyncio.sleep(INTERVAL / 10)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(chatter())
            seen = b""
            async with asyncio.timeout(WAIT):
                while b"\x89\x0c" not in seen:
                    seen += await client.reads(1)
            task.cancel()

        ticks = seen.removesuffix(b"\x89\x0c")
        assert ticks == frame(1, b"tick") * (len(ticks) // 6)


@pytest.mark.slow
async def test_ping_of_the_application_stands_for_ours_and_its_answer_passes() -> None:
    async with proxying(FAST, policies=(Keepalive(interval=INTERVAL, misses=8),)) as proxy:
        client, backend = await opened(proxy)
        ping = frame(9, b"the application's")
        await backend.sends(ping)
        await client.sees(ping)
        side = next(iter(proxy.runtime.tunnels)).client
        async with asyncio.timeout(WAIT):
            while side.pinger is None or side.pinger._missed < 2:
                await asyncio.sleep(0)
        assert side.pinger._number == 0
        pong = frame(10, b"the application's", masked=True)
        await client.sends(pong)

        await backend.sees(pong)
        await asked(client)  # the first one of ours, now that there is an answer


async def test_ping_waits_for_the_end_of_the_frame_under_way() -> None:
    async with proxying(policies=(Keepalive(interval=INTERVAL, misses=20),)) as proxy:
        client, backend = await opened(proxy)
        whole = frame(2, b"x" * 1000)
        await backend.sends(whole[:500])
        await client.sees(whole[:500])
        scanner = next(iter(proxy.runtime.tunnels)).backend.scanner
        async with asyncio.timeout(WAIT):
            while not scanner.frame_to_insert:
                await asyncio.sleep(0)
        await backend.sends(whole[500:] + frame(1, b"after"))
        await client.sees(whole[500:])
        payload = await asked(client)
        await client.sees(frame(1, b"after"))
        await client.sends(frame(10, payload, masked=True) + frame(1, b"alive", masked=True))
        await backend.reads(11)

        found = rtt_of(proxy)
        assert found is not None
        assert sum(found.counts) == 1


@pytest.mark.slow
async def test_silent_client_that_never_answers_is_closed_and_the_backend_told_1001() -> None:
    async with proxying(FAST, policies=(SHORT,)) as proxy:
        client, backend = await opened(proxy)
        first, second = await asked(client), await asked(client)
        head = await backend.reads(6)
        assert (head[:2], unmasked(head[2:] + await backend.reads(2))) == (b"\x88\x82", GOING_AWAY)
        await backend.ends()

        assert (first[8:], second[8:]) == (b"\0\0\0\x01", b"\0\0\0\x02")
        assert await client.rest() == b"\x88\x02" + GOING_AWAY
        assert await closed(proxy) == {("1001", "proxy:ping_timeout"): 1}


@pytest.mark.slow
async def test_silent_backend_that_never_answers_is_closed_and_the_client_told_1001() -> None:
    async with proxying(FAST, policies=(Keepalive(interval=INTERVAL, misses=1, to="backend"),)) as proxy:
        client, _ = await opened(proxy)
        await client.sees(b"\x88\x02" + GOING_AWAY)
        await client.ends()

        assert await closed(proxy) == {("1001", "proxy:ping_timeout"): 1}


@pytest.mark.slow
async def test_data_in_place_of_the_pong_is_a_sign_of_life() -> None:
    async with proxying(policies=(Keepalive(interval=INTERVAL, misses=1),)) as proxy:
        client, backend = await opened(proxy)
        for _ in range(4):
            await asked(client)
            said = frame(1, b"no pong, but here I am", masked=True)
            await client.sends(said)
            await backend.sees(said)


@pytest.mark.slow
async def test_misses_count_only_in_a_row() -> None:
    async with proxying(policies=(Keepalive(interval=INTERVAL, misses=2),)) as proxy:
        client, backend = await opened(proxy)
        for _ in range(3):
            first, second = await asked(client), await asked(client)
            assert int.from_bytes(second[8:], "big") == int.from_bytes(first[8:], "big") + 1
            said = frame(1, b"late, but here I am", masked=True)
            await client.sends(said)
            await backend.sees(said)


@pytest.mark.slow
async def test_late_answer_is_a_sign_of_life_and_not_timed() -> None:
    async with proxying(policies=(Keepalive(interval=INTERVAL, misses=20),)) as proxy:
        client, backend = await opened(proxy)
        first, second = await asked(client), await asked(client)
        said = frame(1, b"so far", masked=True)
        await client.sends(frame(10, first, masked=True) + said)
        await backend.sees(said)
        late = rtt_of(proxy)
        await client.sends(frame(10, second, masked=True) + said)
        await backend.sees(said)
        timely = rtt_of(proxy)

        assert late is None
        assert timely is not None
        assert sum(timely.counts) == 1


@pytest.mark.slow
async def test_client_that_is_busy_taking_what_was_sent_is_not_dead() -> None:
    async with proxying(FAST, policies=(Keepalive(interval=INTERVAL, misses=1),)) as proxy:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", proxy.port))
            await loop.sock_sendall(sock, UPGRADE + b"\r\n")
            backend = await proxy.backend.accepts()
            await backend.head()
            await backend.sends(SWITCH + b"\r\n")
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await loop.sock_recv(sock, 65536)
            left = len(whole := frame(2, bytes(8_000_000)))
            backend.writer.write(whole)
            pause = 8 * INTERVAL / (left / 40_000)
            started = loop.time()
            async with asyncio.timeout(2 * WAIT):
                # Over many intervals; meanwhile a ping waits behind it in the kernel's buffers and ours.
                while left > 0:
                    left -= len(data := await loop.sock_recv(sock, min(40_000, left)))
                    assert data, "closed while it was taking what was sent"
                    await asyncio.sleep(pause)
                ping = b""
                while len(ping) < 14:
                    ping += await loop.sock_recv(sock, 14 - len(ping))

            assert ping[:2] == b"\x89\x0c"
            assert loop.time() - started > 5 * INTERVAL
        await closed(proxy)


@pytest.mark.slow
async def test_own_pings_do_not_keep_an_idle_socket_open() -> None:
    async with proxying(FAST, policies=(SHORT, Timeouts(idle=4 * INTERVAL))) as proxy:
        client, _ = await opened(proxy)
        pings = 0
        async with asyncio.timeout(WAIT):
            while (head := await client.reads(2)) == b"\x89\x0c":
                pings += 1
                await client.sends(frame(10, await client.reads(12), masked=True))

        assert head == b"\x88\x02"
        assert await client.reads(2) == GOING_AWAY
        assert pings >= 2
        await client.ends()
        assert await closed(proxy) == {("1001", "proxy:idle"): 1}


async def test_client_that_half_closed_is_not_asked() -> None:
    async with proxying(FAST, policies=(Keepalive(interval=INTERVAL, misses=1),)) as proxy:
        client, backend = await opened(proxy)
        client.writer.write_eof()
        assert await backend.rest() == b""
        side = next(iter(proxy.runtime.tunnels)).client
        assert side.pinger is not None
        async with asyncio.timeout(WAIT):
            while side.pinger._deadline.at:
                await asyncio.sleep(0)
        said = frame(1, b"still talking")
        await backend.sends(said)
        await client.sees(said)
        backend.closes()
        await client.ends()


async def test_without_the_policy_nobody_is_asked() -> None:
    async with proxying() as proxy:
        await opened(proxy)
        tunnel = next(iter(proxy.runtime.tunnels))

        assert (tunnel.client.pinger, tunnel.backend.pinger) == (None, None)
        assert (tunnel.client.scanner.nonce, tunnel.backend.scanner.nonce) == (b"", b"")


async def test_ended_sockets_leave_nothing_on_the_wheel() -> None:
    async with proxying(policies=(Keepalive(interval=30.0, to="both"),)) as proxy:
        client, _ = await opened(proxy)
        client.resets()
        await closed(proxy)

        assert not any(bucket for bucket in proxy.runtime.wheel._buckets.values() if any(one.at for one in bucket))


async def test_listing_shows_the_last_round_trip_and_since_when_applications_are_silent() -> None:
    async with proxying(policies=(SHORT,)) as proxy:
        client, backend = await opened(proxy)
        tunnel = next(iter(proxy.runtime.tunnels))
        before = describe(tunnel, tunnel.opened)
        said = frame(1, b"hello", masked=True)
        await client.sends(said)
        await backend.sees(said)
        heard = tunnel.client.last_heard
        await client.sends(frame(10, await asked(client), masked=True) + frame(1, b"behind the pong", masked=True))
        await backend.reads(21)
        after = describe(tunnel, tunnel.client.last_heard + 5.0)

        assert (before.rtt, before.idle) == (None, 0.0)
        assert tunnel.client.last_heard > heard
        assert after.rtt is not None
        assert 0 < after.rtt < WAIT
        assert after.idle == 5.0


@pytest.mark.parametrize("policy", [Keepalive(interval=0.0), Keepalive(misses=0), Keepalive(interval=float("nan"))])
async def test_policy_that_makes_no_sense_is_rejected(policy: Keepalive) -> None:
    async with proxying(policies=(policy,)) as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")

        assert (await client.answer())[0] == 500
        assert list(proxy.runtime.rejected) == ["ingress/test/a/0"]
