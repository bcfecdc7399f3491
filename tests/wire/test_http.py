"""Ordinary traffic: what goes in and what comes out, byte by byte."""

import asyncio
import re

import msgspec
import pytest
from wire.harness import WAIT, config_for, proxying
from wire.verbs import GET, OK

from proxy.model.policy import HttpsRedirect, Timeouts
from proxy.observability.metrics import HTTP_REQUESTS
from proxy.settings import Settings


async def test_get_reaches_the_backend_with_forwarding_fields_and_is_answered() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        head = await backend.head()
        await backend.sends(OK)
        status, fields, body = await client.answer()

    request_id = re.search(rb"X-Request-ID: ([0-9a-f]{32})\r\n", head)
    assert request_id is not None
    assert head.replace(request_id[1], b"ID") == (
        b"GET /x?a=b HTTP/1.1\r\nHost: a.test\r\nUser-Agent: t\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: a.test\r\nX-Forwarded-Port: 80\r\nX-Real-IP: 127.0.0.1\r\nX-Request-ID: ID\r\n\r\n"
    )
    assert (status, fields, body) == (200, {"content-length": "5"}, b"hello")


async def test_kept_alive_connections_are_used_again_on_both_sides() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        for _ in range(3):
            await backend.head()
            await backend.sends(OK)
            assert (await client.answer())[2] == b"hello"
            await client.sends(GET)
        await backend.head()
        await backend.sends(OK)
        await client.answer()

        assert proxy.backend.count == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"".join(b"GET /%d HTTP/1.1\r\nHost: a.test\r\n\r\n" % number for number in range(50)))
        backend = await proxy.backend.accepts()
        for number in range(50):
            assert (await backend.head()).startswith(b"GET /%d " % number)
            await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % number)
        for number in range(50):
            assert (await client.answer())[2] == b"%02d" % number


async def test_body_with_a_length_is_streamed_and_the_next_request_is_its_own() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n01234")
        backend = await proxy.backend.accepts()
        assert b"Content-Length: 10\r\n" in await backend.head()
        await backend.sees(b"01234")
        await client.sends(b"56789" + GET)
        await backend.sees(b"56789")
        await backend.sends(OK)
        assert (await client.answer())[2] == b"hello"
        assert (await backend.head()).startswith(b"GET /x?a=b ")
        await backend.sends(OK)
        assert (await client.answer())[2] == b"hello"


