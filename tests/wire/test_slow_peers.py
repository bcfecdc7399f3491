"""Slow peers: clients that do not read, and endpoints that answer no SYN, no request, or take nothing."""

import asyncio
import contextlib
import time

import pytest
from wire.harness import WAIT, Proxy, config_for, connectionless, proxying
from wire.verbs import MIB, UPGRADE, answering, blackhole, floods, with_endpoints

from proxy.model.config import ProxyConfig, Upstream
from proxy.model.policy import Timeouts
from proxy.observability.metrics import ENDPOINTS, HTTP_REQUESTS, UPSTREAM_CONNECT_FAILURES
from proxy.settings import Settings
from proxy.upstream.outlier_detection import CONNECT_FAILURES

pytestmark = pytest.mark.slow

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"
KEY = "test/backend:80"
ROUTE = "ingress/test/a/0"
SECURE = pytest.mark.parametrize("secure", [False, True])


@SECURE
async def test_client_that_does_not_read_loses_its_connection_and_frees_the_backends(
    monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    monkeypatch.setattr("proxy.exchange.states.WRITE_STALL", 0.3)
    async with proxying() as proxy:
        client = await proxy.client(secure=secure)
        client.writer.transport.pause_reading()
        await client.sends(GET)
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(ENDLESS)
        await asyncio.wait_for(floods(backend), WAIT)
        await backend.ends()
        await connectionless(proxy)

        assert proxy.runtime.stats.route(ROUTE).labelled(HTTP_REQUESTS) == {(KEY, "GET", 200): 1}
        await proxy.is_innocent()


def sip(proxy: Proxy, *, secure: bool) -> int:
    """Ask, and read sixteen bytes now and then until the connection ends; return how many came."""
    with proxy.blocking_client(secure=secure) as sock:
        sock.sendall(GET)
        seen = 0
        deadline = time.monotonic() + 2
        with contextlib.suppress(OSError):
            while piece := sock.recv(16 if time.monotonic() < deadline else MIB):
                seen += len(piece)
                time.sleep(0.02 if time.monotonic() < deadline else 0)
        return seen


@SECURE
async def test_client_that_reads_a_few_bytes_at_a_time_is_as_bad(monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
    monkeypatch.setattr("proxy.exchange.states.WRITE_STALL", 0.5)
    async with proxying() as proxy:
        sipping = asyncio.create_task(asyncio.to_thread(sip, proxy, secure=secure))
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(ENDLESS)
        await asyncio.wait_for(floods(backend), WAIT)
        await connectionless(proxy)

        assert await sipping < 64 * MIB
        await proxy.is_innocent()


@SECURE
async def test_body_that_is_too_slow_ends_both_connections_over_tls_too(monkeypatch: pytest.MonkeyPatch, secure: bool) -> None:
    monkeypatch.setattr("proxy.exchange.states.BODY_GRACE", 0.2)
    async with proxying(Settings(min_body_rate=1_000_000)) as proxy:
        client = await proxy.client(secure=secure)
        await client.sends(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nslow")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sees(b"slow")
        await backend.ends()
        await client.ends()

        assert proxy.runtime.stats.route(ROUTE).labelled(HTTP_REQUESTS) == {(KEY, "POST", 408): 1}


REQUESTS = {
    "get": GET,
    "post": b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello",
    "upgrade": UPGRADE + b"\r\n",
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_endpoint_that_answers_no_syn_is_504_when_the_connect_timeout_is_over(name: str) -> None:
    policies = (Timeouts(connect=0.5),)
    async with proxying(policies=policies) as proxy:
        with blackhole() as port:
            proxy.serves(config_for(port, *policies))
            client = await proxy.client()
            start = time.monotonic()
            await client.sends(REQUESTS[name])
            status, _, _ = await client.answer()
            took = time.monotonic() - start

        assert status == 504
        assert 0.5 <= took < 3
        assert proxy.runtime.stats.service(KEY).value(UPSTREAM_CONNECT_FAILURES) == 1


@pytest.mark.parametrize("name", ["get", "post"])
async def test_endpoint_that_answers_no_syn_costs_a_third_of_the_timeout_and_is_left_out(name: str) -> None:
    async with proxying() as proxy, answering(b"200 OK") as good:
        with blackhole() as port:
            proxy.serves(with_endpoints(port, good.port))
            for _ in range(4 * CONNECT_FAILURES):
                client = await proxy.client()
                start = time.monotonic()
                await client.sends(REQUESTS[name])
                assert (await client.answer())[0] == 200
                assert time.monotonic() - start < 0.9  # the timeout is 1 s

        stats = proxy.runtime.stats.service(KEY)
        assert (stats.value(ENDPOINTS), stats.ejected, stats.value(UPSTREAM_CONNECT_FAILURES)) == (
            1,
            (("127.0.0.1", port),),
            CONNECT_FAILURES,
        )


async def test_endpoint_that_answers_no_tls_handshake_is_504_when_the_connect_timeout_is_over() -> None:
    policies = (Timeouts(connect=0.5),)
    async with proxying(policies=policies) as proxy:
        plain = config_for(proxy.backend.port, *policies)
        proxy.serves(
            ProxyConfig(
                routes=plain.routes,
                upstreams={KEY: Upstream(plain.upstreams[KEY].endpoints, tls=True)},
                certificates={},
                tls_hosts={},
            )
        )
        client = await proxy.client()
        await client.sends(GET)
        backend = await proxy.backend.accepts()

        assert (await client.answer())[0] == 504
        assert (await backend.rest())[:2] == b"\x16\x03"


@pytest.mark.parametrize("name", REQUESTS)
async def test_endpoint_that_dribbles_a_head_without_an_end_is_504(name: str) -> None:
    policies = (Timeouts(response=0.5, handshake=0.5),)
    async with proxying(policies=policies) as proxy:
        client = await proxy.client()
        await client.sends(REQUESTS[name])
        backend = await proxy.backend.accepts()
        await backend.head()

        async def dribble() -> None:
            with contextlib.suppress(ConnectionError):
                await backend.sends(b"HTTP/1.1 200 OK\r\n")
                while True:
                    await backend.sends(b"X: y\r\n")
                    await asyncio.sleep(0.05)

        dribbling = asyncio.create_task(dribble())
        status, _, _ = await client.answer()
        await asyncio.wait_for(dribbling, WAIT)

        assert status == 504


async def test_endpoint_that_takes_no_body_is_504_and_held_against_it() -> None:
    async with proxying(policies=(Timeouts(send=0.3),)) as proxy:
        client = await proxy.client()
        await client.sends(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1073741824\r\n\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        backend.writer.transport.pause_reading()
        flooding = asyncio.create_task(floods(client))
        status, fields, _ = await client.answer()
        await asyncio.wait_for(flooding, WAIT)

        assert (status, fields["connection"]) == (504, "close")
        assert proxy.runtime.upstreams[KEY].ready[0].outlier_detection.suspect
        backend.writer.transport.resume_reading()


async def test_time_that_a_body_waits_for_the_endpoint_is_not_held_against_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.exchange.states.BODY_GRACE", 0.1)
    size = 64 * MIB
    async with proxying(Settings(min_body_rate=16 * MIB)) as proxy:
        client = await proxy.client()
        await client.sends(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % size)
        backend = await proxy.backend.accepts()
        await backend.head()
        backend.writer.transport.pause_reading()
        writing = asyncio.create_task(client.sends(bytes(size)))
        await asyncio.sleep(2.2)  # this is how long the endpoint takes
        backend.writer.transport.resume_reading()
        await backend.reads(size)
        await writing
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        assert (await client.answer())[0] == 200
