"""Pipelines: requests that wait for others, and backends that say too much, too little or nothing at all."""

import asyncio

import pytest
from wire.harness import WAIT, proxying
from wire.verbs import GET, OK

from proxy.exchange.states import NONE
from proxy.filters.contract import Verdict
from proxy.http.message import Answer, Request

MIB = 1024 * 1024


async def test_thousand_pipelined_requests_behind_a_slow_one_are_held_back_and_answered_in_order() -> None:
    padding = b"X-Padding: %b\r\n" % (b"x" * 20_000)
    async with proxying() as proxy:
        client = await proxy.client()
        sent = b"".join(b"GET /%d HTTP/1.1\r\nHost: a.test\r\n%b\r\n" % (number, padding) for number in range(1000))
        writing = asyncio.create_task(client.sends(sent))
        backend = await proxy.backend.accepts()
        assert (await backend.head()).startswith(b"GET /0 ")
        (connection,) = proxy.runtime.connections
        async with asyncio.timeout(WAIT):
            while not connection.read_paused:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
        most = 0
        for number in range(1000):
            if number:
                assert (await backend.head()).startswith(b"GET /%d " % number)
            await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%03d" % number)
            assert (await client.answer())[2] == b"%03d" % number
            most = max(most, connection.unread_bytes)  # type: ignore[attr-defined]
        await writing

        assert proxy.backend.count == 1
        assert most < MIB


@pytest.mark.parametrize("secure", [False, True])
async def test_client_that_stops_reading_while_a_filter_thinks_stops_the_backend_of_the_request_behind_it(secure: bool) -> None:
    """What it does not read is the answer before: its transport tells so when it writes, which may be after the next has begun."""
    gate = asyncio.Event()

    async def wait() -> Answer | None:
        await gate.wait()
        return None

    async with proxying() as proxy:
        client = await proxy.client(secure=secure)
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(OK)
        assert (await client.answer())[2] == b"hello"
        (route,) = proxy.runtime.routes.values()
        route.filters = (lambda _request: wait(),)
        await client.sends(GET)
        (connection,) = proxy.runtime.connections
        async with asyncio.timeout(WAIT):
            while connection._filtering is None:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
        connection.pause_writing()  # type: ignore[attr-defined]
        gate.set()
        await backend.head()
        size = 16 * MIB
        backend.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        for _ in range(100):  # turns in which all of it would have come
            await asyncio.sleep(0)
        assert connection.exchange.answer_state == NONE  # type: ignore[attr-defined]
        connection.resume_writing()  # type: ignore[attr-defined]
        assert (await client.head()).endswith(b"Content-Length: %d\r\n\r\n" % size)
        assert await client.reads(size) == bytes(size)
        route.filters = ()


async def test_filter_that_fails_while_it_thinks_answers_its_own_request_and_serves_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> Answer | None:
        await asyncio.sleep(0)
        raise RuntimeError("the guard's server is away")

    def guard(request: Request) -> Verdict:
        return fail() if request.path == "/guarded" else None

    guarded = b" /guarded HTTP/1.1\r\nHost: a.test\r\n"
    async with proxying() as proxy:
        (route,) = proxy.runtime.routes.values()
        route.filters = (guard,)
        client = await proxy.client()
        await client.sends(b"GET" + guarded + b"\r\n" + GET)
        status, fields, _ = await client.answer()
        assert (status, fields.get("connection")) == (500, None)
        backend = await proxy.backend.accepts()
        assert (await backend.head()).startswith(b"GET /x?a=b ")
        await backend.sends(OK)
        assert (await client.answer())[2] == b"hello"
        # A body that nobody reads is no request.
        await client.sends(b"POST" + guarded + b"Content-Length: %d\r\n\r\n" % len(GET) + GET)
        status, fields, _ = await client.answer()
        assert (status, fields["connection"]) == (500, "close")
        await client.ends()
        assert proxy.backend.count == 1
        assert caplog.text.count("RuntimeError: the guard's server is away\n") == 2
        route.filters = ()


