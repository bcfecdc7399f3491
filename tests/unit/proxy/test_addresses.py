"""Addresses as they are written, whose they are behind proxies, and what limits count them under."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http.addresses import MAX_HOPS, Networks, client_behind, limit_key, network_of, packed, written

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None))
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@settings(deadline=None)
@given(ADDRESSES, st.integers(0, 65535))
def test_address_is_read_with_and_without_port_and_written_as_the_standard_library_has_it(address: Address, port: int) -> None:
    bracketed = f"[{address}]" if address.version == 6 else str(address)

    assert [packed(text) for text in (str(address), bracketed, f"{bracketed}:{port}")] == [address.packed] * 3
    assert packed(written(address.packed)) == address.packed
    assert ipaddress.ip_address(written(address.packed)) == address


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_ipv4_written_as_ipv6_is_that_address(address: ipaddress.IPv4Address) -> None:
    mapped = ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
    texts = (str(mapped), mapped.exploded, f"::ffff:{address}", f"[::ffff:{address}]:80", f"::FFFF:{address}%eth0")

    assert [packed(text) for text in texts] == [address.packed] * 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%25eth0.100", "fe80::1"),
        ("[fe80::1%br-\udcff]:1", "fe80::1"),
        ("::", "::"),
        ("[1111:2222:3333:4444:5555:6666:255.255.255.255%abcdefghijklmno]:65535", "1111:2222:3333:4444:5555:6666:ffff:ffff"),
        ("::ffff:0:1.2.3.4", "::ffff:0:102:304"),
    ],
)
def test_zone_is_left_out(text: str, expected: str) -> None:
    found = packed(text)

    assert found is not None
    assert written(found) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "unknown", "_hidden", "10.0.0", "010.0.0.1", "10.0.0.1 ", " 10.0.0.1", "\0", "é", "10.1", "0x0a000001", "167772161"),
        *(
            "\u0661.1.1.1",
            "1.2.3.4\0",
            "[10.0.0.1",
            "[10.0.0.1]",
            "[10.0.0.1]:80",
            "10.0.0.1:",
            "10.0.0.1:-1",
            "10.0.0.1:+1",
            "10.0.0.1: 1",
        ),
        *(
            "10.0.0.1:\u0661",
            "10.0.0.1:123456",
            "10.0.0.1:1:2",
            "10.0.0.1%eth0",
            "::1]",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[::1]:x",
            "[]",
            "[]:1",
        ),
        *(
            "::1%",
            "::1% ",
            "[::1]%eth0",
            "1:2:3:4:5:6:7:8:80",
            ":::",
            '"[::1]:80"',
            "host.test:80",
            "::ffff:1.2.3.4:80",
            "/10.0.0.1",
        ),
        *("\udcff", "::\udcff", "1" * 100_000, "[" * 100_000, "::1%" + "a" * 100_000),
    ],
)
def test_what_is_no_address_in_full_is_none(text: str) -> None:
    assert packed(text) is None


@settings(deadline=None)
@given(st.text(max_size=90))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    found = packed(text)

    assert found is None or len(found) in (4, 16)


def trusts(address: bytes) -> bool:
    return Networks(["10.0.0.0/8", "fd00::/8"]).covers(address)


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:1, [fd00::1]:2,\t10.1.1.1:3 ", "203.0.113.7"),
        ("10.1.1.1, 10.1.1.2", "10.1.1.1"),
        ("203.0.113.7, unknown", "10.0.0.9"),
        ("203.0.113.7, _x, 10.1.1.1", "10.1.1.1"),
        ("203.0.113.7, ::ffff:10.1.1.1", "203.0.113.7"),
        (", ,203.0.113.7,,", "203.0.113.7"),
        ("", "10.0.0.9"),
        (" , ", "10.0.0.9"),
        (", ".join(["203.0.113.7"] + ["10.1.1.1"] * (MAX_HOPS - 1)), "203.0.113.7"),
        (", ".join(["203.0.113.7"] + ["10.1.1.1"] * MAX_HOPS), "10.1.1.1"),
    ],
)
def test_client_is_the_first_hop_from_the_right_that_is_not_trusted(chain: str, client: str) -> None:
    assert client_behind(chain, "10.0.0.9", trusts) == client


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7", "203.0.113.8", False),
        ("203.0.113.7", "::ffff:203.0.113.7", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("2001:db8::1", "203.0.113.7", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
        ("febf::1", "febf::2", False),
        ("fec0::1", "fec0::2", True),
        ("64:ff9b::203.0.113.7", "64:ff9b::203.0.113.8", False),
        ("64:ff9b:1::203.0.113.7", "64:ff9b:1::203.0.113.8", False),
        ("fd00::1", "fd00::2", True),
        ("unknown", "_hidden", True),
        ("unknown", "::", False),
    ],
)
def test_limits_count_ipv6_by_its_network(one: str, other: str, same: bool) -> None:
    assert (limit_key(one) == limit_key(other)) == same


def test_network_of_ipv4_written_as_ipv6_covers_what_it_stands_for() -> None:
    networks = Networks(["::ffff:10.0.0.0/104", "::ffff:192.0.2.1/128", "::/0"])
    covered = [networks.covers(ipaddress.ip_address(text).packed) for text in ("10.9.9.9", "192.0.2.1", "192.0.2.2", "2001:db8::1")]

    assert covered == [True, True, False, True]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("192.0.2.1", "::ffff:192.0.2.9", True),
        ("2001:db8:1::1", "2001:db8:1:ffff::1", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("192.0.2.1", "c000:2ff::1", False),
        ("", "192.0.2.1", False),
    ],
)
def test_network_is_the_24_of_ipv4_and_the_48_of_ipv6(one: str, other: str, *, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same
