"""Guards of a WsRoute's rule that cannot be carried out: which fields guard, and what becomes of the rule."""

import re
from dataclasses import dataclass, replace

from controller.resources.reading.problems import Problem

WITHHELD = "Until then the routes that it protects answer 500."
_GUARD_FIELD = re.compile(r"spec\.rules\[([0-9]+)\]\.((?:auth|origin|allow|deny|limit)\w*)", re.ASCII | re.IGNORECASE)
"""A field that is not known and begins like a guard is a misspelt one, or one of a later version."""


@dataclass(frozen=True, slots=True)
class GuardField:
    """A field of a WsRoute's rule that guards it."""

    rule: int
    name: str


def guard_of(field: str) -> GuardField | None:
    """Return the guard that a field is, or is a part of; None: it guards nothing."""
    match = _GUARD_FIELD.match(field)
    return None if match is None else GuardField(int(match[1]), match[2])


def withheld(problem: Problem) -> Problem:
    """Add to the problem of a guard what becomes of its rule."""
    return replace(problem, message=f"{problem.message} {WITHHELD}")
