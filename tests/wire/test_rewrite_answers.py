"""A rewrite that is taken back in answers: what the application writes leads through the route again."""

import asyncio

import pytest
from wire.harness import WAIT, Proxy, config_for, proxying, route_for
from wire.verbs import SWITCH, UPGRADE

from proxy.model.config import Path, ProxyConfig
from proxy.model.policy import PodTarget, Policy, Rewrite, Timeouts

TIMEOUTS = Timeouts(connect=1.0)


def serving(proxy: Proxy, path: Path, *policies: Policy) -> None:
    """Serve one path with these policies."""
    plain = config_for(proxy.backend.port)
    (route,) = plain.routes.values()
    assert route.http is not None
    changed = route_for(route.http, path, TIMEOUTS, *policies)
    proxy.serves(ProxyConfig(routes={changed.id: changed}, upstreams=plain.upstreams, certificates={}, tls_hosts={}))


async def shown(proxy: Proxy, target: bytes, *lines: bytes) -> list[bytes]:
    """Ask for a target, answer with these fields, and return those of the same names that the client sees."""
    client = await proxy.client()
    await client.sends(b"GET %b HTTP/1.1\r\nHost: a.test\r\n\r\n" % target)
    backend = await proxy.backend.accepts()
    await backend.head()
    await backend.sends(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
    head = await client.head()
    backend.closes()
    client.resets()
    names = {line.partition(b":")[0].lower() for line in lines}
    return [line for line in head.split(b"\r\n")[1:] if line.partition(b":")[0].lower() in names]


OUTER = Rewrite("", "/app", answers="/app")
"""/app to /."""
INNER = Rewrite("/v2", "/app", answers="/app")
"""/app to /v2."""
ROOT = Rewrite("/v2", "", answers="")
"""/ to /v2."""
DEEPER = Rewrite("/app/v2", "/app", answers="/app")
"""/app to /app/v2."""


@pytest.mark.parametrize(
    ("policy", "written", "expected"),
    [
        (OUTER, "/", "/app/"),
        (OUTER, "/login?next=/x#y", "/app/login?next=/x#y"),
        (OUTER, "/app/login", "/app/login"),
        (OUTER, "/apple", "/app/apple"),
        (OUTER, "login", "login"),
        (OUTER, "../x", "../x"),
        (OUTER, "?page=2", "?page=2"),
        (OUTER, "", ""),
        (OUTER, "http://a.test/login", "http://a.test/app/login"),
        (OUTER, "https://A.TEST:8443/login", "https://A.TEST:8443/app/login"),
        (OUTER, "//a.test/login", "//a.test/app/login"),
        (OUTER, "https://a.test", "https://a.test/app"),
        (OUTER, "https://a.test?x=/y", "https://a.test/app?x=/y"),
        (OUTER, "https://other.test/login", "https://other.test/login"),
        (OUTER, "https://a.test.evil.test/login", "https://a.test.evil.test/login"),
        (OUTER, "https://a.test@evil.test/login", "https://a.test@evil.test/login"),
        (OUTER, "mailto:x@a.test", "mailto:x@a.test"),
        (INNER, "/v2/login", "/app/login"),
        (INNER, "/v2", "/app"),
        (INNER, "/v2?x", "/app?x"),
        (INNER, "/v20", "/v20"),
        (INNER, "/other", "/other"),
        (INNER, "/app/login", "/app/login"),
        (ROOT, "/v2/login", "/login"),
        (ROOT, "/v2", "/"),
        (DEEPER, "/app/v2/login", "/app/login"),
        (DEEPER, "/app/login", "/app/login"),
    ],
)
async def test_location_leads_through_the_route(policy: Rewrite, written: str, expected: str) -> None:
    async with proxying() as proxy:
        serving(proxy, Path("prefix", policy.matched or "/"), policy)
        target = f"{policy.matched}/x".encode()
        found = await shown(proxy, target, f"Location: {written}".encode(), f"Content-Location: {written}".encode())

        assert found == [f"{name}: {expected}".encode() for name in ("Location", "Content-Location")]


@pytest.mark.parametrize(
    ("policy", "written", "expected"),
    [
        (OUTER, "a=b; Path=/", "a=b; Path=/app"),
        (OUTER, "a=b; path=/x; Secure", "a=b; path=/app/x; Secure"),
        (OUTER, "a=b;PATH = /x ;HttpOnly", "a=b;PATH =/app/x;HttpOnly"),
        (OUTER, "a=b", "a=b"),
        (OUTER, "path=/x", "path=/x"),
        (OUTER, "a=b; Path=/app", "a=b; Path=/app"),
        (OUTER, "a=b; Path=", "a=b; Path="),
        (INNER, "a=b; Path=/v2", "a=b; Path=/app"),
        (INNER, "a=b; Path=/", "a=b; Path=/"),
        (ROOT, "a=b; Path=/v2", "a=b; Path=/"),
    ],
)
async def test_cookie_comes_back_to_the_route(policy: Rewrite, written: str, expected: str) -> None:
    async with proxying() as proxy:
        serving(proxy, Path("prefix", policy.matched or "/"), policy)
        found = await shown(proxy, f"{policy.matched}/x".encode(), f"Set-Cookie: {written}".encode(), b"Set-Cookie: two=2")

        assert found == [f"Set-Cookie: {expected}".encode(), b"Set-Cookie: two=2"]


async def test_exact_path_comes_back_and_nothing_below_it() -> None:
    async with proxying() as proxy:
        serving(proxy, Path("exact", "/old"), Rewrite("/new", None, answers="/old"))

        assert await shown(proxy, b"/old", b"Location: /new?x", b"Location: /new/x") == [b"Location: /old?x", b"Location: /new/x"]


async def test_segment_that_named_a_pod_comes_back() -> None:
    async with proxying() as proxy:
        serving(proxy, Path("prefix", "/ws"), PodTarget("/ws"), Rewrite("", "/ws", pod=True, answers="/ws"))
        client = await proxy.client()
        await client.sends(UPGRADE.replace(b"GET /ws ", b"GET /ws/127.0.0.1/room ") + b"\r\n")
        backend = await proxy.backend.accepts()
        seen = await backend.head()
        await backend.sends(SWITCH + b"Set-Cookie: a=b; Path=/room\r\n\r\n")
        head = await client.head()
        client.resets()

        assert seen.startswith(b"GET /room HTTP/1.1\r\n")
        assert b"Set-Cookie: a=b; Path=/ws/127.0.0.1/room\r\n" in head


async def test_answers_stay_without_it() -> None:
    async with proxying() as proxy:
        serving(proxy, Path("prefix", "/app"), Rewrite("", "/app"))

        assert await shown(proxy, b"/app/x", b"Location: /login", b"Set-Cookie: a=b; Path=/") == [
            b"Location: /login",
            b"Set-Cookie: a=b; Path=/",
        ]


async def test_backend_that_sends_as_many_cookies_as_it_may_delays_nobody() -> None:
    """An answer's head is bounded, and each of its fields is read once."""
    async with proxying() as proxy:
        serving(proxy, Path("prefix", "/app"), OUTER)
        cookies = [b"Set-Cookie: a=b" + b";" * 500 + b"Path=/x"] * 90
        async with asyncio.timeout(WAIT):
            found = await shown(proxy, b"/app/x", *cookies)

        assert found == [b"Set-Cookie: a=b" + b";" * 500 + b"Path=/app/x"] * 90
