"""Fields behind a body pass in both directions, where HTTP/1.1 allows them and they may stand there (docs/wire.md, trailers)."""

import asyncio

import pytest
from wire.harness import WAIT, Peer, Proxy, proxying
from wire.verbs import GET, OK, UPGRADE, post

from proxy.http1.head_scanner import MAX_FIELDS

CHUNKED = b"Transfer-Encoding: chunked"
TE = b"GET /x HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DATA = b"3\r\nabc\r\n"
END = b"0\r\n\r\n"

FORBIDDEN = [
    *(b"Transfer-Encoding: gzip", b"Content-Length: 9", b"Trailer: X", b"TE: gzip", b"Connection: close", b"Keep-Alive: timeout=1"),
    *(
        b"Proxy-Connection: close",
        b"Upgrade: websocket",
        b"HTTP2-Settings: AAA",
        b"Host: evil",
        b"host: evil",
        b"Proxy: http://evil",
    ),
    *(b"X-Forwarded-For: 192.0.2.1", b"x-forwarded-anything: 1", b"Forwarded: for=192.0.2.1", b"X-Real-IP: 192.0.2.1"),
    *(b"X-Request-ID: mine", b"X_Forwarded_For: 192.0.2.1", b"Content_Length: 9", b"Max-Forwards: 1", b"Expect: 100-continue"),
    *(b"Authorization: Basic eDp5", b"Proxy-Authorization: Basic eDp5", b"WWW-Authenticate: Basic", b"Proxy-Authenticate: Basic"),
    *(b"Cookie: a=b", b"Set-Cookie: a=b", b"SET-COOKIE: a=b", b"Cache-Control: no-store", b"Range: bytes=0-0", b"If-Match: *"),
    *(
        b"Accept: */*",
        b"Accept-Encoding: gzip",
        b"Content-Type: text/html",
        b"Content-Encoding: gzip",
        b"Content-Range: bytes 0-0/1",
    ),
    *(b"Content-Location: /x", b"Location: /x", b"Vary: *", b"Age: 1", b"Expires: 0", b"Date: today", b"Retry-After: 1"),
    *(b"Sec-WebSocket-Key: x", b"Access-Control-Allow-Origin: *", b"Strict-Transport-Security: max-age=0"),
]
PASSING = [
    *(b"X-Checksum: 1", b"grpc-status:0", b"Server-Timing: a;dur=1", b'ETag: "a"', b"Content-Digest: sha-256=:AA==:"),
    b"X-Eight: \xe9\xff",
]


async def asked(proxy: Proxy, request: bytes) -> tuple[Peer, Peer, bytes]:
    """Send a request; return the client, the backend and the head that it saw."""
    client = await proxy.client()
    await client.sends(request)
    backend = await proxy.backend.accepts()
    return client, backend, await backend.head()


def block(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)


async def test_trailers_of_a_request_reach_the_backend_and_the_next_request_is_its_own() -> None:
    async with proxying() as proxy:
        body = DATA + b"0\r\n" + block(PASSING) + b"\r\n"
        client, backend, head = await asked(proxy, post(CHUNKED, b"Trailer: X-Checksum", body=body) + GET)

        assert b"Trailer: X-Checksum\r\n" in head
        await backend.sees(body)
        await backend.sends(OK)
        assert (await client.answer())[2] == b"hello"
        assert b"X-Checksum" not in await backend.head()
        await backend.sends(OK)
        assert (await client.answer())[2] == b"hello"


async def test_trailers_of_a_request_that_comes_byte_by_byte_reach_the_backend() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        body = DATA + b"0\r\n" + block(PASSING) + b"\r\n"
        for byte in post(CHUNKED, body=body):
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        backend = await proxy.backend.accepts()
        await backend.head()
        async with asyncio.timeout(WAIT):
            seen = await backend.reader.readuntil(b"\r\n\r\n")

        assert seen.endswith(b"0\r\n" + block(PASSING) + b"\r\n")
        await backend.sends(OK)
        assert (await client.answer())[0] == 200


