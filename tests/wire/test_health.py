"""Endpoints that refuse, are silent or answer 500: traffic moves to those that do not, and comes back."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Sequence

import pytest
from wire.harness import WAIT, Proxy, proxying
from wire.several import KEY
from wire.verbs import CLIENTS, answering, counted, with_endpoints

import proxy.upstream.outlier_detection
from proxy.observability.metrics import UPSTREAM_CONNECT_FAILURES
from proxy.upstream.outlier_detection import CONNECT_FAILURES, ERRORS


def refusing() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def statuses(proxy: Proxy, count: int, clients: Sequence[str] = CLIENTS) -> list[int]:
    """Send requests for `clients` in turn, who are of three networks where the proxy trusts the peer; give the statuses."""
    client = await proxy.client()
    found = []
    for number in range(count):
        address = clients[number % len(clients)].encode()
        await client.sends(b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: " + address + b"\r\n\r\n")
        found.append((await client.answer())[0])
    return found


async def test_refusing_endpoint_is_left_out_by_one_client_and_its_failures_reach_nobody() -> None:
    async with proxying() as proxy, answering(b"200 OK") as good:
        proxy.serves(with_endpoints(refusing(), good.port))

        assert set(await statuses(proxy, 20)) == {200}
        assert counted(proxy) == (1, 1)
        assert proxy.runtime.stats.service(KEY).value(UPSTREAM_CONNECT_FAILURES) == CONNECT_FAILURES


async def test_endpoint_that_answers_500_is_left_out_after_five_in_a_row() -> None:
    async with proxying(trusted=True) as proxy, answering(b"200 OK") as good, answering(b"500 Broken") as bad:
        proxy.serves(with_endpoints(bad.port, good.port))
        found = await statuses(proxy, 40)

        assert found.count(500) == ERRORS
        assert found[2 * ERRORS :] == [200] * (40 - 2 * ERRORS)
        assert counted(proxy) == (1, 1)


@pytest.mark.slow
async def test_silent_endpoint_is_left_out() -> None:
    async with proxying(trusted=True) as proxy, answering(b"200 OK") as good:
        silent = proxy.backend
        config = with_endpoints(silent.port, good.port)
        proxy.serves(config)
        pool = proxy.runtime.upstreams[KEY].ready[0]
        for number in range(ERRORS - 1):
            pool.record_status(504, CLIENTS[number % len(CLIENTS)])
        found = await statuses(proxy, 4)

        assert sorted(found) == [200, 200, 200, 504]
        assert counted(proxy) == (1, 1)


async def test_single_endpoint_is_never_left_out() -> None:
    async with proxying(trusted=True) as proxy, answering(b"503 Busy") as bad:
        proxy.serves(with_endpoints(bad.port))

        assert set(await statuses(proxy, 3 * ERRORS)) == {503}
        assert counted(proxy) == (1, 0)


async def test_at_most_half_are_left_out_and_where_all_are_bad_all_are_tried() -> None:
    async with proxying(trusted=True) as proxy, contextlib.AsyncExitStack() as stack:
        bad = [await stack.enter_async_context(answering(b"500 Broken")) for _ in range(4)]
        proxy.serves(with_endpoints(*(backend.port for backend in bad)))
        await statuses(proxy, 60)
        assert counted(proxy) == (2, 2)
        proxy.serves(with_endpoints(*(refusing() for _ in range(4))))

        assert await statuses(proxy, 1) == [502]
        assert proxy.runtime.stats.service(KEY).value(UPSTREAM_CONNECT_FAILURES) == 4


async def test_ejection_outlives_a_new_configuration_and_dies_with_its_endpoint() -> None:
    async with proxying(trusted=True) as proxy, answering(b"200 OK") as good, answering(b"500 Broken") as bad:
        proxy.serves(with_endpoints(bad.port, good.port))
        await statuses(proxy, 20)
        assert counted(proxy) == (1, 1)
        with_third = with_endpoints(bad.port, good.port, proxy.backend.port)
        proxy.serves(with_third)
        assert counted(proxy) == (2, 1)
        proxy.serves(with_endpoints(good.port))
        assert counted(proxy) == (1, 0)
        proxy.serves(with_endpoints(bad.port, good.port))

        assert counted(proxy) == (2, 0)


async def test_endpoint_comes_back_after_its_time_and_one_failure_sends_it_away_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy.upstream.outlier_detection, "FIRST_SECONDS", 0.2)
    async with proxying(trusted=True) as under_test, answering(b"200 OK") as good, answering(b"500 Broken") as bad:
        under_test.serves(with_endpoints(bad.port, good.port))
        await statuses(under_test, 2 * ERRORS)
        assert counted(under_test) == (1, 1)
        async with asyncio.timeout(WAIT):
            while counted(under_test) != (2, 0):
                await asyncio.sleep(0.01)
        found = await statuses(under_test, 4)

        assert found.count(500) == 1
        assert counted(under_test) == (1, 1)


async def test_running_out_of_descriptors_is_503_and_no_endpoints_fault() -> None:
    async with proxying() as under_test:
        client = await under_test.client()
        await client.sends(b"GET / HTTP/1.1\r\nHost: unknown.test\r\n\r\n")
        assert (await client.answer())[0] == 404
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        found = []
        with contextlib.ExitStack() as stack:
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            # Every descriptor below the limit is taken.
            highest = max(map(int, os.listdir("/proc/self/fd"))) + 1  # noqa: PTH208  no file is touched
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
            with contextlib.suppress(OSError):
                while True:
                    stack.callback(os.close, os.dup(0))
            for _ in range(2 * CONNECT_FAILURES):
                await client.sends(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
                found.append((await client.answer())[0])

        assert found == [503] * 2 * CONNECT_FAILURES
        assert under_test.runtime.stats.service(KEY).value(UPSTREAM_CONNECT_FAILURES) == 0
