"""The table of sessions: known to every worker, bounded, and safe to read while it is written."""

import os

import pytest

import proxy.shared_memory.session_table
from proxy.shared_memory.session_table import REFRESH_SECONDS, REGION_BYTES, SessionTable, endpoint_id
from proxy.upstream.engine_io import read_open_packet

HERE, THERE = endpoint_id("10.0.0.1", 80), endpoint_id("10.0.0.2", 80)


def seen_by(table: SessionTable, region: int) -> SessionTable:
    """The table as the worker of a region has it after the fork."""
    table.region = region
    return table


def test_session_is_known_to_all_workers() -> None:
    one = SessionTable(3)
    one.learn("shop", "abc", HERE, 100.0)

    assert [seen_by(one, region).find("shop", "abc", 100.0) for region in range(3)] == [HERE] * 3
    assert one.find("other", "abc", 100.0) is None
    assert one.find("shop", "abcd", 100.0) is None


def test_session_that_a_forked_worker_learned_outlives_it() -> None:
    table = SessionTable(2)
    pid = os.fork()
    if pid == 0:
        table.region = 1
        table.learn("shop", "abc", HERE, 100.0)
        os._exit(0)
    os.waitpid(pid, 0)

    assert table.find("shop", "abc", 100.0) == HERE


def test_session_that_is_learned_again_is_where_it_was_learned_last() -> None:
    table = SessionTable(2)
    table.learn("shop", "abc", HERE, 100.0)
    seen_by(table, 1).learn("shop", "abc", THERE, 101.0)

    assert [seen_by(table, region).find("shop", "abc", 101.0) for region in range(2)] == [THERE, THERE]


def test_table_is_bounded_and_forgets_who_was_silent_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy.shared_memory.session_table, "BUCKETS", 1)
    table = SessionTable(1)
    for number in range(8):
        table.learn("shop", str(number), HERE, 100.0 + number)
    assert table.find("shop", "0", 100.0 + REFRESH_SECONDS) == HERE
    for number in range(8, 12):
        table.learn("shop", str(number), THERE, 200.0 + number)

    known = [number for number in range(12) if table.find("shop", str(number), 300.0) is not None]
    assert known == [0, 5, 6, 7, 8, 9, 10, 11]


def test_entry_that_is_half_written_counts_as_not_there() -> None:
    table = SessionTable(1)
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


def test_session_of_half_a_character_is_remembered_as_any_other() -> None:
    sid, _ = read_open_packet(b'0{"sid":"\\ud800"}')
    table = SessionTable(1)
    table.learn("shop", sid, HERE, 100.0)

    assert table.find("shop", sid, 100.0) == HERE
