"""Limits on messages: decided from headers, nothing of the excess forwarded; the sender hears why, the other side that it ends."""

import asyncio
import os

import pytest
from wire.harness import WAIT, Peer, Proxy, proxying
from wire.verbs import SWITCH, UPGRADE, closed, frame, opened, unmasked

from proxy.model.policy import MessageLimits
from proxy.settings import Settings

FAST = Settings(close_wait=0.3)
TOO_BIG, POLICY, GOING_AWAY = b"\x03\xf1", b"\x03\xf0", b"\x03\xe9"


async def told(backend: Peer, code: bytes) -> None:
    """The backend sees a close frame with that code next."""
    head = await backend.reads(6)
    assert (head[:2], unmasked(head[2:] + await backend.reads(2))) == (b"\x88\x82", code)


async def test_message_of_exactly_the_limit_passes_both_ways() -> None:
    async with proxying(policies=(MessageLimits(size=70_000),)) as proxy:
        client, backend = await opened(proxy)
        for size in (1, 125, 126, 65_535, 65_536, 70_000):
            up, down = frame(2, os.urandom(size), masked=True), frame(2, os.urandom(size))
            await asyncio.gather(client.sends(up), backend.sees(up), backend.sends(down), client.sees(down))


@pytest.mark.parametrize("size", [101, 126, 70_000, 1 << 50])
async def test_too_large_message_of_the_client_ends_with_1009_at_its_header(size: int) -> None:
    async with proxying(FAST, policies=(MessageLimits(size=100),)) as proxy:
        client, backend = await opened(proxy)
        good = frame(1, b"good", masked=True)
        length = bytes([0x80 | size]) if size < 126 else b"\xff" + size.to_bytes(8, "big")
        if 126 <= size < 65_536:
            length = b"\xfe" + size.to_bytes(2, "big")
        await client.sends(good + b"\x82" + length + b"mask")
        await backend.sees(good)
        await told(backend, GOING_AWAY)
        await client.sees(b"\x88\x02" + TOO_BIG)
        await backend.ends()
        await client.ends()

        assert await closed(proxy) == {("1009", "proxy:limit"): 1}
        await proxy.is_innocent()


async def test_too_large_message_of_the_backend_ends_with_1009_to_it_and_1001_to_the_client() -> None:
    async with proxying(FAST, policies=(MessageLimits(size=100),)) as proxy:
        client, backend = await opened(proxy)
        await backend.sends(frame(1, b"good") + frame(2, bytes(101)))
        await client.sees(frame(1, b"good") + b"\x88\x02" + GOING_AWAY)
        await told(backend, TOO_BIG)
        await client.sends(frame(8, GOING_AWAY, masked=True))
        await client.ends()

        assert await closed(proxy) == {("1009", "proxy:limit"): 1}


async def test_fragments_count_together_and_controls_between_them_do_not() -> None:
    async with proxying(FAST, policies=(MessageLimits(size=100),)) as proxy:
        client, backend = await opened(proxy)
        fits = (
            frame(1, bytes(60), masked=True, first=0)
            + frame(9, bytes(125), masked=True)
            + frame(0, bytes(40), masked=True, first=0)
        )
        await client.sends(fits + frame(0, b"x", masked=True))
        await backend.sees(fits)
        await told(backend, GOING_AWAY)

        await client.sees(b"\x88\x02" + TOO_BIG)


async def test_next_message_begins_to_count_anew() -> None:
    async with proxying(policies=(MessageLimits(size=100),)) as proxy:
        client, backend = await opened(proxy)
        message = frame(1, bytes(60), masked=True, first=0) + frame(0, bytes(40), masked=True)
        await client.sends(message * 50)
        await backend.sees(message * 50)


@pytest.mark.slow
async def test_sender_that_goes_on_hears_why_and_ends_in_its_own_time() -> None:
    async with proxying(Settings(close_wait=WAIT), policies=(MessageLimits(size=100_000),)) as proxy:
        client, backend = await opened(proxy)
        # It is in the midst of 20 MB when it is told; only then does it look.
        await client.sends(frame(2, bytes(20_000_000), masked=True))
        await client.sees(b"\x88\x02" + TOO_BIG)
        await told(backend, GOING_AWAY)
        await backend.sends(frame(8, GOING_AWAY))
        await client.sends(frame(8, TOO_BIG, masked=True))
        await client.ends()
        await backend.ends()

        assert await closed(proxy) == {("1009", "proxy:limit"): 1}


async def test_messages_beyond_burst_and_rate_end_with_1008() -> None:
    async with proxying(FAST, policies=(MessageLimits(rate=0.01, burst=3),)) as proxy:
        client, backend = await opened(proxy)
        message = frame(1, b"hi", masked=True)
        await client.sends(message)
        await backend.sees(message)
        await client.sends(message * 2 + frame(9, b"", masked=True) + message)
        await backend.sees(message * 2)
        assert (await backend.reads(6))[:2] == b"\x89\x80"
        await told(backend, GOING_AWAY)

        await client.sees(b"\x88\x02" + POLICY)
        assert await closed(proxy) == {("1008", "proxy:limit"): 1}


async def test_pings_and_messages_of_the_backend_are_not_counted() -> None:
    async with proxying(policies=(MessageLimits(rate=0.01, burst=1),)) as proxy:
        client, backend = await opened(proxy)
        pings, many = frame(9, b"", masked=True) * 100, frame(1, b"news") * 100
        await client.sends(pings)
        await backend.sees(pings)
        await backend.sends(many)
        await client.sees(many)


async def test_allowance_comes_back_with_time() -> None:
    async with proxying(policies=(MessageLimits(rate=20.0, burst=1),)) as proxy:
        client, backend = await opened(proxy)
        message = frame(1, b"hi", masked=True)
        for _ in range(5):
            await client.sends(message)
            await backend.sees(message)
            await asyncio.sleep(0.06)  # the rate is a matter of time; longer does no harm


async def test_each_socket_has_an_allowance_of_its_own() -> None:
    async with proxying(policies=(MessageLimits(rate=0.01, burst=1),)) as proxy:
        message = frame(1, b"hi", masked=True)
        for _ in range(5):
            client, backend = await opened(proxy)
            await client.sends(message)
            await backend.sees(message)


async def test_early_message_is_counted_too() -> None:
    async with proxying(FAST, policies=(MessageLimits(size=10),)) as proxy:
        client, backend = await opened_with(proxy, frame(1, bytes(11), masked=True))
        await told(backend, GOING_AWAY)

        await client.sees(b"\x88\x02" + TOO_BIG)


async def opened_with(proxy: Proxy, early: bytes) -> tuple[Peer, Peer]:
    client = await proxy.client()
    await client.sends(UPGRADE + b"\r\n" + early)
    backend = await proxy.backend.accepts()
    await backend.head()
    await backend.sends(SWITCH + b"\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    return client, backend


@pytest.mark.parametrize("policy", [MessageLimits(size=-1), MessageLimits(rate=-1.0), MessageLimits(rate=1.0, burst=0)])
async def test_limit_that_makes_no_sense_fails_closed(policy: MessageLimits) -> None:
    async with proxying(policies=(policy,)) as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")

        assert (await client.answer())[0] == 500
        assert list(proxy.runtime.rejected) == ["ingress/test/a/0"]
