"""What it takes to leave an endpoint out, whose word counts, for how long it is gone, and when it is trusted again."""

import sys
from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.outlier_detection import (
    CONNECT_FAILURES,
    ERRORS,
    FIRST_SECONDS,
    MOST_SECONDS,
    NETWORKS,
    REMEMBERED,
    SUCCESSES_PER_SECOND,
    WITHIN,
    OutlierDetection,
)

A, B, C, OTHER = b"a", b"b", b"c", b"other"
START = 1000.0


def fails(health: OutlierDetection, count: int = ERRORS, networks: tuple[bytes, ...] = (A, B, C), now: float = START) -> list[bool]:
    """Let networks meet errors in turn."""
    return [health.record_error(network, now) for network, _ in zip(cycle(networks), range(count), strict=False)]


def test_endpoint_is_left_out_after_connects_that_failed_in_a_row() -> None:
    health = OutlierDetection()

    assert [health.record_connect_failure() for _ in range(CONNECT_FAILURES)] == [False, False, True]


def test_answer_between_connects_that_failed_begins_a_new_row() -> None:
    health = OutlierDetection()
    found = [health.record_connect_failure() for _ in range(CONNECT_FAILURES - 1)]
    health.record_success(A, START)

    assert [*found, health.record_connect_failure()] == [False] * CONNECT_FAILURES


def test_endpoint_is_left_out_after_errors_in_a_row_that_three_networks_met() -> None:
    assert fails(OutlierDetection()) == [False] * (ERRORS - 1) + [True]


def test_errors_of_fewer_networks_count_for_nothing_however_many_there_are() -> None:
    health = OutlierDetection()

    assert not any(fails(health, 1000, (A, B)))
    assert health.record_error(C, START)


def test_errors_count_for_as_long_as_three_networks_met_them_lately() -> None:
    health = OutlierDetection()
    for network, ago in ((A, WITHIN), (B, WITHIN - 1), (B, 2), (B, 1)):
        health.record_error(network, START - ago)
    late = health.record_error(C, START)
    again = health.record_error(A, START + 1)

    assert (late, again) == (False, True)


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.booleans(), st.floats(0, 20))))
def test_two_networks_do_what_they_like_and_nothing_is_left_out(events: list[tuple[bytes, bool, float]]) -> None:
    health, now, found = OutlierDetection(), START, False
    for network, good, later in events:
        now += later
        if good:
            health.record_success(network, now)
        else:
            found |= health.record_error(network, now)

    assert not found


def test_one_good_answer_forgives_what_came_before() -> None:
    health = OutlierDetection()
    fails(health, ERRORS - 1)
    health.record_success(A, START)

    assert fails(health, ERRORS - 1) == [False] * (ERRORS - 1)


def test_endpoint_that_served_another_network_is_not_left_out_until_that_is_long_enough_ago() -> None:
    health = OutlierDetection()
    health.record_success(OTHER, START)

    assert not any(fails(health, 100, now=START + WITHIN - 0.1))
    assert health.record_error(A, START + WITHIN)


def test_networks_that_meet_errors_now_are_no_others_however_well_they_were_served() -> None:
    health = OutlierDetection()
    for network in (A, B, C):
        health.record_success(network, START)

    assert fails(health) == [False] * (ERRORS - 1) + [True]


def test_network_that_is_served_after_its_error_is_another_one() -> None:
    """So that errors which everybody meets now and then add up to nothing."""
    health = OutlierDetection()
    fails(health, 2, (A, B))
    health.record_success(A, START)

    assert not any(fails(health, 100, (B, C, b"d"), START + 1))


@given(st.integers(1, 1000), st.integers(1, 2**48))
def test_good_answers_to_any_number_of_networks_hide_no_other(count: int, first: int) -> None:
    """Memory is bounded, and who floods it with networks that then meet errors has won nothing."""
    health = OutlierDetection()
    health.record_error(A, START)  # from now on, every good answer is reported
    health.record_success(OTHER, START)
    names = [number.to_bytes(7) for number in range(first, first + count)]
    for name in names:
        health.record_success(name, START + 1)
    found = fails(health, 2 * count + ERRORS, tuple(names), START + 2)

    assert not any(found)
    assert any(fails(health, ERRORS, (A, B, C), START + WITHIN + 3))


def test_memory_is_bounded_whatever_networks_come() -> None:
    health = OutlierDetection()
    for number in range(10_000):
        health.record_success(number.to_bytes(6), START)
        health.record_error(number.to_bytes(6), START)
        health.record_error(b"x" + number.to_bytes(6), START)
    for number in range(10_000):
        health.record_success(number.to_bytes(6), START)
        kept = [value for name in ("_failing_networks", "_served_networks") for value in getattr(health, name)]
        assert len(kept) <= NETWORKS + REMEMBERED

    assert sum(sys.getsizeof(getattr(health, name)) for name in ("_failing_networks", "_served_networks")) < 2000


def test_nothing_is_held_against_an_endpoint_that_answers_well_again() -> None:
    health = OutlierDetection()
    health.record_error(A, START)
    assert health.suspect
    health.record_success(A, START)

    assert not health.suspect


def test_good_answers_are_looked_at_a_few_times_a_second_while_nothing_is_held_against_an_endpoint() -> None:
    health = OutlierDetection()
    looked = []
    for number in range(3000):
        now = START + number / 1000
        if now >= health.successes_from:
            looked.append(number)
            health.record_success(A, now)

    assert looked == [
        *range(SUCCESSES_PER_SECOND),
        *range(1000, 1000 + SUCCESSES_PER_SECOND),
        *range(2000, 2000 + SUCCESSES_PER_SECOND),
    ]


def test_every_good_answer_is_looked_at_where_there_are_few_and_from_the_first_failure_on() -> None:
    health = OutlierDetection()
    for number in range(SUCCESSES_PER_SECOND):
        assert health.successes_from <= START, number
        health.record_success(A, START)
    for mark in (lambda: health.record_error(A, START), health.record_connect_failure):
        assert health.successes_from > START
        mark()
        assert health.successes_from <= START
        health.record_success(A, START)
    few = OutlierDetection()
    for number in range(100):
        now = START + number / (SUCCESSES_PER_SECOND - 1)
        assert now >= few.successes_from
        few.record_success(A, now)


def test_first_failure_on_probation_leaves_it_out_for_longer() -> None:
    health = OutlierDetection()
    assert health.eject() == FIRST_SECONDS
    health.readmit(START)

    assert fails(health, NETWORKS) == [False, False, True]
    assert health.eject() == 2 * FIRST_SECONDS
    health.readmit(START + 100)
    assert health.record_connect_failure()
    assert health.eject() == 4 * FIRST_SECONDS


def test_one_client_ends_no_probation() -> None:
    health = OutlierDetection()
    fails(health)
    health.eject()
    health.readmit(START + FIRST_SECONDS)

    assert not any(fails(health, 100, (A,), START + FIRST_SECONDS))


def test_time_of_good_answers_as_long_as_the_last_absence_makes_it_as_good_as_new() -> None:
    health = OutlierDetection()
    health.eject()
    health.readmit(START)
    for number in range(2 * SUCCESSES_PER_SECOND):
        assert health.successes_from <= START, number
        health.record_success(A, START)
    assert health.suspect
    health.record_success(A, START + FIRST_SECONDS)

    assert not health.suspect
    assert health.eject() == FIRST_SECONDS


@given(st.integers(1, 3000))
def test_absence_is_bounded(times: int) -> None:
    health = OutlierDetection()
    for _ in range(times):
        seconds = health.eject()

    assert FIRST_SECONDS <= seconds <= MOST_SECONDS
