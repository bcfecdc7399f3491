"""What is not exactly one request is refused, never repaired; the backend sees nothing of it (docs/wire.md)."""

import pytest
from wire.harness import proxying

HOST = b"Host: a.test\r\n"


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


REFUSED = {
    "framing_length_then_coding": (400, post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "framing_coding_then_length": (400, post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n")),
    "lengths_two": (400, post(b"Content-Length: 1", b"Content-Length: 2", body=b"a")),
    "lengths_two_equal": (400, post(b"Content-Length: 1", b"Content-Length: 1", body=b"a")),
    "lengths_list": (400, post(b"Content-Length: 5, 5", body=b"hello")),
    "length_plus": (400, post(b"Content-Length: +5", body=b"hello")),
    "length_minus": (400, post(b"Content-Length: -1")),
    "length_hex": (400, post(b"Content-Length: 0x5", body=b"hello")),
    "length_underscore": (400, post(b"Content-Length: 1_0", body=b"0123456789")),
    "length_empty": (400, post(b"Content-Length:")),
    "length_huge": (400, post(b"Content-Length: 99999999999999999999")),
    "length_two_to_the_63": (400, post(b"Content-Length: 9223372036854775808", body=b"hello")),
    "length_two_to_the_64": (400, post(b"Content-Length: 18446744073709551616", body=b"hello")),
    "length_five_modulo_two_to_the_64": (400, post(b"Content-Length: 18446744073709551621", body=b"hello")),
    "length_superscript": (400, post("Content-Length: \u00b2".encode("latin-1"), body=b"aa")),
    "coding_xchunked": (400, post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "coding_gzip": (400, post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "coding_identity": (400, post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n")),
    "coding_twice": (400, post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    "coding_two_lines": (400, post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "coding_parameter": (400, post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n")),
    "coding_vertical_tab": (400, post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    "coding_space_before_colon": (400, post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    "coding_of_http10": (400, b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunk_size_hex_prefix": (400, post(b"Transfer-Encoding: chunked", body=b"0x5\r\nhello\r\n0\r\n\r\n")),
    "chunk_size_plus": (400, post(b"Transfer-Encoding: chunked", body=b"+5\r\nhello\r\n0\r\n\r\n")),
    "chunk_size_space": (400, post(b"Transfer-Encoding: chunked", body=b" 5\r\nhello\r\n0\r\n\r\n")),
    "chunk_size_empty": (400, post(b"Transfer-Encoding: chunked", body=b"\r\nhello\r\n0\r\n\r\n")),
    "chunk_size_overflow": (400, post(b"Transfer-Encoding: chunked", body=b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n")),
    "chunk_line_bare_lf": (400, post(b"Transfer-Encoding: chunked", body=b"5\nhello\r\n0\r\n\r\n")),
    "chunk_line_spill": (400, post(b"Transfer-Encoding: chunked", body=b"5\r\nhelloXX\r\n0\r\n\r\n")),
    "chunk_line_lf_in_extension": (400, post(b"Transfer-Encoding: chunked", body=b"5;a\nb\r\nhello\r\n0\r\n\r\n")),
    **{
        f"chunk_line_extension_{number}": (400, post(b"Transfer-Encoding: chunked", body=b"5" + line + b"\r\nhello\r\n0\r\n\r\n"))
        for number, line in enumerate(
            (
                b";",
                b" ;",
                b"; ",
                b";;a",
                b";a;",
                b";a ",
                b";a=",
                b";=b",
                b";a b",
                b";a=b c",
                b';a="b',
                b';a="b"c',
                b';"a"',
                b";\xe9",
                b";a\x01",
            )
        )
    },
    "chunk_extension_long": (400, post(b"Transfer-Encoding: chunked", body=b"5;" + b"a" * 2000 + b"\r\nhello\r\n0\r\n\r\n")),
    "chunk_extensions_many": (400, post(b"Transfer-Encoding: chunked", body=b"1;%b\r\na\r\n" % (b"x" * 100) * 200)),
    "trailers_many": (400, post(b"Transfer-Encoding: chunked", body=b"0\r\n" + b"X: %s\r\n" % (b"a" * 1000) * 20)),
    "trailer_long": (400, post(b"Transfer-Encoding: chunked", body=b"0\r\nX: " + b"a" * 10_000)),
    "trailer_without_colon": (400, post(b"Transfer-Encoding: chunked", body=b"0\r\nno colon\r\n\r\n")),
    "control_bare_lf": (400, b"GET / HTTP/1.1\nHost: a.test\n\n"),
    "control_bare_lf_in_line": (400, b"GET / HTTP/1.1\n" + HOST + b"\r\n"),
    "control_bare_lf_in_fields": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\nY: b\r\n\r\n"),
    "control_escape": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x1bb\r\n\r\n"),
    "control_bare_cr": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n"),
    "control_nul": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n"),
    "field_fold": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n"),
    "field_first_space": (400, b"GET / HTTP/1.1\r\n Host: a.test\r\n\r\n"),
    "field_space_before_colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n"),
    "field_no_colon": (400, b"GET / HTTP/1.1\r\n" + HOST + b"Xab\r\n\r\n"),
    "field_empty_name": (400, b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n\r\n"),
    "field_x85": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X\x85: a\r\n\r\n"),
    "expectation_unknown": (417, post(b"Expect: y 100-continue", b"Content-Length: 0")),
    "line_garbage": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "proxy_header": (400, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /evil HTTP/1.1\r\n" + HOST + b"\r\n"),
    "proxy_header_2": (400, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET /evil HTTP/1.1\r\n" + HOST + b"\r\n"),
    "line_http09": (400, b"GET /\r\n\r\n"),
    "line_http09_alone": (400, b"GET /x\r\n"),
    "line_word": (400, b"GARBAGE\r\n"),
    "line_no_token": (400, b"G[]T / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "line_no_token_begun": (400, b"G[]T"),
    "line_no_method": (400, b" / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "line_lower_case_version": (400, b"GET / http/1.1\r\n" + HOST + b"\r\n"),
    "line_two_spaces": (400, b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "line_long_method": (501, b"A" * 33 + b" / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "line_long_method_begun": (501, b"A" * 33),
    "line_method_of_64_kib": (501, b"A" * 65536 + b" / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "line_http12": (505, b"GET / HTTP/1.2\r\n" + HOST + b"\r\n"),
    "line_http20": (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    "line_preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "host_missing": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "host_two": (400, b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
    "host_empty": (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    "host_userinfo": (400, b"GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n"),
    "host_comma": (400, b"GET / HTTP/1.1\r\nHost: a.test,b.test\r\n\r\n"),
    "host_bad_port": (400, b"GET / HTTP/1.1\r\nHost: a.test:98777\r\n\r\n"),
    "authority_other": (400, b"GET http://b.test/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "authority_other_port": (400, b"GET http://a.test:81/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "authority_two_ports": (400, b"GET http://a.test::80/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "authority_no_host": (400, b"GET http://a.test/ HTTP/1.1\r\n\r\n"),
    "authority_empty": (400, b"GET http:///a HTTP/1.1\r\nHost:\r\n\r\n"),
    "authority_userinfo": (400, b"GET http://u@a.test/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target_star": (400, b"GET * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target_authority": (400, b"GET a.test:80 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target_no_slash": (400, b"GET admin HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target_space": (400, b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target_fragment": (400, b"GET /#frag HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target_eight_bit": (400, b"GET /\xe9 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "method_connect": (405, b"CONNECT a.test:443 HTTP/1.1\r\n" + HOST + b"\r\nGET /evil HTTP/1.1\r\n\r\n"),
    "method_trace": (405, b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "size_fields": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 128 + b"\r\n"),
    "size_head": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 66_000 + b"\r\n\r\n"),
    "size_target": (414, b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
}

WS = b"GET /ws HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
REFUSED |= {
    "attempt_no_key": (400, WS + VERSION + b"\r\n"),
    "attempt_short_key": (400, WS + VERSION + b"Sec-WebSocket-Key: c2hvcnQ=\r\n\r\n"),
    "attempt_two_keys": (400, WS + VERSION + KEY + KEY + b"\r\n"),
    "attempt_post": (400, WS.replace(b"GET", b"POST") + VERSION + KEY + b"\r\n"),
    "attempt_other_protocol": (400, WS.replace(b"Upgrade: websocket", b"Upgrade: proto1, websocket") + VERSION + KEY + b"\r\n"),
    "attempt_body": (400, WS + VERSION + KEY + b"Content-Length: 4\r\n\r\nbody"),
    "attempt_chunked": (400, WS + VERSION + KEY + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
}
BYTE_BY_BYTE = ("framing_", "lengths_", "coding_", "host_", "attempt_")


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_and_closed_and_the_backend_sees_no_request(name: str) -> None:
    status, data = REFUSED[name]
    async with proxying() as proxy:
        await proxy.refuses(data, status, at_once=not name.startswith(("chunk_", "trailer")))


@pytest.mark.parametrize("name", [name for name in REFUSED if name.startswith(BYTE_BY_BYTE)])
async def test_refusal_is_the_same_however_the_bytes_arrive(name: str) -> None:
    status, data = REFUSED[name]
    async with proxying() as proxy:
        client = await proxy.client()
        client.writer.transport.set_write_buffer_limits(high=0)
        for place in range(len(data)):
            await client.sends(data[place : place + 1])
            if client.reader._buffer:
                break
        assert (await client.answer())[0] == status


async def test_wrong_version_is_426_and_the_connection_stays_http() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(WS + KEY + b"Sec-WebSocket-Version: 99\r\n\r\nGET /next HTTP/1.1\r\nHost: a.test\r\n\r\n")
        status, fields, _ = await client.answer()
        assert (status, fields["sec-websocket-version"]) == (426, "13")
        backend = await proxy.backend.accepts()
        assert (await backend.head()).startswith(b"GET /next ")
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    "fields",
    [
        b"Upgrade: websocketx\r\nConnection: Upgrade\r\n",
        b"Upgrade: web socket\r\nConnection: Upgrade\r\n",
        b"Upgrade: websocket\r\nConnection: notupgrade\r\n",
        b"Upgrade: websocket\r\n",
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n",
    ],
)
async def test_what_is_no_attempt_is_plain_http_without_upgrade(fields: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\nHost: a.test\r\n" + fields + KEY + VERSION + b"\r\n")
        backend = await proxy.backend.accepts()
        head = await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (await client.answer())[0] == 200

    assert b"Upgrade" not in head
    assert b"HTTP2-Settings" not in head


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xgzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551617\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n\r\n\r\n",
        b"garbage\r\n\r\n",
        b"<html>an answer of HTTP/0.9</html>\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"X" * 70_000,
    ],
)
async def test_malformed_answer_is_502_and_its_connection_is_not_used_again(answer: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(answer)
        assert (await client.answer())[0] == 502
        await backend.ends()
        await proxy.is_innocent()


@pytest.mark.parametrize("path", [b"/a/../b", b"/./a", b"//a", b"/a;x=1", b"/%2e%2e/a", b"/a%2fb", b"/%20"])
async def test_path_with_several_readings_passes_where_all_lead_to_one_route(path: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET " + path + b"?x=!%21 HTTP/1.1\r\nHost: a.test\r\n\r\n")
        backend = await proxy.backend.accepts()
        assert (await backend.head()).startswith(b"GET " + path + b"?x=!%21 HTTP/1.1\r\n")
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize("path", [b"/a%00", b"/%zz", b"/%", b"/%1"])
async def test_path_that_cannot_be_read_is_400(path: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET " + path + b" HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert (await client.answer())[0] == 400


async def test_options_star_is_answered_here() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert (await client.answer())[0] == 204
        assert proxy.backend.count == 0
