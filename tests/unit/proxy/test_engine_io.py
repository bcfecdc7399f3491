"""Session ids of Engine.IO: read from the handshake's answer, known to every worker, bounded."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxy.upstream.engine_io
from proxy.upstream.engine_io import PACKET_LIMIT, REFRESH_SECONDS, REGION_BYTES, SidTable, endpoint_id, read_open_packet, sid_of

HERE, THERE = endpoint_id("10.0.0.1", 80), endpoint_id("10.0.0.2", 80)


def seen_by(table: SidTable, region: int) -> SidTable:
    """The table as the worker of a region has it after the fork."""
    table.region = region
    return table


def test_sid_is_known_to_all_workers() -> None:
    one = SidTable(3)
    one.learn("shop", "abc", HERE, 100.0)

    assert [seen_by(one, region).find("shop", "abc", 100.0) for region in range(3)] == [HERE] * 3
    assert one.find("other", "abc", 100.0) is None
    assert one.find("shop", "abcd", 100.0) is None


def test_sid_that_a_forked_worker_learned_outlives_it() -> None:
    table = SidTable(2)
    pid = os.fork()
    if pid == 0:
        table.region = 1
        table.learn("shop", "abc", HERE, 100.0)
        os._exit(0)
    os.waitpid(pid, 0)

    assert table.find("shop", "abc", 100.0) == HERE


def test_sid_that_is_learned_again_is_where_it_was_learned_last() -> None:
    table = SidTable(2)
    table.learn("shop", "abc", HERE, 100.0)
    seen_by(table, 1).learn("shop", "abc", THERE, 101.0)

    assert [seen_by(table, region).find("shop", "abc", 101.0) for region in range(2)] == [THERE, THERE]


def test_table_is_bounded_and_forgets_who_was_silent_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy.upstream.engine_io, "BUCKETS", 1)
    table = SidTable(1)
    for number in range(8):
        table.learn("shop", str(number), HERE, 100.0 + number)
    assert table.find("shop", "0", 100.0 + REFRESH_SECONDS) == HERE
    for number in range(8, 12):
        table.learn("shop", str(number), THERE, 200.0 + number)

    known = [number for number in range(12) if table.find("shop", str(number), 300.0) is not None]
    assert known == [0, 5, 6, 7, 8, 9, 10, 11]


def test_slot_that_is_half_written_counts_as_not_there() -> None:
    table = SidTable(1)
    table.learn("shop", "abc", HERE, 100.0)
    whole = bytes(table._memory[:REGION_BYTES])
    table.learn("shop", "abc", THERE, 101.0)
    other = bytes(table._memory[:REGION_BYTES])
    places = [place for place in range(REGION_BYTES) if whole[place] != other[place]]
    found = []
    for cut in places[1:]:
        table._memory[:REGION_BYTES] = other[:cut] + whole[cut:]
        found.append(table.find("shop", "abc", 101.0))

    assert len(places) > 16
    assert set(found) == {None}


@given(st.dictionaries(st.text(max_size=8), st.integers(), max_size=5), st.text(min_size=1, max_size=20), st.integers(0, 400))
def test_open_packet_is_read_however_much_of_it_is_there(rest: dict[str, int], sid: str, cut: int) -> None:
    packet = ("0" + json.dumps({**rest, "sid": sid})).encode()
    early = packet[:cut]

    assert read_open_packet(packet) == (sid, False)
    assert read_open_packet(packet + b"\x1e40") == (sid, False)
    assert read_open_packet(early) == ((sid, False) if cut >= len(packet) else ("", True))


def test_sid_of_half_a_character_is_remembered_as_any_other() -> None:
    sid, _ = read_open_packet(b'0{"sid":"\\ud800"}')
    table = SidTable(1)
    table.learn("shop", sid, HERE, 100.0)

    assert table.find("shop", sid, 100.0) == HERE


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
