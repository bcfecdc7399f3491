"""The exchange: every transition and every deadline of its tables, over connections in memory; docs show the same ones."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path as File

import pytest

from proxy.exchange.endpoint_choice import begin_exchange
from proxy.exchange.forwarder import Exchange
from proxy.exchange.states import (
    ANSWER_STATES,
    ANSWER_TRANSITIONS,
    BODY_RATE,
    CONNECT,
    DEADLINES,
    DOWNSTREAM_WRITE_STALL,
    END_TRANSITIONS,
    ENDS,
    FILTER,
    HANDSHAKE,
    IDLE,
    OPEN,
    PHASES,
    REQUEST_STATES,
    REQUEST_TRANSITIONS,
    RESPONSE,
    UPSTREAM_WRITE_STALL,
)
from proxy.filters.contract import AnswerVerdict
from proxy.http.answer_head import AnswerHead
from proxy.http.message import Client, Failure, Request, ResponseHead
from proxy.model import wire
from proxy.model.config import Endpoint, Path, ProxyConfig, Route, Share, Target, Upstream
from proxy.model.policy import Timeouts
from proxy.observability.access_log import AccessLog
from proxy.runtime.state import Runtime
from proxy.settings import Settings
from proxy.tls.certificates import CertificateStore
from proxy.transport.timer_wheel import Deadline, nothing
from proxy.upstream.http1_connection import UpstreamConnection
from proxy.websocket.handshake import accept_for

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TIMEOUTS = Timeouts(connect=0.3, response=41.0, handshake=42.0, idle=43.0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n" % (
    accept_for(KEY).encode()
)
GARBAGE = b"SSH-2.0-OpenSSH\r\n\r\n"

Seen = set[tuple[str, str, str]]


class Memory(asyncio.Transport):
    """A transport without a peer."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.reading = True
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """A tunnel sets them."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """A tunnel takes the connection."""

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


class Walk:
    """One exchange; it is the client's side, and notes each state that is seen when it is called and after each event."""

    def __init__(self, runtime: Runtime, seen: tuple[Seen, Seen, Seen, set[str]]) -> None:
        self.runtime = runtime
        self.requests, self.answers, self.ends, self.phases = seen
        self.deadline = Deadline(nothing)
        self.exchange: Exchange
        self.connection: UpstreamConnection
        self.transport = Memory()
        self.said: list[str] = []
        self.write_paused = False
        self.failure = Failure(0, "", "")
        self._takes_codings = True
        self.expired: dict[str, str] = {}
        self._expiring = False
        self._event = self._next = ""
        self._at = ("NONE", "NONE", "OPEN")

    def another(self) -> "Walk":
        """One more exchange that adds to the same."""
        return Walk(self.runtime, (self.requests, self.answers, self.ends, self.phases))

    def pooled(self) -> None:
        """Leave an idle connection in the pool."""
        pool = self.runtime.upstreams["t/b:80"].ready[0]
        self.connection = UpstreamConnection(pool)
        self.connection.connection_made(self.transport)
        pool.stats.connections += 1
        pool.release(self.connection)

    def begins(self, method: str = "GET", length: int = 0, *, upgrade: bool = False, pooled: bool = True) -> None:
        """Begin an exchange, over a pooled connection or none."""
        if pooled:
            self.pooled()
        lines = [b"Host: a.test", b"Sec-WebSocket-Key: " + KEY.encode(), b"Sec-WebSocket-Version: 13"]
        request = Request(Client(peer="127.0.0.1"), method, "/", 11, "a.test", "a.test", lines, upgrade=upgrade)
        request.fields, request.length = b"Host: a.test\r\n", length
        (route,) = self.runtime.routes.values()
        exchange = begin_exchange(self, self.runtime, self.deadline, request, route, False)
        assert isinstance(exchange, Exchange), exchange.answer
        self.exchange = exchange
        self.deadline.callback = exchange.expired

    def event(self, names: str | tuple[str, str], act: Callable[[], None]) -> None:
        """Let something happen; of two things that come at once, the second happens behind what the client is told of the first."""
        first, last = (names, names) if isinstance(names, str) else names
        self._event, self._next = first, last
        act()
        self._event = last
        self.notes()

    def expects(self, event: str) -> None:
        """Let what comes next be called so."""
        self._event = self._next = event

    def notes(self) -> None:
        one = self.exchange
        now = REQUEST_STATES[one.request_state], ANSWER_STATES[one.answer_state], ENDS[one.end]
        before, self._at = self._at, now
        self.phases.add(PHASES[one.phase])
        if self._expiring:
            return
        if now[0] != before[0]:
            self.requests.add((before[0], self._event, now[0]))
        if now[1] != before[1]:
            self.answers.add((before[1], self._event, now[1]))
        if now[2] != before[2]:
            assert before[2] == "OPEN"
            self.ends.add((before[1], self._event, now[2]))

    def gets(self, data: bytes) -> Callable[[], None]:
        return lambda: self.connection.data_received(data)

    def loses(self, exc: Exception | None = None) -> None:
        self.connection.connection_lost(exc)

    def expires(self, phase: int, seconds: float) -> None:
        """The phase's deadline is set so far ahead, and over."""
        assert self.exchange.phase == phase
        assert abs(self.deadline.at - asyncio.get_running_loop().time() - seconds) < 0.5
        self._expiring = True
        self.exchange.expired()
        self._expiring = False
        self.expired[PHASES[phase]] = ENDS[self.exchange.end]

    async def dialled(self, event: str) -> None:
        """Wait until the dial is over."""
        self.expects(event)
        task = self.exchange._dialling
        assert task is not None
        await task
        self.notes()

    # The client's side

    @property
    def takes_codings(self) -> bool:
        self._hears("asked")
        return self._takes_codings

    @takes_codings.setter
    def takes_codings(self, takes: bool) -> None:
        self._takes_codings = takes

    def _hears(self, what: str) -> None:
        self.said.append(what)
        self.notes()
        self._event = self._next

    def respond_interim(self, head: ResponseHead) -> None:
        self._hears(f"interim {head.status}")

    def respond(self, head: ResponseHead, added: bytes, length: int, pieces: list[bytes]) -> None:
        self._hears(f"head {head.status} {added.decode()}{length} {b''.join(pieces).decode()}")

    def respond_whole(self, head: ResponseHead, added: bytes, length: int, pieces: list[bytes], trailers: bytes) -> None:
        self._hears(f"whole {head.status} {added.decode()}{length} {b''.join([*pieces, trailers]).decode()}")

    def respond_data(self, pieces: list[bytes]) -> None:
        self._hears(f"data {b''.join(pieces).decode()}")

    def respond_end(self, pieces: list[bytes], trailers: bytes) -> None:
        self._hears(f"end {b''.join(pieces).decode()}{trailers.decode()}")

    def pause_request(self) -> None:
        self._hears("pause")

    def resume_request(self) -> None:
        self._hears("resume")

    def finished(self) -> None:
        self._hears("finished")

    def fail(self, failure: Failure) -> None:
        self.failure = failure
        if self.exchange.request.reservation is not None:
            self.exchange.request.reservation.release()
        self._hears(f"fail {failure.status} {failure.cause}")

    def abort(self) -> None:
        self._hears("abort")

    def detach(self, head: ResponseHead, added: bytes) -> tuple[asyncio.Transport, bytes, bytes]:
        self._hears("detach")
        return Memory(), head.encoded + added, b""