LEGAL = {
    "no reason": b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
    "eight-bit reason": b"HTTP/1.1 200 D\xe9j\xe0 vu\tOK\r\nContent-Length: 5\r\n\r\nhello",
    "names of any case": b"HTTP/1.1 200 OK\r\ncONTENT-lENGTH:5\r\ncONNECTION:Keep-Alive\r\n\r\nhello",
    "spaces and tabs": b"HTTP/1.1 200 OK\r\nContent-Length: \t 5 \t \r\n\r\nhello",
    "coding of any case": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "extensions and trailers": (
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0005;a="b;c"\r\nhello\r\n000;d\r\nX-T: 1\r\nAge: 9\r\n\r\n'
    ),
    "version 1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "version 1.0 kept alive": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    "many of one field": b"HTTP/1.1 200 OK\r\n" + b"Set-Cookie: a=b\r\n" * 100 + b"Content-Length: 5\r\n\r\nhello",
    "one long field": b"HTTP/1.1 200 OK\r\nX: " + b"v" * 60_000 + b"\r\nContent-Length: 5\r\n\r\nhello",
    "empty values": b"HTTP/1.1 200 OK\r\nX:\r\nDate: \r\nContent-Length: 5\r\n\r\nhello",
    "names with odd characters": b"HTTP/1.1 200 OK\r\n!#$%&'*+-.^_`|~: 1\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("name", LEGAL)
@pytest.mark.parametrize("whole", [True, False])
async def test_odd_but_legal_answer_arrives_whole_however_it_is_cut(name: str, whole: bool) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET.replace(b"1.1", b"1.0"))
        backend = await proxy.backend.accepts()
        await backend.head()
        answer = LEGAL[name]
        for place in range(0, len(answer), len(answer) if whole else 1 + len(answer) // 100):
            await backend.sends(answer[place:][: len(answer) if whole else 1 + len(answer) // 100])
            await asyncio.sleep(0)
        said = await client.rest()

        assert said.startswith(b"HTTP/1.1 200 ")
        assert said.endswith(b"\r\n\r\nhello")
        assert b"X-T" not in said


@pytest.mark.parametrize("how", ["closes", "resets"])
@pytest.mark.parametrize(
    "begun",
    [
        *(b"Content-Length: 10\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe", b"Transfer-Encoding: chunked\r\n\r\n"),
        *(b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n"),
    ],
)
async def test_answer_that_breaks_off_never_looks_whole(begun: bytes, how: str) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\n" + begun)
        head = await client.head()
        if how == "closes":
            backend.closes()
        else:
            backend.resets()
        body = await client.rest()

        assert head.startswith(b"HTTP/1.1 200 ")
        assert not body.endswith(b"0\r\n\r\n")
        assert len(body) < 10
        await proxy.is_innocent()


@pytest.mark.parametrize(
    ("asked", "head"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"),
    ],
)
async def test_body_where_none_may_be_is_dropped_and_its_connection_is_not_used_again(asked: bytes, head: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(asked + b" / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(head + b"evil")
        assert await client.head() == head
        await backend.ends()
        await client.sends(GET)
        again = await proxy.backend.accepts()
        await again.head()
        await again.sends(OK)

        assert (await client.answer())[2] == b"hello"


@pytest.mark.parametrize("request_", [b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nok", GET])
async def test_request_on_a_stale_connection_is_sent_twice_at_most_and_a_post_never(request_: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        pooled = await proxy.backend.accepts()
        await pooled.head()
        await pooled.sends(OK)
        await client.answer()
        await client.sends(request_)
        await pooled.head()
        pooled.resets()
        if request_ is GET:
            fresh = await proxy.backend.accepts()
            await fresh.head()
            fresh.resets()
        status, _, _ = await client.answer()

        assert status == 502
        assert proxy.backend.count == (2 if request_ is GET else 1)
        await proxy.is_innocent()


async def test_interim_answer_without_an_answer_is_502() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 103 ")
        backend.closes()

        assert (await client.answer())[0] == 502
        await proxy.is_innocent()


@pytest.mark.parametrize("status", [b"103 Early Hints", b"204 No Content"])
async def test_length_of_an_answer_that_has_none_is_not_passed_on(status: bytes) -> None:
    """RFC 9110, 8.6; of a switch see test_handshakes.py."""
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nX-Mine: 1\r\n\r\n")
        head = await client.head()
        if status.startswith(b"1"):
            await backend.sends(OK)
            assert (await client.answer())[2] == b"hello"

        assert head == b"HTTP/1.1 " + status + b"\r\nX-Mine: 1\r\n\r\n"
