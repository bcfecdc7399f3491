"""Answer filters: what they see, may change and may wait for, whatever frames the answer (docs/architecture.md).

The filters are made here; features have tests of their own.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from types import FrameType

import pytest
from wire.harness import WAIT, Peer, Proxy, proxying
from wire.logs import logging_of
from wire.verbs import GET, MIB, OK, SWITCH, UPGRADE, frame

import proxy
from proxy.filters.contract import AnswerFilter, BodyFilter
from proxy.http.answer_head import AnswerHead
from proxy.http.message import Request
from proxy.model.policy import Timeouts
from proxy.observability.metrics import WS_HANDSHAKES

NATIVE = not proxy.__file__.endswith("/proxy/__init__.py") or "build/native" in proxy.__file__
HEAD = b"HEAD /x HTTP/1.1\r\nHost: a.test\r\n\r\n"
GET_10 = b"GET /x HTTP/1.0\r\nHost: a.test\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextlib.asynccontextmanager
async def filtering(*filters: AnswerFilter, response: float = 60.0) -> AsyncIterator[Proxy]:
    """Run the proxy; its route has these answer filters."""
    async with proxying(policies=(Timeouts(connect=1.0, response=response),)) as one:
        (route,) = one.runtime.routes.values()
        route.answer_filters = filters
        yield one
        route.answer_filters = ()


async def asked(one: Proxy, request: bytes = GET) -> tuple[Peer, Peer]:
    client = await one.client()
    await client.sends(request)
    backend = await one.backend.accepts()
    await backend.head()
    return client, backend


async def ends_like(client: Peer, request: bytes, body: bytes) -> bytes:
    """Read an answer whose body is this, framed as the request's version allows; return its head."""
    head = await client.head()
    if request == HEAD:
        assert b"Transfer-Encoding" not in head
        return head
    if request == GET_10:
        assert await client.rest() == body
        return head
    if b"Transfer-Encoding: chunked\r\n" not in head:
        assert b"Content-Length: %d\r\n" % len(body) in head
        assert await client.reads(len(body)) == body
        return head
    found = b""
    async with asyncio.timeout(WAIT):
        while size := int(await client.reader.readuntil(b"\r\n"), 16):
            found += (await client.reader.readexactly(size + 2))[:-2]
        await client.reader.readexactly(2)
    assert found == body
    return head


class Upper:
    """Writes a body in capitals."""

    def data(self, data: bytes) -> bytes:
        assert data
        return data.upper()

    def end(self) -> bytes:
        return b""


class Whole:
    """Keeps a body until all of it is here."""

    def __init__(self) -> None:
        self.kept = b""

    def data(self, data: bytes) -> bytes:
        self.kept += data
        return b""

    def end(self) -> bytes:
        return b"<" + self.kept + b">"


class Later:
    """Lets each piece, and the end, wait for a turn of the loop."""

    async def _later(self, data: bytes) -> bytes:
        await asyncio.sleep(0)
        return data

    def data(self, data: bytes) -> Awaitable[bytes]:
        return self._later(data.upper())

    def end(self) -> Awaitable[bytes]:
        return self._later(b"!")


def upper(_request: Request, _head: AnswerHead) -> BodyFilter:
    return Upper()


def whole(_request: Request, _head: AnswerHead) -> BodyFilter:
    return Whole()


def later(_request: Request, _head: AnswerHead) -> BodyFilter:
    return Later()


def stamped(request: Request, head: AnswerHead) -> None:
    head.add(b"X-Stamp", request.path.encode())


def replaced(_request: Request, head: AnswerHead) -> None:
    head.replace_body(b"another")
    head.set(b"Content-Type", b"text/plain")


