"""What it takes to leave an endpoint out, for how long, and when it is trusted again."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.health import CONNECT_FAILURES, ERRORS, FIRST_SECONDS, MOST_SECONDS, Health


def test_endpoint_is_left_out_after_connects_that_failed_in_a_row() -> None:
    health = Health()

    assert [health.refused() for _ in range(CONNECT_FAILURES)] == [False, False, True]


def test_endpoint_is_left_out_after_errors_in_a_row() -> None:
    health = Health()

    assert [health.answered(500, 0.0) for _ in range(ERRORS)] == [False] * (ERRORS - 1) + [True]


def test_one_good_answer_forgives_what_came_before() -> None:
    health = Health()
    for _ in range(ERRORS - 1):
        health.answered(503, 0.0)
    health.answered(404, 0.0)

    assert [health.answered(500, 0.0) for _ in range(ERRORS - 1)] == [False] * (ERRORS - 1)


def test_nothing_is_held_against_an_endpoint_that_answers_well_again() -> None:
    health = Health()
    health.answered(500, 0.0)
    assert health.marked
    health.answered(200, 0.0)

    assert not health.marked


def test_first_failure_on_probation_leaves_it_out_for_longer() -> None:
    health = Health()
    assert health.eject() == FIRST_SECONDS
    health.readmit(100.0)

    assert health.answered(502, 100.0)
    assert health.eject() == 2 * FIRST_SECONDS
    health.readmit(200.0)
    assert health.refused()
    assert health.eject() == 4 * FIRST_SECONDS


def test_time_of_good_answers_as_long_as_the_last_absence_makes_it_as_good_as_new() -> None:
    health = Health()
    health.eject()
    health.readmit(100.0)
    health.answered(200, 100.0)
    assert health.marked
    health.answered(200, 100.0 + FIRST_SECONDS)

    assert not health.marked
    assert health.eject() == FIRST_SECONDS


@given(st.integers(1, 3000))
def test_absence_is_bounded(times: int) -> None:
    health = Health()
    for _ in range(times):
        seconds = health.eject()

    assert FIRST_SECONDS <= seconds <= MOST_SECONDS
