"""A request that fails says why: in the access log with its endpoint, in the metrics by cause, in the log once in a while."""

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from wire.harness import CERTIFICATE, WAIT, Peer, Proxy, config_for, proxying
from wire.logs import Line, logging_of
from wire.verbs import SWITCH, UPGRADE, blackhole, floods

from proxy.http.causes import CLIENT, REFUSALS, UPSTREAM
from proxy.model.config import Endpoint, ProxyConfig, Upstream
from proxy.model.policy import Connections, Policy, Timeouts
from proxy.observability.metrics import UPSTREAM_CONNECT_FAILURES, UPSTREAM_ERRORS
from proxy.settings import Settings
from proxy.tls.contexts import make_context

KEY = "test/backend:80"
GET = b"GET /x HTTP/1.1\r\nHost: a.test\r\nUser-Agent: t\r\n\r\n"
UP = UPGRADE + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
SENTENCE = b"The backend of this route refused the connection or did not answer properly.\n"
LONG = b"x" * 70_000

Act = Callable[[Peer], Awaitable[None]]


def says(data: bytes) -> Act:
    async def act(backend: Peer) -> None:
        await backend.sends(data)

    return act


def ends_after(data: bytes) -> Act:
    async def act(backend: Peer) -> None:
        await backend.sends(data)
        backend.closes()

    return act


async def resets(backend: Peer) -> None:
    backend.resets()


async def waits(backend: Peer) -> None:
    """Say nothing."""


def switch(old: bytes = b"", new: bytes = b"") -> bytes:
    assert old in SWITCH
    return (SWITCH.replace(old, new) if old else SWITCH + new) + b"\r\n"