async def test_head_filter_changes_status_and_fields_and_the_body_passes_as_it_was() -> None:
    def change(request: Request, head: AnswerHead) -> None:
        assert (request.method, head.status, head.has_body, head.partial) == ("GET", 200, True, False)
        assert head.values(b"x-many") == [b"1", b"2"]
        assert not head.values(b"content-length")
        head.status = 418
        head.set(b"X-MANY", b"3")
        head.remove(b"X-gone")
        head.add(b"X-New", b"\xe9")

    async with filtering(change) as one:
        client, backend = await asked(one)
        for _ in range(2):
            # The second one's head is a repetition of the first one's, and that is remembered as it came.
            await backend.sends(
                b"HTTP/1.1 200 OK\r\nx-many: 1\r\nX-Gone: a\r\nX-Many: 2\r\nContent-Length: 5\r\nX-Last: z\r\n\r\nhello"
            )

            assert await client.head() == (
                b"HTTP/1.1 418 I'm a Teapot\r\nX-MANY: 3\r\nX-Last: z\r\nX-New: \xe9\r\nContent-Length: 5\r\n\r\n"
            )
            await client.sees(b"hello")
            await client.sends(GET)
            await backend.head()


async def test_filters_see_an_answer_in_their_order() -> None:
    seen: list[list[bytes]] = []

    def note(name: bytes) -> AnswerFilter:
        def add(_request: Request, head: AnswerHead) -> None:
            seen.append(head.values(b"x-order"))
            head.add(b"X-Order", name)

        return add

    async with filtering(note(b"1"), note(b"2"), note(b"3")) as one:
        client, backend = await asked(one)
        await backend.sends(OK)
        head = await client.head()

    assert b"X-Order: 1\r\nX-Order: 2\r\nX-Order: 3\r\n" in head
    assert seen == [[], [b"1"], [b"1", b"2"]]


async def test_fields_that_frame_an_answer_are_not_a_filters_to_write() -> None:
    def frames(_request: Request, head: AnswerHead) -> None:
        for name in (b"Content-Length", b"transfer-encoding", b"Connection", b"Upgrade", b"Keep-Alive", b"TE", b"Proxy-Connection"):
            head.set(name, b"1")

    async with filtering(frames) as one:
        client, backend = await asked(one)
        await backend.sends(OK)

        assert await client.head() == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        await client.sees(b"hello")


@pytest.mark.parametrize("value", [b"a\r\nSet-Cookie: b=c", b"a\nb", b"a\x00b", b"\x7f"])
@pytest.mark.parametrize("name", [b"X-Odd", b"X Odd"])
async def test_filter_that_writes_what_is_no_field_is_500_and_says_why_in_the_log(name: bytes, value: bytes) -> None:
    def odd(_request: Request, head: AnswerHead) -> None:
        head.set(name, value)

    async with filtering(odd) as one:
        async with logging_of(one) as log:
            client, backend = await asked(one)
            await backend.sends(OK)
            assert (await client.answer())[0] == 500
            line = await log.next()

        assert (line["status"], line["cause"]) == (500, "filter_failed")
        await client.sends(GET)
        await backend.head()


