"""Targets and lengths: lengths at their bound, TRACE, and paths that a backend may read as another route's."""

import pytest
from wire.harness import proxying
from wire.verbs import HOST, post, two_routes


async def test_largest_length_passes_as_it_is() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(post(b"Content-Length: 999999999999999999", body=b"hello"))
        backend = await proxy.backend.accepts()

        assert b"\r\nContent-Length: 999999999999999999\r\n" in await backend.head()
        await backend.sees(b"hello")


SECRETS = b"Cookie: session=secret\r\nAuthorization: Bearer secret\r\nX-Mine: secret\r\n"


@pytest.mark.parametrize("more", [b"", b"Max-Forwards: 0\r\n", b"Content-Length: 6\r\n"])
@pytest.mark.parametrize("target", [b"/secret", b"*", b"http://a.test/secret"])
async def test_trace_reflects_nothing(target: bytes, more: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"TRACE " + target + b" HTTP/1.1\r\n" + HOST + SECRETS + more + b"\r\nsecret")
        answer = await client.rest()

        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"secret" not in answer
        assert proxy.backend.count == 0
        await proxy.is_innocent()


@pytest.mark.parametrize(
    "path",
    [
        *(b"/public/../admin", b"/public/%2e%2e/admin", b"/public/.%2E/admin", b"/public/..%2fadmin", b"/public%2f..%2fadmin"),
        *(b"/public/%252e%252e/admin", b"/public/..%252fadmin", b"/public/%252e%252e%252fadmin"),
        *(b"/public/..%5cadmin", b"/public%5c..%5cadmin", b"/public/..%255cadmin", b"/public/..\\admin"),
        *(b"/public/%c0%ae%c0%ae/admin", b"/public/..%c0%afadmin", b"/public/..%c1%9cadmin", b"/public/%25c0%25ae%25c0%25ae/admin"),
        *(b"/public/%e0%80%ae%e0%80%ae%e0%80%afadmin", b"/public/..%f0%80%80%afadmin", b"/public/..%fc%80%80%80%80%afadmin"),
        *(b"/%c1%a1dmin", b"/adm%69n;/../public", b"//admin/..;/public", b"/admin;x=/../public"),
        *(b"/public/a%00", b"/public/a%c0%80", b"/public/%u002e%u002e/admin", b"/public/%", b"/public/%2"),
    ],
)
async def test_path_that_a_backend_may_read_as_another_routes_is_400(path: bytes) -> None:
    async with proxying() as proxy:
        proxy.serves(two_routes(proxy.backend.port))
        client = await proxy.client()
        await client.sends(b"GET " + path + b" HTTP/1.1\r\nHost: a.test\r\n\r\n")

        assert (await client.answer())[0] == 400
        assert proxy.backend.count == 0


@pytest.mark.parametrize(
    "path",
    [
        *(b"/public/caf%C3%A9", b"/public/%E2%98%83", b"/public/%F0%9F%98%80", b"/public/%C0%C1", b"/public/caf%E9"),
        *(b"/public/100%25", b"/public/100%2525", b"/public/a%252fb", b"/public/a%2fb", b"/public/a%5cb", b"/public/a%c0%afb"),
        *(
            b"/public/a/../b",
            b"/public/a;v=1/b",
            b"/public//b",
            b"/public/%7Euser",
            b"/public/..x/y",
            b"/public/%3B",
        ),
    ],
)
async def test_path_that_leads_to_one_route_in_every_reading_passes_byte_for_byte(path: bytes) -> None:
    async with proxying() as proxy:
        proxy.serves(two_routes(proxy.backend.port))
        head, status, _ = await proxy.passes(b"GET " + path + b" HTTP/1.1\r\nHost: a.test\r\n\r\n")

        assert (status, head.split(b"\r\n")[0]) == (204, b"GET " + path + b" HTTP/1.1")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/caf\u00e9".encode(), "target has the byte 0xC3 in it, which must be written %C3."),
        (b"/caf\xe9", "target has the byte 0xE9 in it, which must be written %E9."),
        (b"/a?q=caf\xe9", "target has the byte 0xE9 in it, which must be written %E9."),
        (b"/a\x7f", "target has the byte 0x7F in it, which must be written %7F."),
        (b"/a\tb", "target has the byte 0x09 in it, which must be written %09."),
        (b"/a#b", 'target has "#" in it, which must be written %23.'),
        (b"/a\\b", 'path has "\\" in it, which must be written %5C.'),
        (b"/100%", 'path has "%" in it without two hexadecimal digits behind it; the sign itself is written %25.'),
        (b"/%zz", 'path has "%" in it without two hexadecimal digits behind it; the sign itself is written %25.'),
        (b"/a%00", "path has an encoded NUL in it, such as %00; there may be none."),
        (b"/a%c0%80", "path has an encoded NUL in it, such as %00; there may be none."),
        (b"admin", 'target must begin with "/", or with http:// or https:// and a host.'),
        (b"ftp://a.test/", 'target must begin with "/", or with http:// or https:// and a host.'),
        (b"http://b.test/", "target names another host or port than its Host field."),
        (b"http://u@a.test/", 'target has "@" before its path; a user name may not be in it.'),
    ],
)
async def test_refusal_says_what_of_a_target_is_wrong_and_what_would_be_accepted(target: bytes, says: str) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET " + target + b" HTTP/1.1\r\nHost: a.test\r\n\r\n")
        status, _, body = await client.answer()

        assert (status, body.decode()) == (400, f"The request's {says}\n")
        assert proxy.backend.count == 0


async def test_refusal_of_an_ambiguous_path_says_so() -> None:
    async with proxying() as proxy:
        proxy.serves(two_routes(proxy.backend.port))
        client = await proxy.client()
        await client.sends(b"GET /public/..%2fadmin HTTP/1.1\r\nHost: a.test\r\n\r\n")
        status, _, body = await client.answer()

        assert status == 400
        assert body.startswith(b"The request's path can be read in more than one way, and these lead to different routes: ")


@pytest.mark.parametrize("host", [b"a.test", b"a.test:", b"a.test:80", b"A.TEST:80"])
@pytest.mark.parametrize("authority", [b"a.test", b"a.test:", b"a.test:80", b"A.test:"])
async def test_empty_port_is_that_of_the_scheme(authority: bytes, host: bytes) -> None:
    """RFC 3986, 6.2.3: http://a.test:/ is http://a.test/; so it is in Host."""
    async with proxying() as proxy:
        head, status, _ = await proxy.passes(b"GET http://" + authority + b"/x HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")

        assert (status, head.split(b"\r\n")[:2]) == (204, [b"GET /x HTTP/1.1", b"Host: " + host])