Step = Callable[[Walk], Awaitable[None]]
WALKS: dict[str, Step] = {}


def walk(step: Step) -> Step:
    WALKS[step.__name__] = step
    return step


CONNECTED = "a connection, and the request is whole"
STREAMS = "a connection, and the body has not ended"
MALFORMED = "what the backend sends is malformed"
LOST = "the backend's connection ends"
CLIENT_LOST = "the client is lost"
BAD_BODY = "the request's body is malformed or too large"
HEAD_CAME = "the final head"
END_CAME = "the end of the answer"


def sent(one: Walk, *, after: bytes = b"", upgrade: bool = False, length: int = 0) -> None:
    """Begin over a pooled connection; then the backend says `after`."""
    one.begins(upgrade=upgrade, length=length)
    one.event(STREAMS if length else CONNECTED, one.exchange.start)
    if after == INTERIM:
        one.event("an interim answer", one.gets(after))
    elif after:
        one.event(HEAD_CAME, one.gets(after))


@walk
async def answer_that_comes_at_once(one: Walk) -> None:
    sent(one)
    one.event((HEAD_CAME, END_CAME), one.gets(OK + b"hello"))

    assert one.said == ["whole 200 5 hello", "finished"]
    assert one.transport.sent.startswith(b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-ID: ")
    assert one.connection.alive


@walk
async def answer_behind_an_interim_one_in_pieces(one: Walk) -> None:
    sent(one, after=INTERIM)
    one.event(HEAD_CAME, one.gets(OK + b"he"))
    one.event(END_CAME, one.gets(b"llo"))

    assert one.said == ["interim 103", "head 200 5 he", "end llo", "finished"]
    assert one.connection.alive


@walk
async def body_that_streams_while_the_answer_does(one: Walk) -> None:
    sent(one, length=-1)
    one.exchange.request_data([b"abc"])
    one.event(HEAD_CAME, one.gets(OK))
    one.event("the body ends", lambda: one.exchange.request_end([b"d"], b"X: 1\r\n"))
    one.event(END_CAME, one.gets(b"hello"))

    assert one.transport.sent.endswith(b"\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nX: 1\r\n\r\n")
    assert one.said == ["resume", "head 200 5 ", "end hello", "finished"]
    assert one.connection.alive


@walk
async def early_answer_lets_no_connection_serve_again(one: Walk) -> None:
    sent(one, length=9)
    one.event((HEAD_CAME, END_CAME), one.gets(OK + b"hello"))

    assert one.said == ["resume", "whole 200 5 hello", "finished"]
    assert not one.connection.alive


@walk
async def upgrade_that_is_switched(one: Walk) -> None:
    for after in (b"", INTERIM):
        walked = one.another()
        sent(walked, upgrade=True, after=after)
        walked.event("a valid 101 to an upgrade", walked.gets(SWITCH))
        (tunnel,) = one.runtime.tunnels

        assert walked.said[-1:] == ["detach"]
        tunnel.client.connection_lost(None)
        tunnel.backend.connection_lost(None)


@walk
async def stale_connection_is_tried_once_more(one: Walk) -> None:
    async with backend(one) as server:
        sent(one)
        one.event("a pooled connection was stale, and all of the request is here", one.loses)
        await one.dialled(CONNECTED)

        assert one.said == []
        assert (await server.readuntil(b"\r\n\r\n")).startswith(b"GET / HTTP/1.1\r\n")
        one.event(CLIENT_LOST, one.exchange.client_lost)


@walk
async def body_that_comes_while_a_connection_is_made(one: Walk) -> None:
    async with backend(one) as server:
        one.begins("POST", -1, pooled=False)
        one.exchange.start()
        assert one.deadline.at == 0
        one.exchange.request_data([b"a" * 70_000])
        await one.dialled(STREAMS)
        one.event("the body ends", lambda: one.exchange.request_end([], b""))

        assert one.said == ["pause", "resume"]
        assert (await server.readuntil(b"0\r\n\r\n")).endswith(b"a\r\n0\r\n\r\n")
        one.event(CLIENT_LOST, one.exchange.client_lost)


@walk
async def body_of_tiny_pieces_that_comes_while_a_connection_is_made(one: Walk) -> None:
    """Each piece is an object that is held, and a chunk that is written, whatever it carries."""
    async with backend(one) as server:
        one.begins("POST", -1, pooled=False)
        one.exchange.start()
        kept = 0
        while "pause" not in one.said:
            one.exchange.request_data([b"ab"] * 64)
            kept += 64
        assert kept <= 1024
        await one.dialled(STREAMS)

        assert one.said == ["pause", "resume"]
        assert (await server.readuntil(b"\r\n\r\n" + b"2\r\nab\r\n" * kept)).endswith(b"ab\r\n")
        one.event(CLIENT_LOST, one.exchange.client_lost)


@walk
async def body_that_fills_its_connection_at_once(one: Walk) -> None:
    """The client is read again when the backend takes more, not when the connection is there."""
    one.pooled()
    write = one.connection.write
    one.connection.write = lambda data: (write(data), one.connection.pause_writing())[0]
    one.begins("POST", -1, pooled=False)
    one.exchange.request_data([b"a" * 70_000])
    one.event(STREAMS, one.exchange.start)

    assert one.said == ["pause", "pause"]
    assert one.exchange.phase == UPSTREAM_WRITE_STALL
    one.connection.resume_writing()
    assert one.said == ["pause", "pause", "resume"]
    one.event(CLIENT_LOST, one.exchange.client_lost)


@walk
async def client_that_takes_nothing_while_a_connection_is_made(one: Walk) -> None:
    """What it does not read was an answer before this one; the backend is not read before it reads again."""
    async with backend(one) as server:
        one.begins(pooled=False)
        one.exchange.start()
        one.write_paused = True
        one.exchange.downstream_paused()
        assert (one.exchange.phase, one.deadline.at) == (CONNECT, 0)
        await one.dialled(CONNECTED)
        await server.readuntil(b"\r\n\r\n")

        codec = one.exchange._upstream_codec
        assert codec is not None
        assert not codec._connection.transport.is_reading()
        assert one.exchange.phase == DOWNSTREAM_WRITE_STALL
        one.write_paused = False
        one.exchange.downstream_resumed()
        assert codec._connection.transport.is_reading()
        assert one.exchange.phase == RESPONSE
        one.event(CLIENT_LOST, one.exchange.client_lost)


@walk
async def endpoint_that_cannot_be_reached(one: Walk) -> None:
    one.begins(pooled=False)
    one.exchange.start()
    await one.dialled("no connection can be made")

    assert one.said == ["fail 502 connect_refused"]


@walk
async def backend_that_says_nothing_sensible_before_its_head(one: Walk) -> None:
    for after in (b"", INTERIM):
        for event, act, cause in (
            (MALFORMED, GARBAGE, "malformed_head"),
            (LOST, b"", "closed_before_answer"),
        ):
            walked = one.another()
            sent(walked, after=after, length=9)  # a body that is not all here cannot be sent again
            walked.event(event, walked.gets(act) if act else walked.loses)

            assert walked.said[-1] == f"fail 502 {cause}"
            assert not walked.connection.alive


@walk
async def answer_that_breaks(one: Walk) -> None:
    for event, act, cause in ((MALFORMED, b"zz\r\n", "bad_chunk"), (LOST, b"", "truncated")):
        walked = one.another()
        sent(walked, after=CHUNKED)
        walked.event(event, walked.gets(act) if act else walked.loses)

        assert walked.said == ["head 200 -1 ", "abort"], cause
        assert not walked.connection.alive


@walk
async def head_that_the_client_cannot_be_sent(one: Walk) -> None:
    one.takes_codings = False
    sent(one)
    one.event((HEAD_CAME, "a head that this client cannot be sent"), one.gets(CHUNKED.replace(b"chunked", b"gzip, chunked")))

    assert one.said == ["asked", "fail 502 unsupported_coding"]


@walk
async def body_that_is_malformed(one: Walk) -> None:
    for after, said in ((b"", "fail 400 request_body_malformed"), (INTERIM, "fail 400 request_body_malformed"), (OK, "abort")):
        walked = one.another()
        sent(walked, after=after, length=-1)
        walked.event(BAD_BODY, walked.exchange.request_malformed)

        assert walked.said[-1] == said


@walk
async def chunked_body_that_grows_too_large(one: Walk) -> None:
    (route,) = one.runtime.routes.values()
    route.body_limit = 4
    for after, said in ((b"", "fail 413 body_grew_too_large"), (INTERIM, "fail 413 body_grew_too_large"), (OK, "abort")):
        for last in (False, True):
            walked = one.another()
            sent(walked, after=after, length=-1)
            walked.exchange.request_data([b"1234"])
            before = walked.transport.sent
            if last:
                walked.event(BAD_BODY, lambda walked=walked: walked.exchange.request_end([b"5"], b""))
            else:
                walked.event(BAD_BODY, lambda walked=walked: walked.exchange.request_data([b"5", b"6"]))

            assert (walked.said[-1], walked.transport.sent) == (said, before)


@walk
async def client_that_leaves(one: Walk) -> None:
    for after in (b"", INTERIM, OK):
        walked = one.another()
        sent(walked, after=after)
        said = list(walked.said)
        walked.event(CLIENT_LOST, walked.exchange.client_lost)

        assert walked.said == said
        assert not walked.connection.alive


@walk
async def response_in_time(one: Walk) -> None:
    sent(one)
    one.expires(RESPONSE, 41)

    assert (one.said, one.failure.cause) == (["fail 504 answer_timeout"], "answer_timeout")


@walk
async def handshake_in_time(one: Walk) -> None:
    sent(one, upgrade=True, after=INTERIM)
    one.expires(HANDSHAKE, 42)

    assert one.said[-1] == "fail 504 handshake_timeout"


@walk
async def idle_answer(one: Walk) -> None:
    sent(one, after=OK)
    one.event("data", one.gets(b"he"))
    one.expires(IDLE, 43)

    assert one.said[-1] == "abort"


@walk
async def body_of_a_slow_client(one: Walk) -> None:
    sent(one, length=9)
    one.expires(BODY_RATE, 30)
    assert one.exchange.end == OPEN  # it is looked at each second from now on
    one.expires(BODY_RATE, 1)
    one.exchange._began -= 31
    one.expires(BODY_RATE, 1)

    assert one.said[-1] == "abort"


@walk
async def backend_that_takes_no_body(one: Walk) -> None:
    sent(one, length=9)
    one.connection.pause_writing()
    one.notes()
    one.connection.resume_writing()
    assert one.exchange.phase == BODY_RATE
    one.connection.pause_writing()
    one.notes()
    one.expires(UPSTREAM_WRITE_STALL, 60)

    assert one.said == ["resume", "pause", "resume", "pause", "fail 504 body_not_taken"]


@walk
async def client_that_takes_no_answer(one: Walk) -> None:
    sent(one, after=OK)
    one.exchange.downstream_paused()
    one.notes()
    assert not one.transport.reading
    one.exchange.downstream_resumed()
    assert one.transport.reading
    assert one.exchange.phase == IDLE
    one.exchange.downstream_paused()
    one.expires(DOWNSTREAM_WRITE_STALL, 60)

    assert one.said[-1] == "abort"


@walk
async def client_that_takes_no_interim_answer(one: Walk) -> None:
    """The phase of before goes on when it does again."""
    for length, phase in ((0, RESPONSE), (9, BODY_RATE)):
        walked = one.another()
        sent(walked, after=INTERIM, length=length)
        walked.exchange.downstream_paused()
        walked.exchange.downstream_resumed()

        assert walked.exchange.phase == phase
        walked.exchange.downstream_paused()
        walked.event(HEAD_CAME, walked.gets(OK))
        assert walked.exchange.phase == DOWNSTREAM_WRITE_STALL
        walked.exchange.downstream_resumed()
        assert walked.exchange.phase == IDLE
        walked.event(CLIENT_LOST, walked.exchange.client_lost)


@walk
async def dial_that_takes_too_long(one: Walk) -> None:
    with blackhole(one):
        one.begins(pooled=False)
        one.exchange.start()
        assert (one.exchange.phase, one.deadline.at) == (CONNECT, 0)
        one.notes()
        await one.dialled("no connection can be made")

    assert one.said == ["fail 504 connect_timeout"]


class Filter:
    """Waits, with the head or with the body, until it is told what to do."""

    def __init__(self, one: Walk, *, body: bool = False) -> None:
        self._told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._body = body
        (route,) = one.runtime.routes.values()
        route.answer_filters = (self.head,)

    def head(self, _request: Request, _head: AnswerHead) -> AnswerVerdict:
        return self if self._body else self._wait()

    async def _wait(self) -> None:
        await self._told

    def data(self, _data: bytes) -> Awaitable[bytes]:
        return self._told

    def end(self) -> bytes:
        return b""

    async def goes_on(self, one: Walk, event: str, error: Exception | None = None) -> None:
        """Let it be done, or fail."""
        filtered = one.exchange._filtered
        assert filtered is not None
        task = filtered._task
        assert task is not None

        def act() -> None:
            self._told.set_result(b"") if error is None else self._told.set_exception(error)

        one.event("", act)
        one.expects(event)
        await asyncio.wait([task])
        one.notes()


DONE = "an answer filter is done"
FAILS = "an answer filter fails"


@walk
async def head_that_a_filter_thinks_about(one: Walk) -> None:
    for event, act in (
        (CLIENT_LOST, lambda walked: walked.exchange.client_lost()),
        (LOST, lambda walked: walked.loses()),
        (MALFORMED, lambda walked: walked.connection.data_received(b"zz\r\n")),
        (BAD_BODY, lambda walked: walked.exchange.request_malformed()),
    ):
        walked = one.another()
        Filter(walked)
        sent(walked, after=CHUNKED, length=-1)
        assert not walked.transport.reading
        walked.event(event, functools.partial(act, walked))

        assert walked.said[1:] == [] or walked.said[-1].startswith("fail ")
    waits = Filter(one)
    sent(one, after=CHUNKED)
    await waits.goes_on(one, DONE)

    assert one.said == ["head 200 -1 "]
    assert one.transport.reading
    assert one.exchange.phase == IDLE
    one.event(CLIENT_LOST, one.exchange.client_lost)


@walk
async def filter_that_fails(one: Walk) -> None:
    for body, upgrade, after, said in (
        (False, False, b"", "fail 500 filter_failed"),
        (True, False, b"", "abort"),
        (False, True, b"", "fail 500 filter_failed"),
        (False, True, INTERIM, "fail 500 filter_failed"),
    ):
        walked = one.another()
        waits = Filter(walked, body=body)
        if upgrade:
            sent(walked, upgrade=True, after=after)
            walked.event("a 101", walked.gets(SWITCH))
        else:
            sent(walked, after=CHUNKED)
            walked.event("data", walked.gets(b"3\r\nabc\r\n"))
        await waits.goes_on(walked, FAILS, RuntimeError("a filter's fault"))

        assert walked.said[-1] == said


@walk
async def switch_that_a_filter_thinks_about(one: Walk) -> None:
    for after, said in ((b"", ["detach"]), (INTERIM, ["interim 103", "detach"])):
        walked = one.another()
        waits = Filter(walked)
        sent(walked, upgrade=True, after=after)
        walked.event("a 101", walked.gets(SWITCH))
        await waits.goes_on(walked, DONE)
        (tunnel,) = one.runtime.tunnels

        assert walked.said == said
        tunnel.client.connection_lost(None)
        tunnel.backend.connection_lost(None)


@walk
async def filter_in_time(one: Walk) -> None:
    for body, said in ((True, "abort"), (False, "fail 504 filter_timeout")):
        walked = one.another() if body else one
        Filter(walked, body=body)
        sent(walked, after=CHUNKED)
        walked.event("data", walked.gets(b"3\r\nabc\r\n"))
        walked.exchange.downstream_paused()
        walked.exchange.downstream_resumed()
        walked.expires(FILTER, 41)

        assert walked.said[-1] == said


def serves(runtime: Runtime, port: int) -> None:
    target = Target((Share("t/b:80"),))
    route = Route(
        id="ingress/t/a/0",
        origin="ingress",
        namespace="t",
        name="a",
        created="",
        index=0,
        hosts=("a.test",),
        path=Path("prefix", "/"),
        websocket=target,
        http=target,
        policies=(TIMEOUTS,),
    )
    config = ProxyConfig(
        routes={route.id: route}, upstreams={"t/b:80": Upstream((Endpoint("127.0.0.1", port),))}, certificates={}, tls_hosts={}
    )
    encoded = wire.encode_config(config)
    runtime.apply({key: wire.decode_entry(key, data) for key, (data, _) in encoded.entries.items()}, ())


@contextlib.asynccontextmanager
async def backend(one: Walk) -> AsyncIterator[asyncio.StreamReader]:
    """A real one, for what has to dial; it says nothing. What it gives is what comes by the first connection."""
    reader = asyncio.StreamReader(1024 * 1024)
    writers: list[asyncio.StreamWriter] = []

    async def take(source: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while data := await source.read(65536):
            reader.feed_data(data)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    serves(one.runtime, server.sockets[0].getsockname()[1])
    try:
        yield reader
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.contextmanager
def blackhole(one: Walk) -> Iterator[None]:
    """An endpoint that answers no SYN: the queue of a socket that nobody accepts from is full (listen(2))."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listening.getsockname())
        serves(one.runtime, listening.getsockname()[1])
        yield


async def test_every_transition_and_every_deadline_is_as_the_tables_say() -> None:
    loop = asyncio.get_running_loop()
    seen: tuple[Seen, Seen, Seen, set[str]] = set(), set(), set(), set()
    expired = {"CONNECT": "REPLACED"}  # the dial's own, see `dial_that_takes_too_long`
    async with asyncio.timeout(30):
        for step in WALKS.values():
            runtime = Runtime(
                loop, Settings(), accesslog=AccessLog("off", loop), certificates=CertificateStore(), public_https_port=443
            )
            with socket.socket() as unused:
                unused.bind(("127.0.0.1", 0))
                serves(runtime, unused.getsockname()[1])
                one = Walk(runtime, seen)
                await step(one)
            expired |= one.expired
            (route,) = runtime.routes.values()
            pool = runtime.upstreams["t/b:80"].ready[0]
            assert (route.stats.in_flight, pool.in_flight, pool.counter.load) == (0, 0, 0), step.__name__
            runtime.upstreams["t/b:80"].retire()
            runtime.wheel.close()

    assert seen[0] == set(REQUEST_TRANSITIONS)
    assert seen[1] == set(ANSWER_TRANSITIONS)
    assert seen[2] == set(END_TRANSITIONS)
    assert seen[3] == set(PHASES.values())
    assert expired == {phase: then.partition(",")[0] for phase, _, then in DEADLINES}


def test_no_state_is_without_a_way_into_it() -> None:
    assert {after for _, _, after in REQUEST_TRANSITIONS} == set(REQUEST_STATES.values())
    assert {after for _, _, after in ANSWER_TRANSITIONS} == set(ANSWER_STATES.values()) - {"NONE"}
    assert {after for _, _, after in END_TRANSITIONS} == set(ENDS.values()) - {"OPEN"}


@pytest.mark.parametrize(
    ("heading", "rows"),
    [
        ("request", REQUEST_TRANSITIONS),
        ("answer", ANSWER_TRANSITIONS),
        ("answer, until the end", END_TRANSITIONS),
        ("phase", DEADLINES),
    ],
)
def test_docs_show_the_tables_of_the_code(heading: str, rows: tuple[tuple[str, str, str], ...]) -> None:
    page = (File(__file__).parents[3] / "docs" / "architecture.md").read_text()
    section = page.partition("### The exchange (")[2].partition("\n### ")[0]
    table = section.partition(f"\n| {heading} | ")[2].partition("\n\n")[0].strip().split("\n")[2:]

    assert [tuple(cell.strip() for cell in line.strip("| ").split(" | ")) for line in table] == [tuple(row) for row in rows]
