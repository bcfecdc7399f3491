"""Transfer codings of answers (RFC 9112, 6.1 and 7): passed on or refused in time; and what is cut never looks whole."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import pytest
from wire.harness import WAIT, Peer, Proxy, proxying

GET = b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n"
GET_10 = b"GET /x HTTP/1.0\r\nHost: a.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = gzip.compress(b"something to pack " * 10, mtime=0)
PACKED = b"%x\r\n%b\r\n" % (len(BODY), BODY)
END = b"0\r\n\r\n"


async def asked(proxy: Proxy, request: bytes = GET, *, secure: bool = False) -> tuple[Peer, Peer]:
    """A client whose request is at the backend."""
    client = await proxy.client(secure=secure)
    await client.sends(request)
    backend = await proxy.backend.accepts()
    await backend.head()
    return client, backend


@pytest.mark.parametrize(
    ("fields", "passed"),
    [
        (b"Transfer-Encoding: gzip, chunked\r\n", b"gzip, chunked"),
        (b"Transfer-Encoding: GZip ,\tChunked\r\n", b"gzip, chunked"),
        (b"Transfer-Encoding:x-gzip,chunked\r\n", b"x-gzip, chunked"),
        (b"Transfer-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n", b"deflate, chunked"),
        (b"Transfer-Encoding: deflate, gzip, chunked\r\n", b"deflate, gzip, chunked"),
    ],
)
async def test_codings_below_chunked_pass_unchanged_and_the_connections_stay(fields: bytes, passed: bytes) -> None:
    async with proxying() as proxy:
        client, backend = await asked(proxy)
        await backend.sends(HEAD + fields + b"\r\n" + PACKED)
        await client.sees(HEAD + b"Transfer-Encoding: " + passed + b"\r\n\r\n" + PACKED)
        await backend.sends(END)
        await client.sees(END)
        await client.sends(GET)
        await backend.head()
        await backend.sends(OK)

        assert (await client.answer())[2] == b"hello"
        assert proxy.backend.count == 1


async def test_coding_without_chunked_lasts_until_the_backends_end_and_is_framed() -> None:
    async with proxying() as proxy:
        client, backend = await asked(proxy)
        await backend.sends(HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + BODY)
        await client.sees(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + PACKED)
        backend.closes()
        await client.sees(END)


async def test_answer_to_head_says_nothing_of_codings() -> None:
    async with proxying() as proxy:
        client, backend = await asked(proxy, b"HEAD /x HTTP/1.1\r\nHost: a.test\r\n\r\n" + GET)
        await backend.sends(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n")

        assert await client.head() == HEAD + b"\r\n"
        await backend.head()


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip"])
async def test_client_of_http_1_0_gets_502_for_a_coding_that_it_cannot_be_sent(coding: bytes) -> None:
    async with proxying() as proxy:
        client, backend = await asked(proxy, GET_10)
        await backend.sends(HEAD + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + PACKED + END)

        assert (await client.answer())[0] == 502
        await client.ends()
        await backend.ends()
        assert proxy.runtime.upstreams["test/backend:80"].ready[0].outlier_detection.suspect is False


@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Transfer-Encoding: gzip;q=1, chunked\r\n",
        b"Transfer-Encoding: gzip,, chunked\r\n",
        b"Transfer-Encoding: xgzip, chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: gzip\r\nContent-Length: 5\r\n",
    ],
)
async def test_codings_that_are_not_known_or_not_in_order_are_502(fields: bytes) -> None:
    async with proxying() as proxy:
        client, backend = await asked(proxy)
        await backend.sends(HEAD + fields + b"\r\n" + PACKED + END)

        assert (await client.answer())[0] == 502
        await backend.ends()


@pytest.mark.parametrize("coding", [b"chunked", b"gzip", b"gzip, chunked"])
async def test_interim_answer_with_a_coding_is_502(coding: bytes) -> None:
    async with proxying() as proxy:
        client, backend = await asked(proxy)
        await backend.sends(b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: " + coding + b"\r\n\r\n" + OK)

        assert (await client.answer())[0] == 502


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\nabc\r\n", b"3\r\nabcd\r\n", b"3\r\nabc\r\nzz\r\n", b"3;\r\nabc\r\n", b"3 \r\nabc\r\n", b"0\r\nno colon\r\n\r\n"],
)
@pytest.mark.parametrize("request_head", [GET, GET_10])
async def test_bad_chunk_that_comes_with_the_head_is_502(request_head: bytes, chunks: bytes) -> None:
    async with proxying() as proxy:
        client, backend = await asked(proxy, request_head)
        await backend.sends(CHUNKED + chunks)
        status, _, body = await client.answer()

        assert (status, body[:11]) == (502, b"The backend")
        await backend.ends()
        await proxy.is_innocent()


EXTENSIONS = [b";a", b" ; a", b";a=b", b"\t;\ta\t=\tb", b";a;b=c;d", b';a="x;y\t"', b';a="\\"\\\\"', b';a="\xe9"', b';a=""']


@pytest.mark.parametrize("extension", EXTENSIONS)
async def test_extensions_of_chunks_are_dropped_both_ways(extension: bytes) -> None:
    async with proxying() as proxy:
        body = b"3%b\r\nabc\r\n0%b\r\n\r\n" % (extension, extension)
        client, backend = await asked(proxy, b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
        await backend.sees(b"3\r\nabc\r\n" + END)
        await backend.sends(CHUNKED + body)

        await client.sees(CHUNKED + b"3\r\nabc\r\n" + END)


async def cuts_by_fin(backend: Peer) -> None:
    await backend.sends(CHUNKED + b"3\r\nabc\r\n5\r\nd")
    backend.closes()


async def cuts_between_chunks(backend: Peer) -> None:
    await backend.sends(CHUNKED + b"3\r\nabc\r\n")
    backend.closes()


async def breaks_a_chunk(backend: Peer) -> None:
    await backend.sends(CHUNKED + b"3\r\nabc\r\n")
    await asyncio.sleep(0)
    await backend.sends(b"zz\r\n")


async def resets(backend: Peer) -> None:
    """An answer until the end of its connection."""
    await backend.sends(HEAD + b"\r\nabc")
    backend.resets()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("cut", [cuts_by_fin, cuts_between_chunks, breaks_a_chunk, resets])
async def test_cut_answer_does_not_look_whole_to_a_client_of_http_1_0(cut: Callable[[Peer], Awaitable[None]], secure: bool) -> None:
    """Only the connection's end ends its body: that must be no FIN."""
    async with proxying() as proxy:
        client, backend = await asked(proxy, GET_10, secure=secure)
        await cut(backend)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(client.reader.read(-1), WAIT)


@pytest.mark.parametrize("secure", [False, True])
async def test_answer_to_http_1_0_that_the_workers_end_cuts_does_not_look_whole(secure: bool) -> None:
    async with proxying() as proxy:
        client, backend = await asked(proxy, GET_10, secure=secure)
        await backend.sends(HEAD + b"\r\nabc")
        await client.head()
        await client.sees(b"abc")
        for connection in list(proxy.runtime.connections):
            connection.abort()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(client.reader.read(-1), WAIT)


async def test_whole_chunked_answer_ends_by_fin_for_a_client_of_http_1_0() -> None:
    async with proxying() as proxy:
        client, backend = await asked(proxy, GET_10)
        await backend.sends(CHUNKED + b"3\r\nabc\r\n" + END)
        async with asyncio.timeout(WAIT):
            answer = await client.reader.read(-1)

        assert answer == HEAD + b"Connection: close\r\n\r\nabc"