async def test_trailers_are_sent_again_with_their_request_on_a_new_connection() -> None:
    """The pooled connection had ended: all of the request is still here."""
    async with proxying() as proxy:
        client, backend, _ = await asked(proxy, GET)
        await backend.sends(OK)
        await client.answer()
        body = DATA + b"0\r\nX-Checksum: 1\r\n\r\n"
        await client.sends(b"PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        await backend.head()
        backend.closes()
        again = await proxy.backend.accepts()
        await again.head()

        await again.sees(body)
        await again.sends(OK)
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize("line", FORBIDDEN)
async def test_field_that_may_be_no_trailer_is_dropped_in_both_directions(line: bytes) -> None:
    async with proxying() as proxy:
        trailers = b"0\r\nX-Before: 1\r\n" + line + b"\r\nX-After: 1\r\n\r\n"
        passed = b"0\r\nX-Before: 1\r\nX-After: 1\r\n\r\n"
        client, backend, _ = await asked(proxy, post(CHUNKED, b"TE: trailers", body=trailers))
        await backend.sees(passed)
        await backend.sends(HEAD + DATA + trailers)

        await client.head()
        await client.sees(DATA + passed)


async def test_trailer_that_connection_names_stays_on_its_hop() -> None:
    async with proxying() as proxy:
        trailers = b"0\r\nX-Hop: 1\r\nX-Far: 1\r\n\r\n"
        client, backend, head = await asked(proxy, post(CHUNKED, b"TE: trailers", b"Connection: TE, x-hop", body=trailers))
        await backend.sees(b"0\r\nX-Far: 1\r\n\r\n")
        await backend.sends(b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\n" + CHUNKED + b"\r\n\r\n" + trailers)

        assert b"Connection: TE\r\n" in head
        await client.head()
        await client.sees(b"0\r\nX-Far: 1\r\n\r\n")


@pytest.mark.parametrize(
    ("fields", "takes"),
    [
        (b"TE: trailers\r\n", True),
        (b"te: gzip;q=0.5, Trailers\r\nConnection: te\r\n", True),
        (b"TE: gzip\r\nTE: trailers\r\n", True),
        (b"", False),
        (b"TE: gzip, deflate;q=0\r\n", False),
        (b"TE: trailersx\r\n", False),
    ],
)
async def test_client_that_asked_for_trailers_gets_them_and_the_backend_is_told(fields: bytes, *, takes: bool) -> None:
    async with proxying() as proxy:
        request = b"GET /x HTTP/1.1\r\nHost: a.test\r\n" + fields + b"\r\n"
        client, backend, head = await asked(proxy, request)
        for _ in range(2):
            # The second one is read by what is remembered of the first.
            await backend.sends(b"HTTP/1.1 200 OK\r\nTrailer: X-Checksum\r\n" + CHUNKED + b"\r\n\r\n" + DATA)
            assert b"Trailer: X-Checksum\r\n" in await client.head()
            await client.sees(DATA)
            await backend.sends(b"0\r\nX-Checksum: 1\r\n\r\n")

            assert (b"TE: trailers\r\nConnection: TE\r\n" in head, b"TE:" in head) == (takes, takes)
            await client.sees(b"0\r\nX-Checksum: 1\r\n\r\n" if takes else END)
            await client.sends(request)
            head = await backend.head()


async def test_trailers_that_come_with_the_head_pass() -> None:
    async with proxying() as proxy:
        client, backend, _ = await asked(proxy, TE)
        await backend.sends(HEAD + DATA + b"0\r\n" + block(PASSING) + b"\r\n")

        assert await client.head() == HEAD
        await client.sees(DATA + b"0\r\n" + block(PASSING) + b"\r\n")


async def test_as_many_trailers_pass_as_a_head_may_have_fields() -> None:
    async with proxying() as proxy:
        most = block([b"a:"] * MAX_FIELDS)
        client, backend, _ = await asked(proxy, post(CHUNKED, b"TE: trailers", body=DATA + b"0\r\n" + most + b"\r\n"))
        await backend.sees(DATA + b"0\r\n" + most + b"\r\n")
        await backend.sends(HEAD + DATA + b"0\r\n" + most + b"\r\n")

        assert await client.head() == HEAD
        await client.sees(DATA + b"0\r\n" + most + b"\r\n")


async def test_more_trailers_of_a_request_than_that_are_refused() -> None:
    """All of them are judged at once, at the end of the body: sixteen kilobytes would be eight thousand."""
    async with proxying() as proxy:
        await proxy.refuses(post(CHUNKED, body=DATA + b"0\r\n" + block([b"a:"] * (MAX_FIELDS + 1)) + b"\r\n"), 400, at_once=False)


async def test_client_of_http_1_0_gets_no_trailers_whatever_it_asked_for() -> None:
    async with proxying() as proxy:
        client, backend, head = await asked(proxy, b"GET /x HTTP/1.0\r\nHost: a.test\r\nTE: trailers\r\n\r\n")
        await backend.sends(HEAD + DATA + b"0\r\nX-Checksum: 1\r\n\r\n")
        await client.head()

        assert b"TE:" not in head
        assert await client.rest() == b"abc"


async def test_upgrade_asks_its_backend_for_no_trailers() -> None:
    async with proxying() as proxy:
        _, _, head = await asked(proxy, UPGRADE + b"TE: trailers\r\n\r\n")

        assert b"TE:" not in head
        assert head.lower().count(b"\r\nconnection:") == 1


@pytest.mark.parametrize(
    "trailers",
    [
        b"no colon\r\n\r\n",
        b": no name\r\n\r\n",
        b"A : b\r\n\r\n",
        b"A: b\x00\r\n\r\n",
        b"A: b\rc\r\n\r\n",
        b"A: b\nC: d\r\n\r\n",
        b" folded: b\r\n\r\n",
        b"X: " + b"a" * 9000,
        b"X: %s\r\n" % (b"a" * 1000) * 17,
        b"a:\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    ],
)
async def test_malformed_or_endless_trailers_of_a_backend_cut_the_answer(trailers: bytes) -> None:
    async with proxying() as proxy:
        client, backend, _ = await asked(proxy, TE)
        await backend.sends(HEAD + DATA)
        await client.head()
        await client.sees(DATA)
        backend.writer.write(b"0\r\n" + trailers)

        await client.ends()
        await backend.ends()
        await proxy.is_innocent()
