"""The session cookie of ingress-nginx's annotations: its attributes, and where its sessions go."""

import re
import time
from email.utils import parsedate_to_datetime

import pytest
from wire.harness import proxying
from wire.several import at, backends, get, serving, upgrade

from proxy.model.policy import CookieAffinity

BALANCED = CookieAffinity("key", "INGRESSCOOKIE", same_site="", path="/x", balanced=True)
PERSISTENT = CookieAffinity("key", "INGRESSCOOKIE", same_site="", path="/x", replaces_others=True)
THEIRS = "1764541506.123.77.482910|0123456789abcdef0123456789abcdef"
"""What a browser still has of ingress-nginx."""
SAFARI = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1.2 Safari/605.1.15"
IOS_12 = "Mozilla/5.0 (iPhone; CPU iPhone OS 12_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
CHROME_60 = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/60.0.3112.113 Safari/537.36"
CHROME_131 = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"


def value_of(fields: dict[str, str]) -> str:
    return fields["set-cookie"].partition("=")[2].partition(";")[0]


def attributes_of(fields: dict[str, str]) -> str:
    return fields["set-cookie"].partition("; ")[2]


async def test_session_cookie_is_of_the_path_and_has_no_attributes_that_nobody_asked_for() -> None:
    async with proxying() as proxy, backends(1) as one:
        proxy.serves(serving(at(one[0].port), policies=(BALANCED,)))
        _, of_request, _ = await get(proxy)
        status, of_upgrade = await upgrade(proxy)

    assert status == 101
    for fields in (of_request, of_upgrade):
        assert re.fullmatch(r"INGRESSCOOKIE=s1\.[0-9a-f]{32}; Path=/x; HttpOnly", fields["set-cookie"])


async def test_session_cookie_has_every_attribute_that_is_asked_for() -> None:
    policy = CookieAffinity(
        "key", max_age=60, same_site="Strict", path="/y", domain="example.com", secure=True, partitioned=True, expires=3600
    )
    async with proxying() as proxy, backends(1) as one:
        proxy.serves(serving(at(one[0].port), policies=(policy,)))
        _, fields, _ = await get(proxy)

    found = re.fullmatch(
        "Path=/y; Domain=example.com; Expires=([^;]+); Max-Age=60; HttpOnly; Secure; SameSite=Strict; Partitioned",
        attributes_of(fields),
    )
    assert found is not None
    assert abs(parsedate_to_datetime(found[1]).timestamp() - time.time() - 3600) < 60


async def test_secure_attribute_that_is_refused_is_absent_over_https() -> None:
    policy = CookieAffinity("key", same_site="", secure=False)
    async with proxying(trusted=True) as proxy, backends(1) as one:
        proxy.serves(serving(at(one[0].port), policies=(policy,)))
        _, fields, _ = await get(proxy, "/", "X-Forwarded-Proto: https")

    assert attributes_of(fields) == "Path=/; HttpOnly"


@pytest.mark.parametrize(
    ("browser", "attributes"),
    [
        (SAFARI, "Path=/; HttpOnly"),
        (IOS_12, "Path=/; HttpOnly"),
        (CHROME_60, "Path=/; HttpOnly"),
        (CHROME_131, "Path=/; HttpOnly; SameSite=None"),
        ("", "Path=/; HttpOnly; SameSite=None"),
    ],
)
async def test_conditional_same_site_none_is_left_out_for_browsers_that_refuse_it(browser: str, attributes: str) -> None:
    policy = CookieAffinity("key", same_site="None", same_site_by_browser=True)
    async with proxying() as proxy, backends(1) as one:
        proxy.serves(serving(at(one[0].port), policies=(policy,)))
        _, fields, _ = await get(proxy, "/", *([f"User-Agent: {browser}"] if browser else []))

    assert attributes_of(fields) == attributes


async def test_same_site_none_without_the_condition_is_for_all_browsers() -> None:
    async with proxying() as proxy, backends(1) as one:
        proxy.serves(serving(at(one[0].port), policies=(CookieAffinity("key", same_site="None"),)))
        _, fields, _ = await get(proxy, "/", f"User-Agent: {SAFARI}")

    assert attributes_of(fields) == "Path=/; HttpOnly; SameSite=None"


