"""Strict-Transport-Security: on https answers alone, in place of the application's own where that is wished."""

import pytest
from wire.harness import Proxy, proxying
from wire.verbs import GET, UPGRADE

from proxy.model.policy import ClientAddresses, Hsts, Timeouts

TIMEOUTS = Timeouts(connect=1.0)
HSTS = Hsts(31536000, include_subdomains=True)
OWN = b"HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=1\r\nContent-Length: 0\r\n\r\n"
NONE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
OURS = "max-age=31536000; includeSubDomains"


async def told(proxy: Proxy, answer: bytes, *, secure: bool = True, request: bytes = GET) -> str | None:
    """What the client is told."""
    client = await proxy.client(secure=secure)
    await client.sends(request)
    backend = await proxy.backend.accepts()
    await backend.head()
    await backend.sends(answer)
    _, fields, _ = await client.answer()
    backend.closes()
    client.resets()
    return fields.get("strict-transport-security")


async def test_https_answer_gets_it_and_the_applications_own_stands() -> None:
    async with proxying(policies=(TIMEOUTS, HSTS)) as proxy:
        assert [await told(proxy, answer) for answer in (NONE, OWN)] == [OURS, "max-age=1"]


async def test_override_takes_the_place_of_the_applications_own() -> None:
    async with proxying(policies=(TIMEOUTS, Hsts(60, preload=True, override=True))) as proxy:
        assert [await told(proxy, answer) for answer in (NONE, OWN)] == ["max-age=60; preload"] * 2


async def test_answer_over_plain_http_says_what_the_application_says() -> None:
    """RFC 6797, 7.2: ours is not sent there."""
    async with proxying(policies=(TIMEOUTS, Hsts(60, override=True))) as proxy:
        assert [await told(proxy, answer, secure=False) for answer in (NONE, OWN)] == [None, "max-age=1"]


@pytest.mark.parametrize(("proto", "expected"), [("https", OURS), ("http", None)])
async def test_trusted_proxy_that_ended_tls_says_what_the_client_speaks(proto: str, expected: str | None) -> None:
    async with proxying(policies=(TIMEOUTS, HSTS), trusted=True) as proxy:
        request = b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: %b\r\n\r\n" % proto.encode()

        assert await told(proxy, NONE, secure=False, request=request) == expected


async def test_client_that_nobody_trusts_cannot_say_it() -> None:
    async with proxying(policies=(TIMEOUTS, HSTS)) as proxy:
        request = b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\r\n"

        assert await told(proxy, NONE, secure=False, request=request) is None


@pytest.mark.parametrize("secure", [True, False])
async def test_answers_of_ours_carry_it_over_https(*, secure: bool) -> None:
    """A refusal of the route, and a backend that is not there."""
    for policies, status in (((TIMEOUTS, HSTS, ClientAddresses(deny=("0.0.0.0/0",))), 403), ((TIMEOUTS, HSTS), 502)):
        async with proxying(policies=policies) as proxy:
            proxy.backend.stop()
            client = await proxy.client(secure=secure)
            await client.sends(GET)
            found, fields, _ = await client.answer()
            client.resets()

            assert (found, fields.get("strict-transport-security")) == (status, OURS if secure else None)


async def test_refused_upgrade_carries_it() -> None:
    async with proxying(policies=(TIMEOUTS, HSTS)) as proxy:
        refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

        assert await told(proxy, refusal, request=UPGRADE + b"\r\n") == OURS
