"""Answers of the proxy's own have their cause in the access log and in the metrics, those to what is no request among them."""

import pytest
from wire.harness import proxying
from wire.logs import logging_of
from wire.verbs import UPGRADE, two_routes

from proxy.http.causes import REFUSALS
from proxy.model.policy import Timeouts
from proxy.observability.metrics import HTTP_LOCAL_REPLIES
from proxy.settings import Settings

GET = b"GET /x HTTP/1.1\r\nHost: a.test\r\nUser-Agent: t\r\n\r\n"
UP = UPGRADE + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
LONG = b"x" * 70_000

REFUSED: dict[str, tuple[int, bytes, str, str, str]] = {
    "request_malformed": (400, b"GET /a HTTP/1.1\r\nHost: a.test\r\nA : b\r\n\r\n", "GET", "/a", "a.test"),
    "request_line_malformed": (400, b"GET /a\r\n", "GET", "/a", ""),
    "method_malformed": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "", "", ""),
    "method_unknown": (501, b"G" * 40 + b" / HTTP/1.1\r\nHost: a.test\r\n\r\n", "", "", "a.test"),
    "method_not_allowed": (405, b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", "CONNECT", "a.test:443", "a.test"),
    "target_malformed": (400, b'GET /\xff"\x1b[31m HTTP/1.1\r\nHost: a.test\r\n\r\n', "GET", '/\xff"\x1b[31m', "a.test"),
    "target_too_long": (414, b"GET /" + b"a" * 20_000, "GET", "/" + "a" * 1023, ""),
    "version_unsupported": (505, b"GET /a HTTP/2.0\r\nHost: a.test\r\n\r\n", "GET", "/a", "a.test"),
    "fields_too_large": (431, b"GET /a HTTP/1.1\r\nHost: a.test\r\nA: " + LONG, "GET", "/a", "a.test"),
    "host_malformed": (400, b"GET /a HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", "GET", "/a", ""),
    "host_mismatch": (400, b"GET http://b.test/a HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET", "http://b.test/a", "a.test"),
    "length_malformed": (400, b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 01\r\n\r\n", "POST", "/a", "a.test"),
    "expectation_unsupported": (417, b"GET /a HTTP/1.1\r\nHost: a.test\r\nExpect: x\r\n\r\n", "GET", "/a", "a.test"),
    "request_timeout": (408, b"GET /a HTTP/1.1\r\nHost: a.test\r\nHalf: ", "GET", "/a", "a.test"),
}


@pytest.mark.parametrize(
    "cause", [pytest.param(cause, marks=pytest.mark.slow if cause == "request_timeout" else ()) for cause in REFUSED]
)
async def test_refused_head_is_in_the_log_under_its_id(cause: str) -> None:
    status, head, method, target, host = REFUSED[cause]
    async with proxying(Settings(header_timeout=1.0)) as proxy, logging_of(proxy) as log:
        client = await proxy.client()
        client.writer.write(head)  # not awaited: the proxy may have closed before all of it is out
        found, fields, _ = await client.answer()
        line = await log.next()
        del line["time"], line["bytes"], line["agent"]

        assert found == status
        assert line == {
            "event": "request",
            "client": "127.0.0.1",
            "method": method,
            "host": host,
            "target": target,
            "id": fields["x-request-id"],
            "route": "-",
            "service": "",
            "status": status,
            "seconds": 0.0,
            "endpoint": "",
            "cause": cause,
        }


@pytest.mark.parametrize("late", [False, True])
async def test_refused_head_behind_good_ones_is_the_one_in_the_log(late: bool) -> None:
    """A client that pipelines, or repeats its fields so that they are remembered, hides nothing."""
    bad = b"GET /bad HTTP/3.0\r\nHost: a.test\r\nUser-Agent: evil\r\n\r\n"
    async with proxying() as proxy, logging_of(proxy) as log:
        client = await proxy.client()
        await client.sends(GET + (b"" if late else GET + bad + GET))
        backend = await proxy.backend.accepts()
        for _ in range(1 if late else 2):
            await backend.head()
            await backend.sends(OK + b"Content-Length: 0\r\n\r\n")
            await client.answer()
            await log.next()
        if late:
            await client.sends(bad + GET)
        status, fields, _ = await client.answer()
        line = await log.next()

        assert (status, line["status"], line["id"]) == (505, 505, fields["x-request-id"])
        assert (line["target"], line["agent"], line["cause"]) == ("/bad", "evil", "version_unsupported")


async def test_refused_head_of_a_trusted_peer_is_logged_for_its_client() -> None:
    async with proxying(trusted=True) as proxy, logging_of(proxy) as log:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/9.9\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.7:1, 127.0.0.2\r\n\r\n")
        await client.answer()
        line = await log.next()

    assert (line["client"], line["cause"]) == ("203.0.113.7", "version_unsupported")


async def test_line_of_a_refused_head_is_bounded_and_one_line() -> None:
    head = b"GET /" + b"\x1b" * 9000 + b" HTTP/1.1\r\nHost: " + b"\x7f" * 20_000 + b"\r\nUser-Agent: " + b'"' * 20_000 + b"\r\n\r\n"
    async with proxying() as proxy, logging_of(proxy, "text") as log:
        client = await proxy.client()
        await client.sends(head)
        await client.answer()
        await client.ends()
        raw = await log.next_raw()

    assert len(raw) < 10_000
    assert raw.count(b"\n") == 1
    assert raw.isascii()
    assert b'target="/\\x1b' in raw


async def test_plain_http_on_the_tls_port_is_in_the_log_under_its_id() -> None:
    async with proxying() as proxy, logging_of(proxy) as log:
        proxy.port, tls_port = proxy.tls_port, proxy.port
        client = await proxy.client()
        await client.sends(b"GET /probe HTTP/1.1\r\nHost: a.test\r\nUser-Agent: lb\r\n\r\n")
        status, fields, body = await client.answer()
        await client.ends()
        line = await log.next()
        proxy.port = tls_port

    assert (status, body) == (400, b"This port speaks HTTPS; the request came as plain HTTP.\n")
    assert (line["id"], line["status"], line["cause"]) == (fields["x-request-id"], 400, "plain_http_on_tls")
    assert (line["method"], line["target"], line["host"], line["agent"]) == ("GET", "/probe", "a.test", "lb")


async def test_answers_of_the_proxy_to_whole_requests_have_their_cause() -> None:
    asked = {
        "no_route": b"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n",
        "websocket_version": UP.replace(b"Version: 13", b"Version: 8"),
        "handshake_malformed": UP.replace(b"Key: ", b"Key: x"),
        "path_ambiguous": b"GET /public/../admin HTTP/1.1\r\nHost: a.test\r\n\r\n",
    }
    async with proxying() as proxy, logging_of(proxy) as log:
        proxy.serves(two_routes(proxy.backend.port))
        found = {}
        for cause, head in asked.items():
            client = await proxy.client()
            await client.sends(head)
            status, fields, _ = await client.answer()
            line = await log.next()
            assert (line["id"], line["status"]) == (fields["x-request-id"], status)
            found[cause] = line["cause"]

    assert found == {cause: cause for cause in asked}


async def test_answers_of_the_proxy_are_counted_by_cause_on_their_route_and_those_of_backends_are_not() -> None:
    async with proxying(policies=(Timeouts(response=1.0),)) as proxy:
        for head in (UP, GET):
            client = await proxy.client()
            await client.sends(head)
            backend = await proxy.backend.accepts()
            await backend.head()
            await backend.sends(b"SSH-2.0-OpenSSH\r\n\r\n" if head == UP else OK + b"Content-Length: 0\r\n\r\n")
            await client.answer()
        client = await proxy.client()
        await client.sends(b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert (await client.answer())[0] == 204
        await client.sends(b"GET /a HTTP/2.0\r\nHost: a.test\r\n\r\n")
        assert (await client.answer())[0] == 505
        stats = proxy.runtime.stats

        assert stats.route("ingress/test/a/0").labelled(HTTP_LOCAL_REPLIES) == {"malformed_head": 1}
        assert stats.unmatched.labelled(HTTP_LOCAL_REPLIES) == {"version_unsupported": 1}


async def test_clients_make_up_no_series_of_answers() -> None:
    async with proxying() as proxy:
        innocent = await proxy.client()
        for number in range(100):
            client = await proxy.client()
            await client.sends(
                f"GET /{number} HTTP/1.1\r\nHost: h{number}.test\r\n\r\n{'X' * (number % 7 + 1)}{number} \r\n\r\n".encode()
            )
            assert [(await client.answer())[0] for _ in range(2)] == [404, 400]
        await innocent.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(OK + b"Content-Length: 0\r\n\r\n")

        assert (await innocent.answer())[0] == 200
        assert proxy.runtime.stats.unmatched.labelled(HTTP_LOCAL_REPLIES) == {"no_route": 100, "request_line_malformed": 100}
        assert proxy.runtime.stats.route("ingress/test/a/0").labelled(HTTP_LOCAL_REPLIES) == {}


def test_each_cause_that_a_test_names_is_one() -> None:
    assert set(REFUSED) <= set(REFUSALS)