@pytest.mark.parametrize("policy", [BALANCED, PERSISTENT], ids=["balanced", "persistent"])
async def test_session_stays_with_its_endpoint(policy: CookieAffinity) -> None:
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(policy,)))
        sessions = [(value_of(fields), body) for _, fields, body in [await get(proxy) for _ in range(30)]]
        again = [await get(proxy, "/", f"Cookie: INGRESSCOOKIE={value}") for value, _ in sessions]
        sockets = [await upgrade(proxy, "/", f"Cookie: INGRESSCOOKIE={value}") for value, _ in sessions]

    assert {body for _, body in sessions} == {"0", "1", "2"}
    assert [body for _, _, body in again] == [body for _, body in sessions]
    assert [fields["x-number"] for _, fields in sockets] == [body for _, body in sessions]
    assert not any("set-cookie" in fields for _, fields, *_ in [*again, *sockets])


@pytest.mark.parametrize(("policy", "move"), [(BALANCED, True), (PERSISTENT, False)], ids=["balanced", "persistent"])
async def test_endpoint_that_comes_takes_its_share_of_sessions_where_they_are_balanced(policy: CookieAffinity, move: bool) -> None:
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three[:2]), policies=(policy,)))
        sessions = [(value_of(fields), body) for _, fields, body in [await get(proxy) for _ in range(60)]]
        proxy.serves(serving(*(at(one.port) for one in three), policies=(policy,)))
        later = [await get(proxy, "/", f"Cookie: INGRESSCOOKIE={value}") for value, _ in sessions]
        moved = [value_of(fields) for _, fields, body in later if body == "2"]
        again = [(await get(proxy, "/", f"Cookie: INGRESSCOOKIE={value}"))[1:] for value in moved]

    assert all(body in (before, "2") for (_, before), (_, _, body) in zip(sessions, later, strict=True))
    assert bool(moved) is move
    assert ["set-cookie" in fields for _, fields, _ in later] == [body == "2" for _, _, body in later]
    assert [(body, "set-cookie" in fields) for fields, body in again] == [("2", False)] * len(moved)


@pytest.mark.parametrize("policy", [BALANCED, PERSISTENT], ids=["balanced", "persistent"])
async def test_session_of_a_dead_endpoint_gets_another_and_a_new_cookie(policy: CookieAffinity) -> None:
    async with proxying() as proxy, backends(2) as two:
        proxy.serves(serving(*(at(one.port) for one in two), policies=(policy,)))
        _, fields, first = await get(proxy)
        old = value_of(fields)
        await two[int(first)].backend.gone()
        status, fields, second = await get(proxy, "/", f"Cookie: INGRESSCOOKIE={old}")

    assert (status, second) == (200, str(1 - int(first)))
    assert value_of(fields) != old


async def test_value_of_ingress_nginx_is_hashed_where_sessions_are_balanced() -> None:
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(BALANCED,)))
        answers = [await get(proxy, "/", f"Cookie: INGRESSCOOKIE={THEIRS}{n % 20}") for n in range(40)]
        seen = [head for one in three for head in one.seen]

    bodies = [body for _, _, body in answers]
    assert bodies[:20] == bodies[20:]
    assert set(bodies) == {"0", "1", "2"}
    assert not any("set-cookie" in fields for _, fields, _ in answers)
    assert all(b"\r\nCookie: INGRESSCOOKIE=" + THEIRS.encode() in head for head in seen)


async def test_value_of_ingress_nginx_is_replaced_where_sessions_are_persistent() -> None:
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(PERSISTENT,)))
        _, fields, first = await get(proxy, "/", f"Cookie: INGRESSCOOKIE={THEIRS}")
        again = [(await get(proxy, "/", f"Cookie: INGRESSCOOKIE={value_of(fields)}"))[2] for _ in range(4)]

    assert again == [first] * 4


async def test_key_that_a_client_makes_up_is_served() -> None:
    values = [f"s1.{'f' * 32}", f"s1.{'0' * 32}", "s1.", "s1." + "f" * 31, "\xe9" * 40]
    async with proxying() as proxy, backends(2) as two:
        proxy.serves(serving(*(at(one.port) for one in two), policies=(BALANCED,)))
        statuses = [(await get(proxy, "/", f"Cookie: INGRESSCOOKIE={value}"))[0] for value in values]

    assert statuses == [200] * len(values)
