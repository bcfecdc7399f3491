"""Odd requests beyond those of test_refusals.py, legal and illegal, as raw bytes: framing, targets, hosts, fields."""

import asyncio
import contextlib
import time

import pytest
from wire.harness import WAIT, config_for, proxying, route_for
from wire.verbs import HOST, answering, post

from proxy.model.config import Endpoint, Path, ProxyConfig, Share, Target, Upstream
from proxy.model.policy import HttpsRedirect

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


CHUNKED = b"Transfer-Encoding: chunked"
REFUSED = {
    "length_leading_zero": (400, post(b"Content-Length: 010", body=b"0123456789")),
    "length_two_numbers": (400, post(b"Content-Length: 5 5", body=b"hello")),
    "length_arabic": (400, post("Content-Length: \u0665".encode(), body=b"hello")),
    "length_underscored_name": (400, post(b"Content_Length: 5", body=b"hello")),
    "coding_leading_comma": (400, post(b"Transfer-Encoding: ,chunked", body=b"0\r\n\r\n")),
    "coding_trailing_comma": (400, post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n")),
    "coding_form_feed": (400, post(b"Transfer-Encoding: chunked\x0c", body=b"0\r\n\r\n")),
    "coding_nul": (400, post(b"Transfer-Encoding: chunked\0", body=b"0\r\n\r\n")),
    "coding_empty": (400, post(b"Transfer-Encoding:", body=b"0\r\n\r\n")),
    "coding_quoted": (400, post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    "coding_underscore": (400, post(b"Transfer_Encoding: chunked", body=b"0\r\n\r\n")),
    "coding_folded": (400, post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n")),
    "chunk_size_minus_zero": (400, post(CHUNKED, body=b"-0\r\n\r\n")),
    "chunk_size_underscore": (400, post(CHUNKED, body=b"5_0\r\nhello\r\n0\r\n\r\n")),
    "chunk_size_trailing_space": (400, post(CHUNKED, body=b"5 \r\nhello\r\n0\r\n\r\n")),
    "chunk_line_bare_cr": (400, post(CHUNKED, body=b"5\rhello\r\n0\r\n\r\n")),
    "chunk_line_two_crs": (400, post(CHUNKED, body=b"5\r\r;\r\nhello\r\n0\r\n\r\n")),
    "chunk_line_no_crlf_after_data": (400, post(CHUNKED, body=b"5\r\nhello0\r\n\r\n")),
    "control_cr_in_name": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X\rY: a\r\n\r\n"),
    "control_tab_in_line": (400, b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "field_xa0": (400, b"GET / HTTP/1.1\r\n" + HOST + b"X\xa0: a\r\n\r\n"),
    "line_lower_case": (400, b"get / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "line_unknown": (400, b"HELO / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "line_long_method": (501, b"G" * 66_000 + b" / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "line_two_spaces": (400, b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "line_version_1_10": (400, b"GET / HTTP/1.10\r\n" + HOST + b"\r\n"),
    "host_two_cases": (400, b"GET / HTTP/1.1\r\n" + HOST + b"hOST: b.test\r\n\r\n"),
    "host_path": (400, b"GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n"),
    "host_space": (400, b"GET / HTTP/1.1\r\nHost: a test\r\n\r\n"),
    "host_nul": (400, b"GET / HTTP/1.1\r\nHost: a.test\0\r\n\r\n"),
    "host_port_dots": (400, b"GET / HTTP/1.1\r\nHost: a.test:1.2\r\n\r\n"),
    "host_broken_ipv6": (400, b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    "authority_ends_in_fragment": (400, b"GET http://a.test#@b.test/ HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target_tab": (400, b"GET /a\tb HTTP/1.1\r\n" + HOST + b"\r\n"),
    "target_del": (400, b"GET /a\x7f HTTP/1.1\r\n" + HOST + b"\r\n"),
    "method_connect_origin": (405, b"CONNECT / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabcGET /evil HTTP/1.1\r\n\r\n"),
    "size_one_field": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 1024 * 1024 + b"\r\n\r\n"),
    "size_many_fields": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 1000 + b"\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_odd_input_is_refused_and_closed_and_the_backend_sees_no_request(name: str) -> None:
    status, data = REFUSED[name]
    async with proxying() as proxy:
        await proxy.refuses(data, status, at_once=not name.startswith("chunk_"))


INSIDE = b"GET /inside HTTP/1.1\r\nHost: a.test\r\n\r\n"
LEGAL = {
    "coding_upper_case": (post(b"Transfer-Encoding: CHUNKED", body=b"3\r\nabc\r\n0\r\n\r\n"), b"3\r\nabc\r\n0\r\n\r\n"),
    "coding_spaces_around": (post(b"Transfer-Encoding:   chunked  ", body=b"0\r\n\r\n"), b"0\r\n\r\n"),
    "chunk_size_with_zeros": (post(CHUNKED, body=b"0003\r\nabc\r\n000\r\n\r\n"), b"3\r\nabc\r\n0\r\n\r\n"),
    "chunk_size_upper_case_hex": (post(CHUNKED, body=b"A\r\n0123456789\r\n0\r\n\r\n"), b"a\r\n0123456789\r\n0\r\n\r\n"),
    "chunk_extension": (post(CHUNKED, body=b'3;name="v;x"\r\nabc\r\n0;last\r\n\r\n'), b"3\r\nabc\r\n0\r\n\r\n"),
    "trailers_of_routing_and_framing": (
        post(CHUNKED, body=b"3\r\nabc\r\n0\r\nHost: evil\r\nContent-Length: 9\r\n\r\n"),
        b"3\r\nabc\r\n0\r\n\r\n",
    ),
    "trailers_of_framing_and_credentials": (
        post(CHUNKED, body=b"3\r\nabc\r\n0\r\nTransfer-Encoding: gzip\r\nAuthorization: Basic eDp5\r\nCookie: a=b\r\n\r\n"),
        b"3\r\nabc\r\n0\r\n\r\n",
    ),
    "body_on_head": (b"HEAD / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "body_on_options": (b"OPTIONS / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "body_that_reads_like_a_request": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(INSIDE) + INSIDE,
        INSIDE,
    ),
    "chunk_that_reads_like_a_request": (
        post(CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(INSIDE), INSIDE)),
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(INSIDE), INSIDE),
    ),
    "expectation_of_another_case": (post(b"Expect: 100-Continue", b"Content-Length: 3", body=b"abc"), b"abc"),
    "body_on_get": (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "body_on_delete": (b"DELETE / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "length_zero": (post(b"Content-Length: 0"), b""),
    "trailers_of_sixteen_kilobytes": (
        post(CHUNKED, body=b"0\r\n" + b"X: %s\r\n" % (b"a" * 1000) * 16 + b"\r\n"),
        b"0\r\n" + b"X: %s\r\n" % (b"a" * 1000) * 16 + b"\r\n",
    ),
}


@pytest.mark.parametrize("name", LEGAL)
async def test_odd_but_legal_body_arrives_and_the_next_request_is_its_own(name: str) -> None:
    data, body = LEGAL[name]
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(data + b"GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sees(body)
        await backend.sends(OK)
        assert (await client.answer())[0] == 200
        assert (await backend.head()).startswith(b"GET /next HTTP/1.1\r\n")
        await backend.sends(OK)
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize("name", LEGAL)
async def test_odd_but_legal_request_is_the_same_however_it_is_cut(name: str) -> None:
    data, body = LEGAL[name]
    async with proxying() as proxy:
        client = await proxy.client()
        for place in range(len(data)):
            client.writer.write(data[place : place + 1])
            await asyncio.sleep(0)
        backend = await proxy.backend.accepts()
        await backend.head()
        if body.endswith(b"0\r\n\r\n"):
            seen = b""
            async with asyncio.timeout(WAIT):
                while not seen.endswith(b"0\r\n\r\n"):
                    seen += await backend.reader.read(100)
        else:
            await backend.sees(body)
        await backend.sends(OK)
        assert (await client.answer())[0] == 200


@pytest.mark.slow
async def test_chunks_of_one_byte_cost_no_more_than_their_number_and_hold_up_nobody() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(post(CHUNKED))
        backend = await proxy.backend.accepts()
        await backend.head()
        spent = []
        for alone in (True, False):
            start = time.process_time()
            writing = asyncio.create_task(client.sends(b"1\r\na\r\n" * 200_000))
            if not alone:
                await proxy.is_innocent()
            seen = 0
            async with asyncio.timeout(30):
                while seen < 200_000:
                    seen += (await backend.reader.read(1024 * 1024)).count(b"a")
            await writing
            spent.append(time.process_time() - start)
        await client.sends(b"0\r\n\r\n")
        await backend.sends(OK)
        assert (await client.answer())[0] == 200

    assert spent[1] < 4 * spent[0] + 0.5


@pytest.mark.parametrize("method", ["PROPFIND", "M-SEARCH", "LOCK", "REPORT"])
async def test_registered_method_passes_as_it_is(method: str) -> None:
    async with proxying() as proxy:
        head, status, _ = await proxy.passes(f"{method} /x HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())

        assert (status, head.split(b"\r\n")[0]) == (204, f"{method} /x HTTP/1.1".encode())


@pytest.mark.parametrize("host", [b"A.Test", b"a.test.", b"a.test:80", b"a.test:", b"a.test:443", b" a.test\t", b"A.TEST.:8080"])
async def test_host_is_matched_without_case_dot_and_port_and_passed_as_it_is(host: bytes) -> None:
    async with proxying() as proxy:
        head, status, _ = await proxy.passes(b"GET / HTTP/1.1\r\nHost:" + host + b"\r\n\r\n")

        assert status == 204
        assert b"\r\nHost:" + host + b"\r\n" in head


@pytest.mark.parametrize("host", [b"[::1]", b"[2001:DB8::1]:8080", b"192.0.2.1", b"xn--bcher-kva.test", b"a_b.test"])
async def test_host_of_another_form_is_read_and_nobodys(host: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")

        assert (await client.answer())[0] == 404


def many_hosts(port: int, count: int) -> ProxyConfig:
    plain = config_for(port)
    target = Target((Share("test/backend:80"),))
    routes = dict(plain.routes)
    for number in range(count):
        hosts = (f"h{number}.test", f"*.w{number}.test")
        route = route_for(target, Path("prefix", f"/p{number}"), name=f"h{number}", hosts=hosts)
        routes[route.id] = route
    return ProxyConfig(
        routes=routes,
        upstreams={"test/backend:80": Upstream((Endpoint("127.0.0.1", port),))},
        certificates={},
        tls_hosts={},
    )


@pytest.mark.parametrize("count", [10, 10_000])
async def test_verdicts_do_not_depend_on_the_number_of_hosts(count: int) -> None:
    asked = [
        (b"h5.test", b"/p5", 204),
        (b"H5.TEST", b"/p5/x", 204),
        (b"h5.test.:80", b"/p5", 204),
        (b"x.w5.test", b"/p5", 204),
        (b"X.W5.Test", b"/p5", 204),
        (b"x.y.w5.test", b"/p5", 404),
        (b"w5.test", b"/p5", 404),
        (b"h5.test", b"/p55", 404),
        (b"h5.test", b"/P5", 404),
        (b"h5.test", b"/%705", 400),
        (b"h5.test", b"/x/../p5", 400),
        (b"nobody.test", b"/p5", 404),
    ]
    async with proxying() as proxy:
        proxy.serves(many_hosts(proxy.backend.port, count))
        found = []
        for host, path, status in asked:
            request = b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
            if status == 204:
                found.append((await proxy.passes(request))[1])
            else:
                client = await proxy.client()
                await client.sends(request)
                found.append((await client.answer())[0])

        assert found == [status for _, _, status in asked]


@pytest.mark.parametrize(
    "target", [b"http://a.test/x?y", b"http://A.TEST:80/x?y", b"HTTP://a.test/x?y", b"https://a.test/x?y", b"http://a.test:80/x?y"]
)
async def test_absolute_form_that_names_the_host_is_passed_in_origin_form(target: bytes) -> None:
    async with proxying() as proxy:
        head, status, _ = await proxy.passes(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")

        assert (status, head.split(b"\r\n")[0]) == (204, b"GET /x?y HTTP/1.1")


@pytest.mark.parametrize(("target", "path"), [(b"http://a.test", b"/"), (b"http://a.test?x=/y", b"/?x=/y")])
async def test_absolute_form_without_a_path_is_passed_with_one(target: bytes, path: bytes) -> None:
    async with proxying() as proxy:
        head, status, _ = await proxy.passes(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")

        assert (status, head.split(b"\r\n")[0]) == (204, b"GET " + path + b" HTTP/1.1")


@pytest.mark.parametrize(
    "target",
    [
        *(b"/?x=!%21", b"/?x=%27'", b"/?a+b;c=d", b"/?", b"/a?b?c", b"/?%zz%", b"/?a=%C3%A9", b"/~a.b-c_d", b"/*"),
        *(b"/a'b(c)!$&,=:@", b'/[]{}|^`"'),
    ],
)
async def test_target_passes_byte_for_byte(target: bytes) -> None:
    async with proxying() as proxy:
        head, status, _ = await proxy.passes(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")

        assert (status, head.split(b"\r\n")[0]) == (204, b"GET " + target + b" HTTP/1.1")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *((b"/foo", 204), (b"/foo/", 204), (b"/foo/x", 204), (b"/foo?x", 204)),
        *((b"/foobar", 404), (b"/fo", 404), (b"/", 404), (b"/FOO", 404)),
    ],
)
async def test_prefix_matches_whole_segments(path: bytes, status: int) -> None:
    async with proxying() as proxy:
        proxy.serves(config_for(proxy.backend.port, path="/foo"))
        request = b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        if status == 204:
            found = (await proxy.passes(request))[1]
        else:
            client = await proxy.client()
            await client.sends(request)
            found = (await client.answer())[0]

        assert found == status


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        (b"/one", b"exact"),
        *((b"/one/", b"deep"), (b"/one/two", b"deep"), (b"/one?/one/two/three", b"exact")),
        *((b"/one/two/three", b"deepest"), (b"/one/two/three/", b"deepest"), (b"/one/two/threes", b"deep"), (b"/ones", b"a")),
    ],
)
async def test_exact_path_wins_over_a_prefix_and_the_longest_prefix_over_shorter_ones(path: bytes, seen: bytes) -> None:
    paths = {
        "a": Path("prefix", "/"),
        "deep": Path("prefix", "/one"),
        "deepest": Path("prefix", "/one/two/three"),
        "exact": Path("exact", "/one"),
    }
    async with contextlib.AsyncExitStack() as stack, proxying() as proxy:
        routes, upstreams = {}, dict(config_for(proxy.backend.port).upstreams)
        for name, where in paths.items():
            backend = await stack.enter_async_context(answering(b"200 OK\r\nX-Name: " + name.encode()))
            route = route_for(Target((Share(name),)), where, name=name)
            routes[route.id] = route
            upstreams[name] = Upstream((Endpoint("127.0.0.1", backend.port),))
        proxy.serves(ProxyConfig(routes=routes, upstreams=upstreams, certificates={}, tls_hosts={}))
        client = await proxy.client()
        await client.sends(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")
        status, fields, _ = await client.answer()

        assert (status, fields["x-name"].encode()) == (200, seen)


async def test_nomination_takes_neither_the_host_nor_the_framing_away() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(post(b"Connection: Host, Content-Length, Transfer-Encoding", b"Content-Length: 3", body=b"abc"))
        backend = await proxy.backend.accepts()
        head = await backend.head()
        await backend.sees(b"abc")
        await backend.sends(OK)

        assert (await client.answer())[0] == 200
        assert head.count(b"\r\n" + HOST) == 1
        assert head.count(b"Content-Length: 3\r\n") == 1


async def test_hop_by_hop_fields_pass_in_neither_direction() -> None:
    hop = (
        b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: foo/2\r\n"
        b"Proxy-Authorization: Basic eDp5\r\nHTTP2-Settings: AAA\r\n"
    )
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\n" + HOST + hop + b"X-Mine: 1\r\n\r\n")
        backend = await proxy.backend.accepts()
        seen = await backend.head()
        await backend.sends(
            b"HTTP/1.1 200 OK\r\n" + hop + b"Connection: keep-alive, X-Gone\r\nX-Gone: 1\r\nContent-Length: 0\r\n\r\n"
        )
        answered = await client.head()

        for name in (b"Keep-Alive", b"Proxy-Connection", b"TE:", b"Upgrade", b"Proxy-Authorization", b"HTTP2-Settings"):
            assert name not in seen
            assert name not in answered
        assert b"X-Gone" not in answered
        assert b"X-Mine: 1\r\n" in seen


SPOOFED = b"".join(
    name + b": spoofed\r\n"
    for name in (
        *(b"X-Forwarded-For", b"x-forwarded-proto", b"X-FORWARDED-HOST", b"X-Forwarded-Port", b"X-Forwarded-Prefix"),
        *(b"X-Forwarded-Scheme", b"X-Forwarded-Server", b"Forwarded", b"X-Real-IP", b"X-Request-ID"),
        *(b"X_Forwarded_For", b"X_Forwarded-Proto", b"x_forwarded_host", b"X_Real_IP", b"X_Request_ID"),
    )
)


@pytest.mark.parametrize("nominated", [b"", b"Connection: X-Forwarded-For, X-Real-IP, X-Forwarded-Proto, X-Request-ID\r\n"])
async def test_spoofed_forwarding_fields_are_replaced_by_ours(nominated: bytes) -> None:
    async with proxying() as proxy:
        head, _, _ = await proxy.passes(b"GET / HTTP/1.1\r\n" + HOST + SPOOFED + nominated + b"\r\n")

        assert b"spoofed" not in head
        for line in (
            b"X-Forwarded-For: 127.0.0.1",
            b"X-Real-IP: 127.0.0.1",
            b"X-Forwarded-Proto: http",
            b"X-Forwarded-Host: a.test",
        ):
            assert head.count(line + b"\r\n") == 1
        assert head.count(b"\r\nX-Request-ID: ") == 1


async def test_repeated_fields_pass_in_order() -> None:
    fields = (
        b"Cookie: a=1\r\nAuthorization: Basic x\r\nX-A: 1\r\nCookie: b=2\r\nAuthorization: Bearer y\r\nX-A: 2\r\n"
        b"Content-Type: a/b\r\nContent-Type: c/d\r\n"
    )
    async with proxying() as proxy:
        head, _, _ = await proxy.passes(b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n")

        assert fields in head


async def test_hundred_and_twenty_fields_and_sixty_kilobytes_pass() -> None:
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 480) for number in range(120))
    async with proxying() as proxy:
        head, status, _ = await proxy.passes(b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n")

        assert status == 204
        assert fields in head


async def test_target_of_sixteen_thousand_bytes_passes() -> None:
    line = b"GET /" + b"a" * 16_000 + b"?b HTTP/1.1"
    async with proxying() as proxy:
        head, status, _ = await proxy.passes(line + b"\r\n" + HOST + b"\r\n")

        assert (status, head.split(b"\r\n")[0]) == (204, line)


async def test_dribbled_head_is_bounded_all_the_same() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\n" + HOST)
        most = 0
        async with asyncio.timeout(WAIT):
            while not client.reader._buffer:
                client.writer.write(b"X: %s\r\n" % (b"v" * 400))
                await asyncio.sleep(0)
                most = max([most, *(one.unread_bytes for one in proxy.runtime.connections)])  # type: ignore[attr-defined]
        assert (await client.answer())[0] == 431
        assert 40_000 < most < 70_000


@pytest.mark.parametrize("value", [b"caf\xe9", b"\xff\xfe", "snow\u2603".encode(), b"\x80", b"a\tb", b""])
async def test_bytes_of_values_pass_in_both_directions(value: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\n" + HOST + b"X-V:" + value + b"\r\n\r\n")
        backend = await proxy.backend.accepts()
        seen = await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\nX-W:" + value + b"\r\nContent-Length: 0\r\n\r\n")
        answered = await client.head()

        assert b"\r\nX-V:" + value + b"\r\n" in seen.replace(b"X-V: ", b"X-V:")
        assert b"\r\nX-W:" + value + b"\r\n" in answered.replace(b"X-W: ", b"X-W:")


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        (b"Authorization: NTLM TlRMTVNTUAADAAAA\r\n", OK),
        (b"authorization: negotiate YII=\r\n", OK),
        (b"", b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"),
        (b"", b"HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate YII=\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_connection_that_was_logged_in_serves_nobody_else(fields: bytes, answer: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(answer)
        await client.answer()
        await backend.ends()
        await proxy.is_innocent()


async def test_login_of_three_messages_reaches_three_connections_and_fails() -> None:
    """NTLM (MS-NLMP 1.3.1): a backend knows its challenge on the connection where it sent it only. The client's own stays."""
    challenge = b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM TlRMTVNTUAACAAAA\r\nContent-Length: 0\r\n\r\n"
    asked = b"HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"
    messages = (b"", b"Authorization: NTLM TlRMTVNTUAABAAAA\r\n", b"Authorization: NTLM TlRMTVNTUAADAAAA\r\n")
    async with proxying() as proxy:
        client = await proxy.client()
        statuses = []
        for message, answer in zip(messages, (asked, challenge, asked), strict=True):
            await client.sends(b"GET / HTTP/1.1\r\n" + HOST + message + b"\r\n")
            backend = await proxy.backend.accepts()
            head = await backend.head()
            assert message in head
            await backend.sends(answer)
            statuses.append((await client.answer())[0])
            await backend.ends()

        assert statuses == [401, 401, 401]
        assert proxy.backend.count == 3


async def test_ordinary_credentials_do_not_cost_the_connection() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        for _ in range(2):
            await client.sends(b"GET / HTTP/1.1\r\n" + HOST + b"Authorization: Bearer x\r\n\r\n")
            if not proxy.backend.peers:
                backend = await proxy.backend.accepts()
            await backend.head()
            await backend.sends(OK)
            await client.answer()

        assert proxy.backend.count == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: /a\rSet-Cookie: x=y\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /a\nSet-Cookie: x=y\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x1bb\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_answer_whose_fields_could_be_split_is_502(answer: bytes) -> None:
    async with proxying() as proxy:
        _, status, _ = await proxy.passes(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", answer)

        assert status == 502


async def test_redirect_of_ours_keeps_what_the_path_encodes_encoded() -> None:
    async with proxying(policies=(HttpsRedirect(),)) as proxy:
        client = await proxy.client()
        await client.sends(b"GET /a%0d%0aSet-Cookie:x=y HTTP/1.1\r\n" + HOST + b"\r\n")
        status, fields, _ = await client.answer()

        assert (status, fields["location"]) == (308, "https://a.test/a%0d%0aSet-Cookie:x=y")
        assert "set-cookie" not in fields
