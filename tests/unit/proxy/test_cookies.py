"""Cookies of requests: found and taken away, and nothing else touched."""

import http.cookies

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.cookies import find_cookie, without_cookie

NAMES = st.text("abcXY_-", min_size=1, max_size=3)
VALUES = st.text("abc123.=", max_size=4)


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        (["a=1; b=2"], "1"),
        (["b=2;a=1"], "1"),
        (["b=2", "a=1"], "1"),
        (["aa=1; ba=2"], None),
        (["a"], None),
        (["a=; b=2"], ""),
        (["a=x=y"], "x=y"),
        (["a=1; a=2"], "1"),
        ([], None),
    ],
)
def test_cookie_is_found_by_its_name(fields: list[str], value: str | None) -> None:
    assert find_cookie(fields, "a") == value


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6, unique_by=lambda pair: pair[0]), NAMES)
def test_cookie_is_what_the_standard_library_reads(pairs: list[tuple[str, str]], name: str) -> None:
    field = "; ".join(f"{key}={value}" for key, value in pairs)
    reference = http.cookies.SimpleCookie(field)

    assert find_cookie([field], name) == (reference[name].value if name in reference else None)


@pytest.mark.parametrize(
    ("field", "left"),
    [
        (b"Cookie: a=1; s=x; b=2", b"Cookie: a=1; b=2\r\n"),
        (b"cookie:s=x", b""),
        (b"Cookie: s=x; s=x", b""),
        (b"Cookie: s=y", b"Cookie: s=y\r\n"),
        (b"X-Cookie: s=x", b"X-Cookie: s=x\r\n"),
    ],
)
def test_cookie_is_taken_away_alone(field: bytes, left: bytes) -> None:
    lines = b"Host: a\r\n" + field + b"\r\nX-Real-IP: s=x\r\n"

    assert without_cookie(lines, "s", "x") == b"Host: a\r\n" + left + b"X-Real-IP: s=x\r\n"
