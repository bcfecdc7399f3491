"""Verdicts: what becomes of an object, as conditions and problems."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from controller.resources.reading.guard_faults import WITHHELD
from controller.resources.reading.problems import Problem, Reason

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
NO_PROBLEMS = Verdict(ACCEPTED, RESOLVED, ())
"""The verdict of an object with which nothing is wrong."""

LAST_SERVED = "Until then the last version that could be read is served."
LAST_USED = "Until then the last version that could be read is used."
"""The same of an object that others refer to."""
LAST_ANSWERS_500 = "Until then the last version that could be read answers 500, as it lacks a protection that this one asks for."
_SUFFIXES = (LAST_SERVED, LAST_USED, LAST_ANSWERS_500, WITHHELD)


def make_verdict(problems: Iterable[Problem], *, served: bool) -> Verdict:
    """Say what became of an object. `served`: something of it is, as it is written now."""
    ordered = tuple(sorted(set(problems)))
    if not ordered:
        return NO_PROBLEMS
    own = [problem for problem in ordered if problem.reason not in RESOLUTION]
    refs = [problem for problem in ordered if problem.reason in RESOLUTION]
    accepted, resolved = ACCEPTED, RESOLVED
    if own:
        accepted = Condition("Accepted", "True" if served else "False", own[0].reason, join_messages(own))
    if refs:
        resolved = Condition("ResolvedRefs", "False", refs[0].reason, join_messages(refs))
    return Verdict(accepted, resolved, ordered)


def with_suffix(problems: Iterable[Problem], sentence: str) -> tuple[Problem, ...]:
    """Add a sentence to each message; an empty one adds nothing."""
    return tuple(replace(problem, message=f"{problem.message} {sentence}") if sentence else problem for problem in problems)


def join_messages(problems: Iterable[Problem]) -> str:
    """Join messages; what several of them end with, on what becomes of the object meanwhile, is said once, by the last."""
    texts: list[str] = []
    seen: set[str] = set()
    for message in reversed([problem.message for problem in problems]):
        suffix = next((suffix for suffix in _SUFFIXES if message.endswith(suffix)), "")
        texts.append(message.removesuffix(f" {suffix}") if suffix in seen else message)
        seen |= {suffix} if suffix else set()
    return " ".join(reversed(texts))
