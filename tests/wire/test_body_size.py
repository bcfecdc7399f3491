"""A route may say how large bodies of requests may be: a larger one gets 413, and its backend none of what is too much."""

import asyncio
import contextlib

import pytest
from wire.harness import WAIT, Peer, Proxy, connectionless, proxying
from wire.logs import logging_of
from wire.verbs import frame, opened

from proxy.model.policy import BodySize
from proxy.observability.metrics import HTTP_LOCAL_REPLIES
from proxy.settings import Settings

MOST = 1000
HEAD = b"POST / HTTP/1.1\r\nHost: a.test\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECURE = pytest.mark.parametrize("secure", [False, True])
LIMITED = (BodySize(MOST),)


def sized(size: int) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % size


def chunk(size: int) -> bytes:
    return b"%x\r\n" % size + b"x" * size + b"\r\n"


def causes(proxy: Proxy) -> dict[str, int]:
    return proxy.runtime.stats.route("ingress/test/a/0").labelled(HTTP_LOCAL_REPLIES)


@SECURE
async def test_body_of_exactly_the_limit_passes_by_length_and_in_chunks(secure: bool) -> None:
    async with proxying(policies=LIMITED) as proxy:
        client = await proxy.client(secure=secure)
        backend = None
        for request, seen in (
            (sized(MOST) + b"x" * MOST, b"x" * MOST),
            (CHUNKED + chunk(400) + chunk(600) + b"0\r\n\r\n", chunk(400) + chunk(600) + b"0\r\n\r\n"),
            (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", b""),
            (sized(0), b""),
        ):
            await client.sends(request)
            backend = backend or await proxy.backend.accepts()
            await backend.head()
            await backend.sees(seen)
            await backend.sends(OK)
            assert (await client.answer())[0] == 200


@SECURE
async def test_length_above_the_limit_is_413_before_the_body_is_there_and_no_backend_is_asked(secure: bool) -> None:
    async with proxying(policies=LIMITED) as proxy, logging_of(proxy) as log:
        for size in (MOST + 1, 10**17):
            client = await proxy.client(secure=secure)
            await client.sends(sized(size))
            status, fields, body = await client.answer()
            line = await log.next()

            assert (status, fields["connection"]) == (413, "close")
            assert body == b"The request's body is larger than this route takes.\n"
            assert (line["status"], line["cause"]) == (413, "body_too_large")
            client.closes()
        assert proxy.backend.count == 0
        assert causes(proxy) == {"body_too_large": 2}
        await proxy.is_innocent()


async def test_client_that_expects_100_is_told_413_instead() -> None:
    async with proxying(policies=LIMITED) as proxy:
        client = await proxy.client()
        await client.sends(HEAD + b"Expect: 100-continue\r\nContent-Length: 2000\r\n\r\n")

        assert (await client.answer())[0] == 413
        assert proxy.backend.count == 0


@SECURE
async def test_chunked_body_that_is_too_large_at_once_reaches_no_backend_and_the_next_request_is_served(secure: bool) -> None:
    async with proxying(policies=LIMITED) as proxy:
        client = await proxy.client(secure=secure)
        await client.sends(CHUNKED + chunk(400) + chunk(601) + b"0\r\n\r\n" + b"GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n")
        status, fields, _ = await client.answer()
        backend = await proxy.backend.accepts()
        head = await backend.head()
        await backend.sends(OK)

        assert (status, "connection" in fields) == (413, False)
        assert head.startswith(b"GET /next HTTP/1.1\r\n")
        assert (await client.answer())[0] == 200
        assert causes(proxy) == {"body_grew_too_large": 1}


@SECURE
async def test_chunked_body_that_grows_too_large_is_cut_and_does_not_look_whole(secure: bool) -> None:
    async with proxying(policies=LIMITED) as proxy:
        client = await proxy.client(secure=secure)
        await client.sends(CHUNKED + chunk(MOST))
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sees(chunk(MOST))
        await client.sends(chunk(1))
        status, fields, _ = await client.answer()

        assert (status, fields["connection"]) == (413, "close")
        await backend.ends()
        client.closes()
        await connectionless(proxy)
        await proxy.is_innocent()


@SECURE
async def test_answer_that_has_begun_is_cut(secure: bool) -> None:
    async with proxying(policies=LIMITED) as proxy:
        client = await proxy.client(secure=secure)
        await client.sends(CHUNKED + chunk(MOST))
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sees(chunk(MOST))
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await client.head()
        await client.sees(b"half")
        await client.sends(chunk(1))

        assert await client.rest() == b""
        await backend.ends()
        await connectionless(proxy)
        assert causes(proxy) == {}


async def test_endless_bodies_cost_a_backend_the_limit_and_others_nothing() -> None:
    """An attacker sends chunks of one byte without end, on several connections, before the answer and behind it."""
    async with proxying(Settings(close_wait=0.3), LIMITED) as proxy:
        clients, backends = [], []
        for _ in range(5):
            clients.append(await proxy.client())
            await clients[-1].sends(CHUNKED + chunk(1) * 500)
            backends.append(await proxy.backend.accepts())
            await backends[-1].head()

        async def endless(client: Peer) -> None:
            with contextlib.suppress(ConnectionError, TimeoutError):
                while True:
                    await client.sends(chunk(1) * 500)

        attacks = [asyncio.create_task(endless(client)) for client in clients]
        seen = [await backend.rest() for backend in backends]
        await proxy.is_innocent()
        statuses = [(await client.answer())[0] for client in clients]
        for client, attack in zip(clients, attacks, strict=True):
            attack.cancel()
            client.resets()
        await asyncio.wait(attacks, timeout=WAIT)

        assert statuses == [413] * 5
        assert all(one.count(b"1\r\nx\r\n") <= MOST for one in seen)
        assert not any(one.endswith(b"0\r\n\r\n") for one in seen)
        assert causes(proxy) == {"body_grew_too_large": 5}


async def test_sockets_have_no_body() -> None:
    async with proxying(policies=(BodySize(1),)) as proxy:
        client, backend = await opened(proxy)
        message = frame(2, b"x" * 5000, masked=True)
        await client.sends(message)

        await backend.sees(message)