BODIES: dict[str, tuple[bytes, bytes]] = {
    "sized": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "sized, in pieces": (b"HTTP/1.1 200 OK\r\nContent-Length: 70005\r\n\r\n" + b"hello" + b"a" * 70_000, b"hello" + b"a" * 70_000),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "chunked": (CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    "chunked and empty": (CHUNKED + b"0\r\n\r\n", b""),
    "many chunks": (CHUNKED + b"1\r\na\r\n" * 1000 + b"0\r\n\r\n", b"a" * 1000),
    "until the end of the connection": (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
}
MADE: dict[str, tuple[tuple[AnswerFilter, ...], Callable[[bytes], bytes]]] = {
    "head only": ((stamped,), lambda body: body),
    "each piece": ((stamped, upper), bytes.upper),
    "the whole": ((whole,), lambda body: b"<" + body + b">"),
    "two": ((upper, whole), lambda body: b"<" + body.upper() + b">"),
    "later": ((later,), lambda body: body.upper() + b"!"),
    "later, and the whole": ((later, whole, upper), lambda body: b"<" + body.upper() + b"!>"),
    "another": ((replaced,), lambda _: b"another"),
    "another, and each piece of it": ((whole, replaced, upper), lambda _: b"ANOTHER"),
}


@pytest.mark.parametrize("request_head", [GET, GET_10, HEAD])
@pytest.mark.parametrize("filters", MADE)
@pytest.mark.parametrize("framed", BODIES)
async def test_body_arrives_as_filters_made_it_however_it_is_framed(framed: str, filters: str, request_head: bytes) -> None:
    (made, expected), (answer, body) = MADE[filters], BODIES[framed]
    async with filtering(*made) as one:
        client, backend = await asked(one, request_head)
        if request_head == HEAD:
            answer = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        backend.writer.write(answer)
        if framed.startswith("until") and request_head != HEAD:
            backend.writer.write_eof()
        head = await ends_like(client, request_head, expected(body))

        changed = filters != "head only"
        sized = b"\r\nContent-Length: " in answer
        if filters == "another":
            assert b"\r\nContent-Length: 7\r\n" in head
        elif changed:
            assert b"\r\nContent-Length: " not in head
        else:
            assert (b"\r\nContent-Length: " in head) == sized
        if request_head == HEAD:
            await client.sends(GET)  # the connection goes on: nothing was sent that belongs to no answer
            await backend.head()


async def test_answers_without_a_body_stay_without_one() -> None:
    async with filtering(stamped, upper) as one:
        client, backend = await asked(one)
        for status in (b"204 No Content", b"304 Not Modified"):
            await backend.sends(b"HTTP/1.1 " + status + b'\r\nETag: "a"\r\n\r\n')

            assert await client.head() == b"HTTP/1.1 " + status + b'\r\nETag: W/"a"\r\nX-Stamp: /x\r\n\r\n'
            await client.sends(GET)
            await backend.head()


@pytest.mark.parametrize(("answer", "reused"), [(OK, True), (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhello", False)])
async def test_status_without_a_body_takes_it_away(answer: bytes, *, reused: bool) -> None:
    def nothing(_request: Request, head: AnswerHead) -> None:
        head.status = 204

    async with filtering(nothing) as one:
        client, backend = await asked(one)
        await backend.sends(answer)

        assert await client.head() == b"HTTP/1.1 204 No Content\r\n\r\n"
        await client.sends(GET)
        if not reused:
            await backend.ends()
            backend = await one.backend.accepts()
        await backend.head()


async def test_status_with_a_body_for_one_without_has_an_empty_one() -> None:
    def found(_request: Request, head: AnswerHead) -> None:
        head.status = 200

    async with filtering(found) as one:
        client, backend = await asked(one)
        await backend.sends(b"HTTP/1.1 204 No Content\r\n\r\n")

        assert await client.head() == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def test_changed_body_loses_what_is_not_true_of_it_any_more() -> None:
    fields = b'ETag: "a"\r\nAccept-Ranges: bytes\r\nContent-MD5: x\r\nContent-Digest: y\r\nContent-Type: text/html\r\n'
    async with filtering(upper) as one:
        client, backend = await asked(one)
        await backend.sends(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 5\r\n\r\nhello")

        assert await ends_like(client, GET, b"HELLO") == (
            b'HTTP/1.1 200 OK\r\nETag: W/"a"\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n'
        )


async def test_another_body_has_none_of_the_fields_of_the_first() -> None:
    fields = b'ETag: "a"\r\nLast-Modified: x\r\nContent-Encoding: gzip\r\nContent-Type: text/html\r\nX-Kept: 1\r\n'
    async with filtering(replaced) as one:
        client, backend = await asked(one)
        await backend.sends(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 5\r\n\r\nhello")

        assert await ends_like(client, GET, b"another") == (
            b"HTTP/1.1 200 OK\r\nX-Kept: 1\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\n"
        )


async def test_body_that_is_replaced_by_the_same_bytes_is_another_all_the_same() -> None:
    """Filters between the two have had their say about the first."""

    def emptied(_request: Request, head: AnswerHead) -> None:
        head.replace_body(b"")

    async with filtering(emptied, whole, emptied) as one:
        client, backend = await asked(one)
        await backend.sends(OK)

        assert await client.head() == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def test_part_of_a_body_goes_through_no_body_filter() -> None:
    async with filtering(stamped, upper) as one:
        client, backend = await asked(one)
        part = b"Content-Range: bytes 1-3/5\r\n"
        await backend.sends(b"HTTP/1.1 206 Partial Content\r\n" + part + b"Content-Length: 3\r\n\r\nell")

        assert await client.head() == (b"HTTP/1.1 206 Partial Content\r\n" + part + b"X-Stamp: /x\r\nContent-Length: 3\r\n\r\n")
        await client.sees(b"ell")


async def test_body_in_a_transfer_coding_is_not_let_past_a_filter() -> None:
    async with filtering(upper) as one:
        client, backend = await asked(one)
        await backend.sends(CHUNKED.replace(b"chunked", b"gzip, chunked") + b"3\r\nabc\r\n0\r\n\r\n")

        assert (await client.answer())[0] == 500


async def test_trailers_pass_behind_a_filtered_body() -> None:
    async with filtering(upper) as one:
        client, backend = await asked(one, GET[:-2] + b"TE: trailers\r\n\r\n")
        await backend.sends(CHUNKED + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
        await client.head()

        await client.sees(b"3\r\nABC\r\n0\r\nX-Sum: 1\r\n\r\n")


async def test_endless_body_that_is_replaced_ends_the_backends_connection_not_the_clients() -> None:
    async with filtering(replaced) as one:
        client, backend = await asked(one)
        await backend.sends(CHUNKED + b"3\r\nabc\r\n")

        assert (await client.answer())[2] == b"another"
        await backend.ends()
        await client.sends(GET)
        again = await one.backend.accepts()
        await again.head()


async def test_interim_answers_and_those_of_ours_are_not_filtered() -> None:
    async with filtering(stamped) as one:
        client, backend = await asked(one)
        await backend.sends(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        assert b"X-Stamp" not in await client.head()
        backend.closes()

        status, fields, _ = await client.answer()
        assert (status, "x-stamp" in fields) == (502, False)


# Filters that need time


class Gate:
    """A head filter that waits until it is opened."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.opened = asyncio.Event()
        self.cancelled = asyncio.Event()

    def __call__(self, _request: Request, head: AnswerHead) -> Awaitable[BodyFilter | None]:
        return self._wait(head)

    async def _wait(self, head: AnswerHead) -> BodyFilter | None:
        self.asked.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        head.add(b"X-Gate", b"open")
        return Upper()

    async def was_asked(self) -> None:
        async with asyncio.timeout(WAIT):
            await self.asked.wait()

    async def was_cancelled(self) -> None:
        async with asyncio.timeout(WAIT):
            await self.cancelled.wait()


async def test_backend_is_not_read_while_a_filter_waits_and_all_of_the_body_arrives() -> None:
    gate = Gate()
    size = 16 * MIB
    async with filtering(gate, stamped) as one:
        client, backend = await asked(one)
        backend.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size)
        await gate.was_asked()
        (connection,) = one.runtime.connections
        waiting = connection.exchange._filtered._work  # type: ignore[attr-defined]
        for _ in range(100):  # turns in which all of it would have come
            await asyncio.sleep(0)
        kept = sum(len(piece) for _, piece in waiting if piece)
        assert kept < MIB
        gate.opened.set()
        head = await ends_like(client, GET, b"A" * size)

    assert b"X-Gate: open\r\nX-Stamp: /x\r\n" in head


async def test_answer_that_is_here_gives_its_connection_back_while_a_filter_waits() -> None:
    gate = Gate()
    async with filtering(gate) as one:
        client, backend = await asked(one)
        await backend.sends(OK)
        await gate.was_asked()
        other = await one.client()
        await other.sends(GET)
        await backend.head()
        await backend.sends(OK)
        gate.opened.set()

        await ends_like(client, GET, b"HELLO")
        await ends_like(other, GET, b"HELLO")
        assert one.backend.count == 1


async def test_client_that_leaves_cancels_a_filter_that_waits() -> None:
    gate = Gate()
    async with filtering(gate) as one:
        async with logging_of(one) as log:
            client, backend = await asked(one)
            await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
            await gate.was_asked()
            client.resets()

            await gate.was_cancelled()
            await backend.ends()
            line = await log.next()
        assert line["cause"] == "client_gone"


async def test_answer_that_ends_while_a_filter_waits_does_not_look_whole() -> None:
    gate = Gate()
    async with filtering(gate) as one:
        client, backend = await asked(one)
        await backend.sends(CHUNKED + b"3\r\nabc\r\n")
        await gate.was_asked()
        backend.closes()
        gate.opened.set()
        await client.head()

        await client.sees(b"3\r\nABC\r\n")
        await client.ends()


async def test_filter_that_takes_too_long_is_504_and_says_so_in_the_log() -> None:
    gate = Gate()
    async with filtering(gate, response=0.3) as one:
        async with logging_of(one) as log:
            client, backend = await asked(one)
            await backend.sends(OK)
            assert (await client.answer())[0] == 504
            await gate.was_cancelled()
            line = await log.next()

        assert line["cause"] == "filter_timeout"


class Stuck:
    """Never ends with its second piece."""

    def __init__(self) -> None:
        self.pieces = 0

    async def _never(self) -> bytes:
        await asyncio.Event().wait()
        return b""

    def data(self, data: bytes) -> bytes | Awaitable[bytes]:
        self.pieces += 1
        return data if self.pieces == 1 else self._never()

    def end(self) -> bytes:
        return b""


async def test_filter_that_takes_too_long_over_a_body_cuts_it() -> None:
    async with filtering(lambda _request, _head: Stuck(), response=0.3) as one:
        client, backend = await asked(one)
        await backend.sends(CHUNKED + b"3\r\nabc\r\n")
        await client.head()
        await client.sees(b"3\r\nabc\r\n")
        await backend.sends(b"3\r\ndef\r\n0\r\n\r\n")

        await client.ends()


class Fails:
    """Fails at its end, at once or later."""

    def __init__(self, *, later: bool) -> None:
        self.later = later

    def data(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes | Awaitable[bytes]:
        if self.later:
            return self._fail()
        raise RuntimeError("the end")

    async def _fail(self) -> bytes:
        await asyncio.sleep(0)
        raise RuntimeError("the end")


async def fails_later(_request: Request, _head: AnswerHead) -> None:
    await asyncio.sleep(0)
    raise RuntimeError("the head")


def fails_at_once(_request: Request, _head: AnswerHead) -> None:
    raise RuntimeError("the head")


@pytest.mark.parametrize("fails", [fails_at_once, fails_later])
async def test_filter_that_fails_is_500_before_the_head_is_out(fails: AnswerFilter) -> None:
    async with filtering(stamped, fails) as one:
        client, backend = await asked(one)
        await backend.sends(OK)

        status, fields, _ = await client.answer()
        assert (status, "x-stamp" in fields) == (500, False)
        await client.sends(GET)
        await backend.head()


@pytest.mark.parametrize("later_on", [True, False])
async def test_filter_that_fails_behind_the_head_cuts_the_answer(*, later_on: bool) -> None:
    async with filtering(lambda _request, _head: Fails(later=later_on)) as one:
        client, backend = await asked(one)
        await backend.sends(CHUNKED + b"3\r\nabc\r\n")
        await client.head()
        await client.sees(b"3\r\nabc\r\n")
        await backend.sends(b"0\r\n\r\n")

        await client.ends()


async def test_client_that_does_not_read_while_a_filter_works_is_waited_for() -> None:
    size = 16 * MIB
    async with filtering(later) as one:
        client, backend = await asked(one)
        client.writer.transport.pause_reading()
        backend.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size)
        (connection,) = one.runtime.connections
        async with asyncio.timeout(WAIT):
            while not connection.write_paused:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
        client.writer.transport.resume_reading()

        await ends_like(client, GET, b"A" * size + b"!")


async def test_slow_filter_of_one_client_holds_up_no_other() -> None:
    gate = Gate()
    async with filtering(gate) as one:
        slow = []
        for _ in range(20):
            client, backend = await asked(one)
            await backend.sends(CHUNKED + b"5\r\nhello\r\n")
            slow.append((client, backend))
        await gate.was_asked()
        (route,) = one.runtime.routes.values()
        route.answer_filters = (upper,)
        client, backend = await asked(one)
        await backend.sends(OK)

        await ends_like(client, GET, b"HELLO")
        gate.opened.set()
        for client, backend in slow:
            await backend.sends(b"0\r\n\r\n")
            await ends_like(client, GET, b"HELLO")


# 101


def hostile(_request: Request, head: AnswerHead) -> None:
    assert (head.status, head.has_body) == (101, False)
    head.status = 200
    for name in (b"Sec-WebSocket-Accept", b"Upgrade", b"Connection", b"Content-Length", b"Sec-WebSocket-Protocol"):
        head.remove(name)
        head.set(name, b"evil")
    head.replace_body(b"evil")
    head.add(b"X-Stamp", b"1")


@pytest.mark.parametrize("waits", [False, True])
async def test_switch_is_filtered_but_for_its_handshake(*, waits: bool) -> None:
    gate = Gate()
    async with filtering(*([gate, hostile] if waits else [hostile])) as one:
        client, backend = await asked(one, UPGRADE + b"\r\n")
        await backend.sends(SWITCH + b"Set-Cookie: a=b\r\n\r\n" + frame(1, b"early"))
        if waits:
            await gate.was_asked()
            await client.sends(frame(1, b"mine", masked=True))
            gate.opened.set()
        head = await client.head()

        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"evil" not in head
        assert (b"X-Gate: open\r\n" in head) == waits
        assert b"Set-Cookie: a=b\r\n" in head
        assert b"X-Stamp: 1\r\n" in head
        assert SWITCH.partition(b"Sec-WebSocket-Accept: ")[2].strip() in head
        await client.sees(frame(1, b"early"))
        if waits:
            assert (await backend.reads(10))[:2] == b"\x81\x84"


async def test_client_that_leaves_while_a_switch_is_filtered_ends_the_backends_connection() -> None:
    gate = Gate()
    async with filtering(gate) as one:
        client, backend = await asked(one, UPGRADE + b"\r\n")
        await backend.sends(SWITCH + b"\r\n")
        await gate.was_asked()
        client.resets()

        await gate.was_cancelled()
        await backend.ends()


# What it costs


async def test_route_without_answer_filters_calls_nothing_for_them() -> None:
    """Counted in calls, interpreted: compiled, none are seen."""
    calls: list[str] = []

    def note(found: FrameType, event: str, _argument: object) -> None:
        if event == "call" and "/proxy/" in found.f_code.co_filename:
            calls.append(f"{found.f_code.co_filename.rpartition('/')[2]}:{found.f_code.co_qualname}")

    async with filtering() as one:
        client, backend = await asked(one)
        await backend.sends(OK)
        await client.answer()
        sys.setprofile(note)
        try:
            await client.sends(GET)
            await backend.head()
            await backend.sends(OK)
            await client.answer()
        finally:
            sys.setprofile(None)

    assert not [call for call in calls if call.startswith(("answer_filters", "answer_head", "contract"))]
    if not NATIVE:
        assert 40 < len(calls) <= 100, sorted(calls)


@pytest.mark.parametrize(("fails", "status"), [(False, 418), (True, 500)])
async def test_upgrade_that_is_answered_otherwise_counts_once_as_its_client_was_answered(*, fails: bool, status: int) -> None:
    def change(_request: Request, head: AnswerHead) -> None:
        head.status = 418
        if fails:
            raise RuntimeError("a filter's fault")

    async with filtering(change) as one:
        client, backend = await asked(one, UPGRADE + b"\r\n")
        await backend.sends(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        assert (await client.answer())[0] == status
        assert one.runtime.stats.route("ingress/test/a/0").labelled(WS_HANDSHAKES) == {status: 1}
