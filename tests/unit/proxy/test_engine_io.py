"""Session ids of Engine.IO: read from the handshake's answer and from requests."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.engine_io import PACKET_LIMIT, read_open_packet, sid_of


@given(st.dictionaries(st.text(max_size=8), st.integers(), max_size=5), st.text(min_size=1, max_size=20), st.integers(0, 400))
def test_open_packet_is_read_however_much_of_it_is_there(rest: dict[str, int], sid: str, cut: int) -> None:
    packet = ("0" + json.dumps({**rest, "sid": sid})).encode()
    early = packet[:cut]

    assert read_open_packet(packet) == (sid, False)
    assert read_open_packet(packet + b"\x1e40") == (sid, False)
    assert read_open_packet(early) == ((sid, False) if cut >= len(packet) else ("", True))


@given(st.binary(max_size=PACKET_LIMIT + 50))
def test_bytes_of_any_kind_are_no_trouble(data: bytes) -> None:
    sid, more = read_open_packet(data)

    assert not (sid and more)
    assert not more or len(data) < PACKET_LIMIT


@pytest.mark.parametrize(
    "data", [b'1{"sid":"a"}', b'0[{"sid":"a"}]', b'0{"sid":5}', b'0{"sid":""}', b'0{"a":"sid"}', b"<html>0{...", b"0" * 2000]
)
def test_what_is_no_open_packet_gives_no_sid(data: bytes) -> None:
    assert read_open_packet(data) == ("", False)


@pytest.mark.parametrize(
    ("query", "sid"),
    [
        ("EIO=4&transport=polling", ""),
        ("EIO=4&transport=polling&t=x&sid=abc", "abc"),
        ("sid=abc&EIO=3", "abc"),
        ("sid=abc", None),
        ("xEIO=4&sid=abc", None),
        ("EIO=4&xsid=abc", ""),
        ("", None),
    ],
)
def test_sid_of_a_request_is_in_its_query(query: str, sid: str | None) -> None:
    assert sid_of(query) == sid