ODD: dict[str, list[tuple[bytes, Act]]] = {
    "closed_before_answer": [(GET, ends_after(b"")), (UP, ends_after(b"")), (GET, ends_after(b"HTTP/1.1 103 Early\r\n\r\n"))],
    "reset_before_answer": [(GET, resets), (UP, resets)],
    "truncated_head": [(GET, ends_after(OK + b"Content-Le")), (UP, ends_after(b"HTTP/1.1 101 Switching"))],
    "malformed_head": [
        (GET, says(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n")),
        (GET, says(b"HTTP/2.0 200 OK\r\n\r\n")),
        (GET, says(b"HTTP/1.1 600 Far\r\n\r\n")),
        (GET, says(OK + b"A : b\r\n\r\n")),
        (GET, says(OK + b"A: b\x00\r\n\r\n")),
        (UP, says(b"HTTP/1.1 101\n\r\n\r\n")),
    ],
    "head_too_large": [
        (GET, says(OK + b"A: " + LONG)),
        (GET, says(OK + b"A: " + LONG + b"\r\n\r\n")),
        (GET, says(OK + b"A: b\r\n" * 129 + b"\r\n")),
    ],
    "malformed_framing": [
        (GET, says(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n")),
        (GET, says(OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n")),
        (GET, says(OK + b"Transfer-Encoding: identity\r\n\r\n")),
    ],
    "too_many_interim": [(GET, says(b"HTTP/1.1 103 Early\r\n\r\n" * 17))],
    "interim_body": [(GET, says(b"HTTP/1.1 103 Early\r\nContent-Length: 1\r\n\r\na"))],
    "unexpected_switch": [(GET, says(SWITCH + b"\r\n"))],
    "switch_other_protocol": [(UP, says(switch(b"websocket", b"h2c")))],
    "switch_no_connection": [(UP, says(switch(b"Connection: Upgrade", b"Connection: close")))],
    "switch_invalid_accept": [(UP, says(switch(b"Accept: ", b"Accept: x")))],
    "switch_unoffered_subprotocol": [(UP, says(switch(b"", b"Sec-WebSocket-Protocol: chat\r\n")))],
    "switch_unoffered_extension": [(UP, says(switch(b"", b"Sec-WebSocket-Extensions: x\r\n")))],
    "unsupported_coding": [
        (b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n", says(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"))
    ],
    "bad_chunk": [(GET, says(OK + b"Transfer-Encoding: chunked\r\n\r\nx\r\n"))],
}


@contextlib.asynccontextmanager
async def watching(
    caplog: pytest.LogCaptureFixture,
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0, handshake=1.0, response=1.0, idle=1.0),),
    settings: Settings | None = None,
    *,
    backend_tls: bool = False,
) -> AsyncIterator[tuple[Proxy, Callable[[], Awaitable[Line]]]]:
    """Run the proxy; the second value waits for the next line of the access log."""
    caplog.set_level(logging.WARNING, "sluice.upstream")
    async with proxying(settings, policies, backend_tls=backend_tls) as proxy, logging_of(proxy) as log:
        yield proxy, log.next


def errors_of(proxy: Proxy) -> dict[str, int]:
    return dict(proxy.runtime.stats.service(KEY).labelled(UPSTREAM_ERRORS))


def told(line: Line) -> tuple[int, str, str]:
    assert line["event"] == "request"
    return line["status"], line["cause"], line["endpoint"]


@pytest.mark.parametrize(
    ("cause", "head", "act"),
    [pytest.param(cause, head, act, id=f"{cause}{n}") for cause, ways in ODD.items() for n, (head, act) in enumerate(ways)],
)
async def test_odd_answer_of_a_backend_is_named(cause: str, head: bytes, act: Act, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(caplog) as (proxy, next_line):
        client = await proxy.client()
        await client.sends(head)
        backend = await proxy.backend.accepts()
        await backend.head()
        await act(backend)
        while True:
            status, fields, body = await client.answer()
            if status >= 200:
                break
        line = await next_line()
        endpoint = f"127.0.0.1:{proxy.backend.port}"

        assert (status, body) == (502, SENTENCE)
        assert told(line) == (502, cause, endpoint)
        assert (line["id"], line["service"], line["route"]) == (fields["x-request-id"], KEY, "ingress/test/a/0")
        assert errors_of(proxy) == {cause: 1}
        assert caplog.messages == [
            f'service={KEY} endpoint="{endpoint}" cause={cause} status=502 id="{line["id"]}" {UPSTREAM[cause]}'
        ]


@pytest.mark.parametrize(
    ("cause", "act"),
    [
        ("closed_before_answer", ends_after(b"")),
        ("reset_before_answer", resets),
        ("truncated_head", ends_after(OK)),
        ("malformed_head", says(b"nonsense\r\n\r\n")),
    ],
)
async def test_odd_answer_of_a_backend_over_tls_is_named_alike(cause: str, act: Act, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(caplog, backend_tls=True) as (proxy, next_line):
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await act(backend)
        await client.answer()

        assert told(await next_line()) == (502, cause, f"127.0.0.1:{proxy.backend.port}")
        assert errors_of(proxy) == {cause: 1}


@pytest.mark.parametrize(
    ("cause", "act"),
    [
        ("truncated", ends_after(OK + b"Content-Length: 9\r\n\r\nhalf")),
        ("truncated", ends_after(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")),
        ("bad_chunk", says(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")),
        pytest.param("idle_timeout", says(OK + b"Content-Length: 9\r\n\r\nhalf"), marks=pytest.mark.slow),
    ],
)
async def test_answer_that_is_not_whole_is_named(cause: str, act: Act, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(caplog) as (proxy, next_line):
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await act(backend)
        await client.head()
        await client.reads(4)
        if cause == "bad_chunk":
            await backend.sends(b"x\r\n")
        line = await next_line()

        assert told(line) == (200, cause, f"127.0.0.1:{proxy.backend.port}")
        assert errors_of(proxy) == {cause: 1}
        assert len(caplog.messages) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("head", "cause"), [(GET, "answer_timeout"), (UP, "handshake_timeout")])
async def test_backend_that_says_nothing_is_named(head: bytes, cause: str, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(caplog, (Timeouts(connect=1.0, handshake=0.3, response=0.3),)) as (proxy, next_line):
        client = await proxy.client()
        await client.sends(head)
        await (await proxy.backend.accepts()).head()
        status, _, _ = await client.answer()
        line = await next_line()

        assert (status, told(line)) == (504, (504, cause, f"127.0.0.1:{proxy.backend.port}"))
        assert line["seconds"] >= 0.3
        assert errors_of(proxy) == {cause: 1}


@pytest.mark.slow
async def test_body_that_a_backend_does_not_take_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async with watching(caplog, (Timeouts(connect=1.0, send=0.3),)) as (proxy, next_line):
        client = await proxy.client()
        await client.sends(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1073741824\r\n\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        backend.writer.transport.pause_reading()  # type: ignore[attr-defined]
        flooding = asyncio.create_task(floods(client))
        line = await next_line()
        flooding.cancel()
        await asyncio.wait((flooding,), timeout=WAIT)
        client.resets()
        backend.writer.transport.resume_reading()  # type: ignore[attr-defined]

        assert told(line) == (504, "body_not_taken", f"127.0.0.1:{proxy.backend.port}")
        assert errors_of(proxy) == {"body_not_taken": 1}


@pytest.mark.slow
async def test_body_that_comes_too_slowly_is_the_clients_doing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.exchange.states.BODY_GRACE", 0.2)
    async with watching(caplog, (Timeouts(connect=1.0),), Settings(min_body_rate=1_000_000)) as (proxy, next_line):
        client = await proxy.client()
        await client.sends(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\na")
        line = await next_line()

        assert told(line) == (408, "body_too_slow", f"127.0.0.1:{proxy.backend.port}")
        assert (errors_of(proxy), caplog.messages) == ({}, [])


@pytest.mark.slow
@pytest.mark.parametrize(("connect", "response"), [(0.3, 9.0), (0.6, 0.1)])
async def test_endpoint_that_answers_no_syn_is_named(connect: float, response: float, caplog: pytest.LogCaptureFixture) -> None:
    with blackhole() as port:
        async with watching(caplog, (Timeouts(connect=connect, response=response),)) as (proxy, next_line):
            config = config_for(proxy.backend.port, Timeouts(connect=connect, response=response))
            proxy.serves(ProxyConfig(config.routes, {KEY: Upstream((Endpoint("127.0.0.1", port),))}, {}, {}))
            client = await proxy.client()
            await client.sends(GET)
            await client.answer()
            line = await next_line()
            proxy.serves(config)

            assert told(line) == (504, "connect_timeout", f"127.0.0.1:{port}")
            assert errors_of(proxy) == {"connect_timeout": 1}


def to(endpoint: Endpoint, proxy: Proxy, *policies: Policy, tls: bool = False) -> ProxyConfig:
    config = config_for(proxy.backend.port, *policies)
    return ProxyConfig(config.routes, {KEY: Upstream((endpoint,), tls=tls)}, config.certificates, config.tls_hosts)


@pytest.mark.parametrize(
    ("error", "status", "cause"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), 502, "connect_refused"),
        (ConnectionResetError(errno.ECONNRESET, ""), 502, "connect_reset"),
        (OSError(errno.EHOSTUNREACH, ""), 502, "connect_unreachable"),
        (OSError(errno.ENETUNREACH, ""), 502, "connect_unreachable"),
        (OSError(errno.EACCES, ""), 502, "connect_failed"),
        (OSError("Multiple exceptions"), 502, "connect_failed"),
        (socket.gaierror(socket.EAI_NONAME, ""), 502, "name_unresolved"),
        (TimeoutError(errno.ETIMEDOUT, ""), 504, "connect_timeout"),
        (OSError(errno.EMFILE, ""), 503, "exhausted"),
    ],
)
async def test_connection_that_cannot_be_made_is_named(
    error: OSError, status: int, cause: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's own answers, one for one; those that a test can provoke come by the wire below."""
    async with watching(caplog) as (proxy, next_line):
        (pool,) = proxy.runtime.upstreams[KEY].ready

        class Loop(asyncio.AbstractEventLoop):
            time = proxy.runtime.loop.time  # type: ignore[assignment]

            async def create_connection(self, *_: object) -> None:  # type: ignore[override]
                raise error

        monkeypatch.setattr(pool, "_loop", Loop())
        client = await proxy.client()
        await client.sends(GET)
        found, _, _ = await client.answer()
        line = await next_line()

        assert (found, told(line)) == (status, (status, cause, f"127.0.0.1:{proxy.backend.port}"))
        assert errors_of(proxy) == {cause: 1}


async def test_last_endpoint_that_was_tried_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async with watching(caplog) as (proxy, next_line):
        with socket.create_server(("127.0.0.1", 0)) as closed, socket.create_server(("127.0.0.1", 0)) as other:
            ports = {closed.getsockname()[1], other.getsockname()[1]}
        config = config_for(proxy.backend.port, Timeouts(connect=1.0))
        upstream = Upstream(tuple(Endpoint("127.0.0.1", port) for port in ports))
        proxy.serves(ProxyConfig(config.routes, {KEY: upstream}, config.certificates, config.tls_hosts))
        client = await proxy.client()
        await client.sends(GET)
        status, _, body = await client.answer()
        line = await next_line()
        proxy.serves(config)

        assert (status, body, told(line)[:2]) == (502, SENTENCE, (502, "connect_refused"))
        assert line["endpoint"] in {f"127.0.0.1:{port}" for port in ports}
        assert proxy.runtime.stats.service(KEY).value(UPSTREAM_CONNECT_FAILURES) == 2
        assert errors_of(proxy) == {"connect_refused": 1}


async def test_ipv6_endpoint_stands_in_brackets(caplog: pytest.LogCaptureFixture) -> None:
    async with watching(caplog) as (proxy, next_line):
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as closed:
            port = closed.getsockname()[1]
        config = config_for(proxy.backend.port)
        proxy.serves(to(Endpoint("::1", port), proxy))
        client = await proxy.client()
        await client.sends(GET)
        await client.answer()
        line = await next_line()
        proxy.serves(config)

        assert told(line) == (502, "connect_refused", f"[::1]:{port}")


async def test_plain_backend_where_tls_was_meant_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async with watching(caplog) as (proxy, next_line):
        config = config_for(proxy.backend.port)
        proxy.serves(to(Endpoint("127.0.0.1", proxy.backend.port), proxy, tls=True))
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.sends(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await client.answer()
        line = await next_line()
        proxy.serves(config)

        assert told(line) == (502, "tls_handshake", f"127.0.0.1:{proxy.backend.port}")


POST = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.slow
@pytest.mark.parametrize("head", [GET, UP, POST])
async def test_endpoint_whose_tls_handshake_stalls_is_named_and_counted_when_the_time_to_connect_is_over(
    head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Times to answer in are shorter, and no matter yet: nothing was sent to answer."""
    limits = Timeouts(connect=0.6, handshake=0.1, response=0.1)
    async with watching(caplog) as (proxy, next_line):
        config = config_for(proxy.backend.port)
        proxy.serves(to(Endpoint("127.0.0.1", proxy.backend.port), proxy, limits, tls=True))
        client = await proxy.client()
        start = time.monotonic()
        await client.sends(head)
        await client.answer()
        took = time.monotonic() - start
        line = await next_line()
        proxy.serves(config)

        assert told(line) == (504, "tls_timeout", f"127.0.0.1:{proxy.backend.port}")
        assert errors_of(proxy) == {"tls_timeout": 1}
        assert proxy.runtime.stats.service(KEY).value(UPSTREAM_CONNECT_FAILURES) == 1
        assert 0.6 <= took < 5


@pytest.mark.slow
@pytest.mark.parametrize(("head", "status"), [(GET, 204), (UP, 503), (POST, 204)])
async def test_time_to_connect_is_not_the_time_to_answer_in(head: bytes, status: int, caplog: pytest.LogCaptureFixture) -> None:
    limits = Timeouts(connect=20.0, handshake=1.0, response=1.0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d Ready\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        writer.close()

    async with watching(caplog) as (proxy, _):
        config = config_for(proxy.backend.port)
        with socket.create_server(("127.0.0.1", 0)) as listening:  # the kernel takes connections
            proxy.serves(to(Endpoint("127.0.0.1", listening.getsockname()[1]), proxy, limits, tls=True))
            client = await proxy.client()
            await client.sends(head)
            await asyncio.sleep(1.5)  # this is the stall
            server = await asyncio.start_server(answer, sock=listening, ssl=make_context(CERTIFICATE))
            found, _, _ = await client.answer()
            proxy.serves(config)
            server.close()

        assert found == status


@pytest.mark.parametrize(("cause", "head"), [("no_endpoint", GET), ("no_endpoint", UP), ("endpoints_full", UP)])
async def test_service_without_room_is_named(cause: str, head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(caplog, (Connections(per_endpoint=1), Timeouts(connect=1.0))) as (proxy, next_line):
        config = config_for(proxy.backend.port, Connections(per_endpoint=1), Timeouts(connect=1.0))
        if cause == "no_endpoint":
            proxy.serves(ProxyConfig(config.routes, {KEY: Upstream(())}, config.certificates, config.tls_hosts))
        else:
            holder = await proxy.client()
            await holder.sends(UP)
            backend = await proxy.backend.accepts()
            await backend.head()
            await backend.sends(SWITCH + b"\r\n")
            await holder.head()
            await next_line()
        client = await proxy.client()
        await client.sends(head)
        status, fields, _ = await client.answer()
        line = await next_line()
        proxy.serves(config)

        assert (status, told(line)) == (503, (503, cause, ""))
        assert (line["id"], line["service"]) == (fields["x-request-id"], KEY)
        assert errors_of(proxy) == {cause: 1}


async def test_good_answers_name_their_endpoint_and_no_cause(caplog: pytest.LogCaptureFixture) -> None:
    async with watching(caplog) as (proxy, next_line):
        for status in (200, 404, 500):
            client = await proxy.client()
            await client.sends(GET)
            backend = await proxy.backend.accepts()
            await backend.head()
            await backend.sends(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
            await client.answer()
            assert told(await next_line()) == (status, "", f"127.0.0.1:{proxy.backend.port}")
        assert (errors_of(proxy), caplog.messages) == ({}, [])


async def test_request_that_its_client_leaves_is_logged_and_is_no_error_of_the_backend(caplog: pytest.LogCaptureFixture) -> None:
    async with watching(caplog) as (proxy, next_line):
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        head = await backend.head()
        client.resets()
        line = await next_line()
        endpoint = f"127.0.0.1:{proxy.backend.port}"

        assert told(line) == (499, "client_gone", endpoint)
        assert f"X-Request-ID: {line['id']}\r\n".encode() in head

        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(OK + b"Content-Length: 9\r\n\r\nhalf")
        await client.reads(10)
        client.resets()

        assert told(await next_line()) == (200, "client_gone", endpoint)
        assert (errors_of(proxy), caplog.messages) == ({}, [])


async def test_body_that_is_broken_is_the_clients_doing(caplog: pytest.LogCaptureFixture) -> None:
    post = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with watching(caplog) as (proxy, next_line):
        client = await proxy.client()
        await client.sends(post + b"x\r\n")
        status, fields, _ = await client.answer()
        line = await next_line()

        assert (status, line["status"], line["cause"], line["id"]) == (400, 400, "request_body_malformed", fields["x-request-id"])

        client = await proxy.client()
        await client.sends(post + b"1\r\na\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(OK + b"Content-Length: 9\r\n\r\nhalf")
        await client.head()
        await client.reads(4)
        await client.sends(b"x\r\n")

        assert told(await next_line())[:2] == (200, "request_body_malformed")
        assert (errors_of(proxy), caplog.messages) == ({}, [])


@pytest.mark.slow
async def test_client_that_takes_nothing_is_no_error_of_the_backend(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.exchange.states.WRITE_STALL", 0.3)
    async with watching(caplog) as (proxy, next_line):
        with proxy.blocking_client(secure=False) as client:
            client.sendall(GET)
            backend = await proxy.backend.accepts()
            await backend.head()
            backend.writer.write(OK + b"Content-Length: 99999999\r\n\r\n" + b"x" * 30_000_000)
            line = await next_line()

        assert told(line)[:2] == (200, "client_stalled")
        assert (errors_of(proxy), caplog.messages) == ({}, [])


@pytest.mark.slow
async def test_flood_of_one_kind_costs_one_line_and_then_says_how_many(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes a backend fail fills no log; another kind beside it is still said at once."""
    async with watching(caplog) as (proxy, _):
        monkeypatch.setattr(proxy.runtime.upstream_errors, "_quiet", 2.0)

        async def fails(head: bytes, answer: bytes) -> None:
            client = await proxy.client()
            await client.sends(head)
            backend = await proxy.backend.accepts()
            await backend.head()
            await backend.sends(answer)
            await client.answer()

        for _ in range(5):
            await fails(GET, b"nonsense\r\n\r\n")
        await fails(UP, switch(b"Accept: ", b"Accept: x"))
        first = list(caplog.messages)
        async with asyncio.timeout(WAIT):
            while len(caplog.messages) < 3:
                await asyncio.sleep(0.01)
            while proxy.runtime.upstream_errors._kinds:
                await asyncio.sleep(0.01)

        assert [message.split(" status=")[0].split("cause=")[1] for message in first] == ["malformed_head", "switch_invalid_accept"]
        assert "cause=malformed_head more=4 in the last 2 s" in caplog.messages[2]
        assert len(caplog.messages) == 3
        assert errors_of(proxy) == {"malformed_head": 5, "switch_invalid_accept": 1}


def test_causes_are_told_apart_and_each_that_a_test_names_is_one() -> None:
    names = [*UPSTREAM, *CLIENT, *REFUSALS]

    assert len(set(names)) == len(names)
    assert set(ODD) <= set(UPSTREAM)
