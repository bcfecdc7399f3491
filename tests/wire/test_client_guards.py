"""Origins and networks over real sockets: who is refused reaches no backend, who is not is served."""

import pytest
from wire.harness import Proxy, config_for, proxying
from wire.verbs import UPGRADE, opened

from proxy.model.policy import AllowedOrigins, ClientAddresses, Policy, Timeouts

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"


async def refused(proxy: Proxy, head: bytes, status: int) -> None:
    """`head` is answered with `status`, the connection goes on, and no backend hears of it."""
    client = await proxy.client()
    await client.sends(head)
    found, fields, _ = await client.answer()
    await client.sends(head)
    again, _, _ = await client.answer()
    client.closes()

    assert (found, again, "connection" in fields, proxy.backend.count) == (status, status, False, 0)


def with_origin(origin: bytes) -> bytes:
    return UPGRADE.replace(b"Origin: https://a.test\r\n", origin) + b"\r\n"


@pytest.mark.parametrize("origin", [b"", b"Origin: null\r\n", b"Origin: https://evil.test\r\n", b"Origin: https://a.test\r\n" * 2])
async def test_upgrade_from_another_origin_is_refused(origin: bytes) -> None:
    async with proxying(policies=(AllowedOrigins(("https://a.test",)),)) as proxy:
        await refused(proxy, with_origin(origin), 403)


async def test_upgrade_from_a_listed_origin_is_a_socket_and_requests_are_not_asked() -> None:
    async with proxying(policies=(AllowedOrigins(("https://*.b.test", "https://a.test")),)) as proxy:
        client, backend = await opened(proxy)
        _, status, _ = await proxy.passes(GET.replace(b"\r\n\r\n", b"\r\nOrigin: https://evil.test\r\n\r\n"))
        client.resets()
        backend.resets()

    assert status == 204


@pytest.mark.parametrize("head", [GET, UPGRADE + b"\r\n"])
@pytest.mark.parametrize("policy", [ClientAddresses(allow=("10.0.0.0/8", "::1/128")), ClientAddresses(deny=("127.0.0.0/8",))])
async def test_client_of_another_network_is_refused(policy: Policy, head: bytes) -> None:
    async with proxying(policies=(policy,)) as proxy:
        await refused(proxy, head, 403)


async def test_client_of_an_allowed_network_is_served() -> None:
    async with proxying(policies=(ClientAddresses(allow=("127.0.0.1/32",), deny=("10.0.0.0/8",)),)) as proxy:
        _, status, _ = await proxy.passes(GET)

    assert status == 204


@pytest.mark.parametrize(
    ("chain", "status"),
    [
        *((b"10.1.2.3", 204), (b"10.1.2.3, 127.0.0.9", 204), (b"192.0.2.1, 10.1.2.3", 204), (b"[10.1.2.3", 403)),
        *((b"192.0.2.1", 403), (b"10.1.2.3, 192.0.2.1", 403), (b"unknown", 403), (b"10.1.2.3:1234", 204), (b"", 403)),
    ],
)
async def test_address_behind_a_trusted_proxy_is_the_one_that_counts(chain: bytes, status: int) -> None:
    async with proxying(policies=(ClientAddresses(allow=("10.0.0.0/8",)),), trusted=True) as proxy:
        head = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: " + chain + b"\r\n\r\n")
        if status == 403:
            await refused(proxy, head, 403)
        else:
            assert (await proxy.passes(head))[1] == status


async def test_address_that_a_stranger_claims_counts_for_nothing() -> None:
    async with proxying(policies=(ClientAddresses(allow=("10.0.0.0/8",)),)) as proxy:
        await refused(proxy, GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 10.1.2.3\r\n\r\n"), 403)


@pytest.mark.parametrize("policy", [AllowedOrigins(("nonsense",)), ClientAddresses(allow=("10.0.0.0/99",))])
async def test_guard_that_does_not_compile_answers_500_and_is_reported(policy: Policy) -> None:
    async with proxying() as proxy:
        proxy.serves(config_for(proxy.backend.port, policy, Timeouts(connect=1.0)))
        rejected = dict(proxy.runtime.rejected)
        await refused(proxy, GET, 500)
        await refused(proxy, UPGRADE + b"\r\n", 500)
        proxy.serves(config_for(proxy.backend.port, Timeouts(connect=1.0)))
        _, status, _ = await proxy.passes(GET)

    assert list(rejected) == ["ingress/test/a/0"]
    assert (status, proxy.runtime.rejected) == (204, {})
