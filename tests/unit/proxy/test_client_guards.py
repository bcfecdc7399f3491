"""Networks and origins against oracles that look at every entry, one after the other."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.filters.client_addresses import compile_client_addresses
from proxy.filters.order import FilterSettings, compile_filters
from proxy.filters.origins import compile_origins
from proxy.http.addresses import Networks
from proxy.http.message import Client, Request
from proxy.model.policy import AllowedOrigins, ClientAddresses, HttpsRedirect, Timeouts
from proxy.shared_memory.counters import Counters

# Few distinct bits, so that networks and addresses meet.
V4 = st.integers(0, 3).flatmap(lambda low: st.sampled_from([low, low << 30, (low << 30) | low, 10 << 24 | low]))
V6 = st.integers(0, 3).flatmap(lambda low: st.sampled_from([low, low << 126, (low << 126) | low, 0xFD << 120 | low]))
ADDRESSES = st.one_of(V4.map(ipaddress.IPv4Address), V6.map(ipaddress.IPv6Address))
CIDRS = st.one_of(
    st.tuples(V4.map(ipaddress.IPv4Address), st.sampled_from([0, 1, 2, 8, 30, 31, 32])),
    st.tuples(V6.map(ipaddress.IPv6Address), st.sampled_from([0, 1, 2, 8, 126, 127, 128])),
).map(lambda pair: f"{pair[0]}/{pair[1]}")


def request(address: str = "192.0.2.1", *origins: str, upgrade: bool = True) -> Request:
    lines = [b"Host: a.test", *(b"Origin: " + origin.encode("latin-1") for origin in origins)]
    found = Request(Client(peer="127.0.0.1"), "GET", "/", 11, "a.test", "a.test", lines, upgrade=upgrade)
    found.address = address
    return found


def status(verdict: object) -> int:
    return getattr(verdict, "status", 200)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(CIDRS, max_size=6), ADDRESSES)
def test_network_covers_what_the_standard_library_says(
    cidrs: list[str], address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    expected = any(address in ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)

    assert Networks(cidrs).covers(address.packed) == expected


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(CIDRS, max_size=4), st.lists(CIDRS, max_size=4), ADDRESSES)
def test_client_is_served_if_allowed_and_not_denied(
    allow: list[str], deny: list[str], address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    def listed(cidrs: list[str]) -> bool:
        return any(address in ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)

    judge = compile_client_addresses(ClientAddresses(tuple(allow), tuple(deny)))
    expected = 200 if (not allow or listed(allow)) and not listed(deny) else 403

    assert status(judge(request(str(address)))) == expected


@pytest.mark.parametrize("policy", [ClientAddresses(allow=("0.0.0.0/0", "::/0")), ClientAddresses(deny=("10.0.0.0/8",))])
@pytest.mark.parametrize("text", ["", "unknown", "_hidden", "192.0.2.1:x"])
def test_client_without_an_address_is_refused(policy: ClientAddresses, text: str) -> None:
    assert status(compile_client_addresses(policy)(request(text))) == 403


LABELS = st.sampled_from(["a", "b", "app", "a-b"])
HOSTS = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
SCHEMES = st.sampled_from(["https", "http", "wss", "capacitor"])
PORTS = st.sampled_from(["", "", ":80", ":443", ":8080"])
DEFAULTS = {"http": "80", "https": "443", "wss": "443"}


def parts(origin: str) -> tuple[str, list[str], str]:
    scheme, rest = origin.lower().split("://")
    host, _, port = rest.partition(":")
    return scheme, host.split("."), port or DEFAULTS.get(scheme, "")


def oracle(listed: str, said: str) -> bool:
    scheme, labels, port = parts(listed)
    if (scheme, port) != parts(said)[::2]:
        return False
    found = parts(said)[1]
    return found[1:] == labels[1:] and len(found) > 1 if labels[0] == "*" else found == labels


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.tuples(SCHEMES, st.sampled_from(["", "*."]), HOSTS, PORTS).map(lambda made: f"{made[0]}://{''.join(made[1:])}"),
        max_size=4,
    ),
    st.tuples(SCHEMES, HOSTS, PORTS).map(lambda made: f"{made[0]}://{made[1]}{made[2]}"),
    st.booleans(),
)
def test_origin_is_let_in_if_a_listed_one_is_it(listed: list[str], said: str, upper: bool) -> None:
    judge = compile_origins(AllowedOrigins(tuple(listed)))
    expected = 200 if any(oracle(one, said) for one in listed) else 403

    assert status(judge(request("192.0.2.1", said.upper() if upper else said))) == expected


@pytest.mark.parametrize(
    "origins",
    [
        *((), ("null",), ("",), ("https://a.test", "https://a.test"), ("https://a.test https://a.test",), ("https://a.test/",)),
        *(("https://a.test.evil.test",), ("https://evil.test/https://a.test",), ("https://a.test@evil.test",), ("//a.test",)),
        *(("https://evila.test",), ("https://x.y.b.test",), ("https://b.test",), ("https://.b.test",), ("https://a.test:444",)),
        *(("https://a.test\u00a0",), ("http://a.test",), ("https://*.b.test",)),
    ],
)
def test_origin_that_only_looks_like_a_listed_one_is_refused(origins: tuple[str, ...]) -> None:
    judge = compile_origins(AllowedOrigins(("https://a.test", "https://*.b.test")))

    assert status(judge(request("192.0.2.1", *origins))) == 403


def test_origin_of_an_ordinary_request_is_not_looked_at() -> None:
    judge = compile_origins(AllowedOrigins(("https://a.test",)))

    assert judge(request("192.0.2.1", "https://evil.test", upgrade=False)) is None


@pytest.mark.parametrize("policy", [ClientAddresses(allow=("10.0.0.0/33",)), ClientAddresses(deny=("",)), AllowedOrigins(("x",))])
def test_guard_that_cannot_be_read_does_not_compile(policy: ClientAddresses | AllowedOrigins) -> None:
    with pytest.raises(ValueError, match=r"no origin|does not appear|not permitted"):
        compile_filters([policy], FilterSettings(443, Counters(1)))


def test_filters_stand_in_the_order_of_the_table() -> None:
    policies = [AllowedOrigins(("https://a.test",)), Timeouts(), ClientAddresses(deny=("192.0.2.1/32",)), HttpsRedirect()]
    filters = compile_filters(policies, FilterSettings(443, Counters(1)))
    said = request("192.0.2.1", "https://evil.test")
    answers = [getattr(one(said), "message", None) for one in filters]

    assert answers == [
        "This host is served over https.",
        "This address may not use this route.",
        "Pages of this origin may not open WebSockets here.",
    ]
