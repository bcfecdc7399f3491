"""The conditions of a WsRoute: what is to stand in its status, and whether that differs from what does. Pure.

All three are always there, each with the generation that it is said of (docs/troubleshooting.md, 'Every reason').
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from controller.resources.reading.stored_status import ObservedCondition
from controller.translate.verdicts import Verdict

MAX_MESSAGE = 32768
"""What the CRD's schema takes."""
OURS = ("Accepted", "ResolvedRefs", "Programmed")


@dataclass(frozen=True, slots=True)
class Programmed:
    """Whether the proxy serves what an object says now."""

    status: Literal["True", "False"]
    reason: Literal["Programmed", "Pending", "Rejected"]
    message: str


SERVED = Programmed("True", "Programmed", "Every worker of the proxy serves this generation.")
PENDING = Programmed("False", "Pending", "The proxy has not acknowledged this generation yet.")
NOT_ACCEPTED = Programmed("False", "Rejected", "Nothing of this generation is served; the condition Accepted says why.")


def rejected(reasons: Mapping[str, str]) -> Programmed:
    """Say that the proxy could not compile routes, named with why."""
    told = " ".join(f"{route}: {reason}." for route, reason in sorted(reasons.items()))
    return Programmed("False", "Rejected", f"The proxy answers 500 for what it could not compile. {told}")


def make_conditions(
    verdict: Verdict, programmed: Programmed, generation: int, observed: Iterable[ObservedCondition], now: str
) -> list[dict[str, object]] | None:
    """Return the conditions to write, other writers' kept as they are; None: the same stand there already.

    `now`: RFC 3339, for conditions whose status changes.
    """
    there = {condition.type: condition for condition in observed}
    wanted: list[tuple[str, str, str, str]] = [
        (one.type, one.status, one.reason, one.message[:MAX_MESSAGE]) for one in (verdict.accepted, verdict.resolved_refs)
    ]
    wanted.append(("Programmed", programmed.status, programmed.reason, programmed.message[:MAX_MESSAGE]))
    result: list[dict[str, object]] = []
    differs = False
    for kind, status, reason, message in wanted:
        old = there.get(kind)
        differs |= old is None or (old.status, old.reason, old.message, old.observed_generation) != (
            status,
            reason,
            message,
            generation,
        )
        since = old.last_transition if old is not None and old.status == status and old.last_transition else now
        result.append(_write(kind, status, reason, message, generation, since))
    result += foreign_conditions(there.values())
    return result if differs else None


def foreign_conditions(observed: Iterable[ObservedCondition]) -> list[dict[str, object]]:
    """Return the conditions that are not ours, as they stand."""
    return [
        _write(one.type, one.status, one.reason, one.message, one.observed_generation, one.last_transition)
        for one in observed
        if one.type not in OURS
    ]


def _write(kind: str, status: str, reason: str, message: str, generation: int, since: str) -> dict[str, object]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }
