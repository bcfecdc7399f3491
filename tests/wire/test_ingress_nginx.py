"""Time, size and protocol as ingress-nginx's annotations say them: objects in, raw requests, what backend and client see.

What is expected is what ingress-nginx 1.15.1 answered when it was run; where we differ on purpose, the name of the test says so.
"""

import asyncio
import time

import pytest
from wire.harness import Proxy, proxying
from wire.ingresses import ingress, translated
from wire.verbs import UPGRADE, opened

GET = b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.test\r\n"


def applies(proxy: Proxy, **hosts: dict[str, str]) -> list[str]:
    """Serve an Ingress for each host `NAME.test` with these annotations, all on one Service; return what is said of them."""
    objects = [ingress(name, ("/", "Prefix", "A"), host=f"{name}.test", **annotations) for name, annotations in hosts.items()]
    found = translated(*objects, ports={"A": proxy.backend.port})
    proxy.serves(found.config)
    return [problem.message for problem in found.problems]


async def told(proxy: Proxy, request: bytes) -> int:
    client = await proxy.client()
    await client.sends(request)
    status, _, _ = await client.answer()
    client.closes()
    return status


@pytest.mark.slow
@pytest.mark.parametrize("upgrade", [False, True])
async def test_backend_that_says_nothing_for_proxy_read_timeout_is_504(upgrade: bool) -> None:
    async with proxying() as proxy:
        assert applies(proxy, a={"proxy_read_timeout": "1"}) == []
        began = time.monotonic()

        assert await told(proxy, UPGRADE + b"\r\n" if upgrade else GET % b"a.test") == 504
        assert 0.9 < time.monotonic() - began < 5


@pytest.mark.slow
async def test_answer_may_be_silent_for_longer_than_proxy_read_timeout_which_differs_on_purpose() -> None:
    async with proxying() as proxy:
        applies(proxy, a={"proxy_read_timeout": "1"})
        client = await proxy.client()
        await client.sends(GET % b"a.test")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        await client.head()
        await client.sees(b"half")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 1.5)
        await backend.sends(b"rest")

        await client.sees(b"rest")


async def test_timeout_of_0_is_said_and_not_followed_which_differs_on_purpose() -> None:
    async with proxying() as proxy:
        said = applies(proxy, a={"proxy_read_timeout": "0"})

        assert (await proxy.passes(GET % b"a.test"))[1] == 204
        assert len(said) == 1
        assert '"0" was found' in said[0]


async def test_proxy_body_size_counts_in_powers_of_1024() -> None:
    async with proxying() as proxy:
        assert applies(proxy, a={"proxy_body_size": "1k"}) == []

        assert (await proxy.passes(POST + b"Content-Length: 1024\r\n\r\n" + bytes(1024)))[1] == 204
        assert await told(proxy, POST + b"Content-Length: 1025\r\n\r\n") == 413
        assert await told(proxy, POST + b"Transfer-Encoding: chunked\r\n\r\n401\r\n" + bytes(1025) + b"\r\n0\r\n\r\n") == 413
        assert proxy.backend.count == 1


@pytest.mark.parametrize("value", ["0", "8mb", "8Mi"])
async def test_proxy_body_size_that_is_0_or_cannot_be_read_limits_nothing(value: str) -> None:
    async with proxying() as proxy:
        said = applies(proxy, a={"proxy_body_size": value})

        assert (await proxy.passes(POST + b"Content-Length: 2000000\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n"))[1] == 204
        assert len(said) == (value != "0")


@pytest.mark.parametrize("value", ["HTTPS", "https"])
async def test_https_backends_are_spoken_to_over_tls_by_sockets_too_without_a_server_name(value: str) -> None:
    async with proxying(backend_tls=True) as proxy:
        names: list[str | None] = []
        assert proxy.backend.context is not None
        proxy.backend.context.sni_callback = lambda _stream, name, _context: names.append(name)
        assert applies(proxy, a={"backend_protocol": value}) == []

        head, status, _ = await proxy.passes(GET % b"a.test")
        await opened(proxy)

        assert (status, b"\r\nHost: a.test\r\n" in head) == (204, True)
        assert set(names) == {None}


@pytest.mark.slow
async def test_https_is_of_the_ingress_that_says_it_and_not_of_its_service() -> None:
    async with proxying() as proxy:
        assert (
            applies(proxy, a={"backend_protocol": "HTTPS"}, b={}, c={"backend_protocol": "HTTP"}, d={"backend_protocol": "FOO"})
            != []
        )

        for host in (b"b.test", b"c.test", b"d.test"):
            assert (await proxy.passes(GET % host))[1] == 204
        assert await told(proxy, GET % b"a.test") in (502, 504)  # the backend is a plain one


@pytest.mark.parametrize("value", ["GRPC", "grpcs", "AUTO_HTTP", "FCGI"])
async def test_protocol_that_is_not_spoken_is_500_and_said_and_harms_no_other(value: str) -> None:
    async with proxying() as proxy:
        said = applies(proxy, a={"backend_protocol": value}, b={})

        assert await told(proxy, GET % b"a.test") == 500
        assert proxy.backend.count == 0
        assert (await proxy.passes(GET % b"b.test"))[1] == 204
        assert [f'"{value}" was found, so the routes answer 500; ' in message for message in said] == [True]
