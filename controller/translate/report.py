"""Verdicts: what the owner of an object is told, as conditions and problems."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from controller.resources.problems import Problem, Reason

RESOLUTION = frozenset(
    (
        Reason.BACKEND_NOT_FOUND,
        Reason.PORT_NOT_FOUND,
        Reason.SECRET_NOT_FOUND,
        Reason.SECRET_INVALID,
        Reason.REF_NOT_PERMITTED,
    )
)
"""Reasons that concern what an object refers to; the others concern the object itself."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of an object's status."""

    type: Literal["Accepted", "ResolvedRefs"]
    status: Literal["True", "False"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one object."""

    accepted: Condition
    resolved_refs: Condition
    problems: tuple[Problem, ...]


ACCEPTED = Condition("Accepted", "True", "Accepted", "The object is accepted.")
RESOLVED = Condition("ResolvedRefs", "True", "ResolvedRefs", "All references are resolved.")
GOOD = Verdict(ACCEPTED, RESOLVED, ())
"""The verdict of an object with which nothing is wrong."""

KEPT = "Until then the last version that could be read is served."


def make_verdict(problems: Iterable[Problem], *, served: bool, kept: bool = False) -> Verdict:
    """Say what became of an object. `served`: something of it is, as it is written now; `kept`: as it was written before."""
    found = tuple(sorted(set(problems)))
    if not found:
        return GOOD
    own = [problem for problem in found if problem.reason not in RESOLUTION]
    refs = [problem for problem in found if problem.reason in RESOLUTION]
    accepted, resolved = ACCEPTED, RESOLVED
    if own:
        message = f"{_text(own)} {KEPT}" if kept else _text(own)
        accepted = Condition("Accepted", "True" if served else "False", own[0].reason, message)
    if refs:
        resolved = Condition("ResolvedRefs", "False", refs[0].reason, _text(refs))
    return Verdict(accepted, resolved, found)


def _text(problems: Iterable[Problem]) -> str:
    return " ".join(problem.message for problem in problems)
