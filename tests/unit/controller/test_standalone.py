"""What `sluice standalone` says of the objects in its log."""

import logging

import pytest

from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from controller.standalone import MOST_LOGGED, ProblemLog


def problem(number: int) -> Problem:
    return Problem(
        ObjectRef("WsRoute", "default", f"chat-{number:03}"), Reason.INVALID_SPEC, "spec.rules", f"spec.rules: {number}."
    )


def test_each_problem_is_said_when_it_appears_and_counted_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sluice.controller")
    problem_log = ProblemLog()
    for problems in ((), (problem(1),), (problem(1),), (problem(2), problem(1)), (problem(2),), (problem(2), problem(1))):
        problem_log.log(problems)

    first, second = (f"reason=InvalidSpec WsRoute default/chat-00{number}: spec.rules: {number}." for number in (1, 2))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", first),
        ("WARNING", second),
        ("INFO", "problems=1 solved=1"),
        ("WARNING", first),
    ]


def test_of_very_many_problems_the_log_counts_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    problem_log = ProblemLog()
    problem_log.log(tuple(problem(number) for number in range(MOST_LOGGED + 3)))

    said = [record.getMessage() for record in caplog.records]
    assert len(said) == MOST_LOGGED + 1
    assert said[0].startswith("reason=InvalidSpec WsRoute default/chat-000: ")
    assert said[-1] == "problems=3 more, which /problems of the admin port lists"


def test_notes_are_said_like_problems_but_warn_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sluice.controller")
    noter = ProblemLog(note=True)
    for notes in ((problem(1),), (problem(1),), ()):
        noter.log(notes)

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "reason=InvalidSpec WsRoute default/chat-001: spec.rules: 1."),
        ("INFO", "notes=0 solved=1"),
    ]