async def test_chunked_body_is_framed_anew_without_extensions_and_what_may_be_no_trailer() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(
            b"POST /up HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nHost: evil\r\n\r\n" + GET
        )
        backend = await proxy.backend.accepts()
        head = await backend.head()
        assert head.count(b"Transfer-Encoding: chunked\r\n") == 1
        await backend.sees(b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
        await backend.sends(OK)
        assert (await client.answer())[2] == b"hello"
        assert (await backend.head()).startswith(b"GET /x?a=b ")
        await backend.sends(OK)
        await client.answer()


async def test_chunked_answer_is_framed_anew() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert await client.head() == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.sees(b"3\r\nabc\r\n")
        await backend.sends(b"0\r\nX-Trailer: 1\r\n\r\n")
        await client.sees(b"0\r\n\r\n")
        await client.sends(GET)
        await backend.head()
        await backend.sends(OK)
        assert (await client.answer())[0] == 200


async def test_answer_until_close_is_chunked_for_http11_and_bare_for_http10() -> None:
    async with proxying() as proxy:
        for version, expected in ((b"1.1", b"4\r\nbody\r\n0\r\n\r\n"), (b"1.0", b"body")):
            client = await proxy.client()
            await client.sends(b"GET / HTTP/%b\r\nHost: a.test\r\n\r\n" % version)
            backend = await proxy.backend.accepts()
            await backend.head()
            await backend.sends(b"HTTP/1.1 200 OK\r\n\r\nbody")
            backend.closes()
            await client.head()
            await client.sees(expected)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"])
async def test_answers_without_a_body_end_with_their_head(answer: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        for _ in range(2):
            await client.sends(GET)
        backend = await proxy.backend.accepts()
        for _ in range(2):
            await backend.head()
            await backend.sends(answer)
            assert (await client.head()).startswith(answer[:20])


async def test_head_request_gets_the_length_and_no_body() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n" + GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        assert await client.head() == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        await backend.head()
        await backend.sends(OK)
        assert (await client.answer())[2] == b"hello"


async def test_expect_is_passed_on_and_interim_answers_come_back() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        backend = await proxy.backend.accepts()
        assert (await backend.head()).count(b"Expect: 100-continue\r\n") == 1
        await backend.sends(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n")
        await client.sees(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n")
        await client.sends(b"ok")
        await backend.sees(b"ok")
        await backend.sends(OK)
        assert (await client.answer())[2] == b"hello"


async def test_interim_answers_do_not_reach_a_client_of_http_1_0() -> None:
    """It could not tell them from the answer (RFC 9110, 15.2); its expectation is not passed on either."""
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"POST / HTTP/1.0\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok")
        backend = await proxy.backend.accepts()
        assert b"Expect" not in await backend.head()
        await backend.sees(b"ok")
        await backend.sends(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n")
        await backend.sends(b"HTTP/1.1 102 Processing\r\n\r\n" + OK)

        assert await client.rest() == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


async def test_fields_named_in_connection_go_and_ours_stay() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(
            b"GET / HTTP/1.1\r\nHost: a.test\r\n"
            b"Connection: close, X-Forwarded-For, Cookie, X-Secret\r\nX-Forwarded-For: 1.1.1.1\r\n"
            b"X_Forwarded_For: 2.2.2.2\r\nCookie: a\r\nX-Secret: b\r\nTE: gzip;q=0.5\r\nKeep-Alive: 5\r\nX-Kept: c\xe9\r\n\r\n"
        )
        backend = await proxy.backend.accepts()
        head = await backend.head()
        await backend.sends(OK)
        await client.answer()
        await client.ends()

    names = [line.split(b":")[0] for line in head.split(b"\r\n")[1:-2]]
    assert names == [
        b"Host",
        b"X-Kept",
        b"X-Forwarded-For",
        b"X-Forwarded-Proto",
        b"X-Forwarded-Host",
        b"X-Forwarded-Port",
        b"X-Real-IP",
        b"X-Request-ID",
    ]
    assert b"X-Kept: c\xe9\r\n" in head
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in head


async def test_forwarding_fields_of_a_trusted_peer_are_kept() -> None:
    async with proxying(trusted=True) as proxy:
        client = await proxy.client()
        await client.sends(
            b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Request-ID: mine\r\n\r\n"
        )
        backend = await proxy.backend.accepts()
        head = await backend.head()
        await backend.sends(OK)
        await client.answer()

    assert b"X-Forwarded-For: 9.9.9.9, 127.0.0.1\r\nX-Forwarded-Proto: https\r\n" in head
    assert head.count(b"X-Request-ID: mine\r\n") == 1
    assert b"X-Real-IP: 9.9.9.9\r\n" in head


async def test_redirect_sends_plain_http_to_https_but_not_acme_challenges() -> None:
    async with proxying(policies=(HttpsRedirect(),)) as proxy:
        client = await proxy.client()
        await client.sends(GET)
        status, fields, _ = await client.answer()
        assert (status, fields["location"]) == (308, "https://a.test/x?a=b")
        await client.sends(b"GET /.well-known/acme-challenge/t HTTP/1.1\r\nHost: a.test\r\n\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(OK)
        assert (await client.answer())[2] == b"hello"


@pytest.mark.parametrize(
    ("host", "status"),
    [("a.test", 308), ("A.test:80", 308), ("x.b.test", 308), ("b.test", 200), ("y.x.b.test", 200), ("test", 200)],
)
async def test_redirect_of_a_route_for_any_host_is_for_the_hosts_that_it_names(host: str, status: int) -> None:
    async with proxying() as proxy:
        made = config_for(proxy.backend.port, HttpsRedirect(("*.b.test", "a.test")))
        routes = {key: msgspec.structs.replace(route, hosts=("",)) for key, route in made.routes.items()}
        proxy.serves(msgspec.structs.replace(made, routes=routes))
        client = await proxy.client()
        await client.sends(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        if status == 200:
            backend = await proxy.backend.accepts()
            await backend.head()
            await backend.sends(OK)

        assert (await client.answer())[0] == status


async def test_unknown_host_is_404_and_unknown_share_is_500() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\nHost: b.test\r\nAccept: application/json\r\n\r\n")
        status, fields, body = await client.answer()
        assert (status, fields["content-type"]) == (404, "application/json")
        assert fields["x-request-id"].encode() in body


async def test_refusing_backend_is_502_and_the_connection_goes_on() -> None:
    async with proxying() as proxy:
        proxy.backend.stop()
        client = await proxy.client()
        for _ in range(2):
            await client.sends(GET)
            assert (await client.answer())[0] == 502


async def test_silent_backend_is_504() -> None:
    async with proxying(policies=(Timeouts(response=0.3),)) as proxy:
        client = await proxy.client()
        await client.sends(GET)
        await proxy.backend.accepts()
        assert (await client.answer())[0] == 504


async def test_pooled_connection_found_closed_is_tried_again_once() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        first = await proxy.backend.accepts()
        await first.head()
        await first.sends(OK)
        await client.answer()
        await client.sends(GET)
        await first.head()
        first.resets()
        second = await proxy.backend.accepts()
        await second.head()
        await second.sends(OK)
        assert (await client.answer())[2] == b"hello"


async def test_truncated_answer_aborts_the_client() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await client.head()
        await client.sees(b"half")
        backend.closes()
        await client.ends()


async def test_extra_bytes_after_an_answer_are_dropped_and_the_connection_is_not_used_again() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        assert (await client.answer())[2] == b"hello"
        await backend.ends()
        await proxy.is_innocent()


async def test_early_answer_is_delivered_and_both_connections_end() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\npart")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        status, fields, body = await client.answer()
        assert (status, fields["connection"], body) == (413, "close", b"big")
        await client.ends()
        await backend.sees(b"part")
        await backend.ends()


async def test_client_that_goes_away_takes_the_backend_connection_with_it() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\npart")
        backend = await proxy.backend.accepts()
        await backend.head()
        client.resets()
        await backend.sees(b"part")
        await backend.ends()
        await proxy.is_innocent()


@pytest.mark.slow
async def test_slow_reader_stops_the_backend() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        client.writer.transport.pause_reading()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        size = 256 * 1024 * 1024
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sent = 0
        block = bytes(1024 * 1024)
        try:
            async with asyncio.timeout(1.0):
                while sent < size:
                    backend.writer.write(block)
                    await backend.writer.drain()
                    sent += len(block)
        except TimeoutError:
            pass
        assert sent < 64 * 1024 * 1024


@pytest.mark.slow
async def test_head_that_does_not_arrive_is_408() -> None:
    async with proxying(Settings(header_timeout=0.3)) as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\nHo")
        assert (await client.answer())[0] == 408
        await client.ends()
        silent = await proxy.client()
        await silent.ends()


async def test_kept_alive_connection_that_is_silent_is_closed() -> None:
    async with proxying(Settings(keepalive_timeout=0.3)) as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(OK)
        await client.answer()
        async with asyncio.timeout(WAIT):
            await client.ends()


@pytest.mark.parametrize(
    ("sent", "forwarded"),
    [
        (b"PROPFIND /x HTTP/1.1\r\nHost: a.test\r\n\r\n", b"PROPFIND /x HTTP/1.1\r\n"),
        (b"GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n", b"GET /x?y HTTP/1.1\r\n"),
        (b"GET http://a.test HTTP/1.1\r\nHost: A.test.:80\r\n\r\n", None),
        (b"\r\nGET /x HTTP/1.1\r\nhost:a.test\r\n\r\n", b"GET /x HTTP/1.1\r\n"),
        (b"GET /x HTTP/1.1\r\nHost: A.TEST:8080\r\n\r\n", b"GET /x HTTP/1.1\r\n"),
        (b"GET /x HTTP/1.1\r\nHost: a.test.\r\n\r\n", b"GET /x HTTP/1.1\r\n"),
        (b"GET /x?a=[]{}|^`\\ HTTP/1.1\r\nHost: a.test\r\n\r\n", b"GET /x?a=[]{}|^`\\ HTTP/1.1\r\n"),
        (b"DELETE /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n", b"DELETE /x HTTP/1.1\r\n"),
        (b"GET /x HTTP/1.1\r\nHost: a.test\r\nX-Empty:\r\nCookie: a\r\nCookie: b\r\n\r\n", b"GET /x HTTP/1.1\r\n"),
        (b"POST /x HTTP/1.1\r\nHost: a.test\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n", b"POST /x HTTP/1.1\r\n"),
    ],
)
async def test_odd_but_legal_request_is_served(sent: bytes, forwarded: bytes | None) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(sent)
        if forwarded is None:
            assert (await client.answer())[0] == 400
            return
        backend = await proxy.backend.accepts()
        assert (await backend.head()).startswith(forwarded)
        await backend.sends(OK)
        assert (await client.answer())[2] == b"hello"


@pytest.mark.slow
async def test_body_that_is_too_slow_ends_both_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.exchange.states.BODY_GRACE", 0.2)
    async with proxying(Settings(min_body_rate=1_000_000)) as proxy:
        client = await proxy.client()
        await client.sends(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nslow")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sees(b"slow")
        await backend.ends()
        await client.ends()
        assert ("test/backend:80", "POST", 408) in proxy.runtime.stats.route("ingress/test/a/0").labelled(HTTP_REQUESTS)


async def test_client_that_resets_while_an_answer_streams_is_counted_once() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await client.head()
        await client.sees(b"half")
        client.resets()
        await backend.ends()
