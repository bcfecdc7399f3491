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


def make_verdict(problems: Iterable[Problem], *, served: bool) -> Verdict:
    """Say what became of an object: `served` is whether anything of it is."""
    found = tuple(sorted(set(problems)))
    own = [problem for problem in found if problem.reason not in RESOLUTION]
    refs = [problem for problem in found if problem.reason in RESOLUTION]
    if not own:
        accepted = Condition("Accepted", "True", "Accepted", "The object is accepted.")
    else:
        accepted = Condition("Accepted", "True" if served else "False", own[0].reason, " ".join(p.message for p in own))
    if not refs:
        resolved = Condition("ResolvedRefs", "True", "ResolvedRefs", "All references are resolved.")
    else:
        resolved = Condition("ResolvedRefs", "False", refs[0].reason, " ".join(p.message for p in refs))
    return Verdict(accepted, resolved, found)
