"""The conditions of a WsRoute: those to write, and whether they differ from those that are stored. Pure.

Three are always there, NoReadyEndpoints while it is true, each with the generation that it is of (docs/troubleshooting.md, 'Every
reason').
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from controller.resources.reading.stored_status import StoredCondition
from controller.translate.upstreams import OVER_TLS, UnreadyBackend
from controller.translate.verdicts import Verdict

MAX_MESSAGE = 32768
"""What the CRD's schema takes."""
NO_READY_ENDPOINTS = "NoReadyEndpoints"
"""Condition, and its reason."""
OURS = ("Accepted", "ResolvedRefs", "Programmed", NO_READY_ENDPOINTS)


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
    details = " ".join(f"{route}: {reason}." for route, reason in sorted(reasons.items()))
    return Programmed("False", "Rejected", f"The proxy answers 500 for what it could not compile. {details}")


def unready_sentence(backend: UnreadyBackend) -> str:
    """Say that no pod of a backend is ready, without a number of pods, which would change all the time."""
    field, upstream = backend
    service, _, port = upstream.removesuffix(OVER_TLS).rpartition(":")
    return (
        f'{field}: Service "{service}" has no endpoint that is ready for port {port}, so requests get 503; '
        "a pod of it that is ready would be accepted."
    )


def make_conditions(
    verdict: Verdict,
    programmed: Programmed,
    generation: int,
    stored: Iterable[StoredCondition],
    now: str,
    unready: Sequence[UnreadyBackend] = (),
    *,
    keep_unready: bool = False,
) -> list[dict[str, object]] | None:
    """Return the conditions to write, other writers' kept as they are; None: the same are stored already.

    `now`: RFC 3339, for conditions whose status changes. `keep_unready`: what is stored of endpoints holds until more is known, as
    this replica has not watched them for long.
    """
    by_type = {condition.type: condition for condition in stored}
    wanted: list[tuple[str, str, str, str]] = [
        (condition.type, condition.status, condition.reason, condition.message[:MAX_MESSAGE])
        for condition in (verdict.accepted, verdict.resolved_refs)
    ]
    wanted.append(("Programmed", programmed.status, programmed.reason, programmed.message[:MAX_MESSAGE]))
    kept = by_type.get(NO_READY_ENDPOINTS)
    if unready:
        wanted.append((NO_READY_ENDPOINTS, "True", NO_READY_ENDPOINTS, " ".join(map(unready_sentence, unready))[:MAX_MESSAGE]))
    elif kept is not None and keep_unready:
        wanted.append((kept.type, kept.status, kept.reason, kept.message))
    result: list[dict[str, object]] = []
    differs = kept is not None and not unready and not keep_unready
    for kind, status, reason, message in wanted:
        old = by_type.get(kind)
        differs |= old is None or (old.status, old.reason, old.message, old.observed_generation) != (
            status,
            reason,
            message,
            generation,
        )
        since = old.last_transition if old is not None and old.status == status and old.last_transition else now
        result.append(_write(kind, status, reason, message, generation, since))
    result += foreign_conditions(by_type.values())
    return result if differs else None


def foreign_conditions(stored: Iterable[StoredCondition]) -> list[dict[str, object]]:
    """Return the conditions that are not ours, as they stand."""
    return [
        _write(
            *(condition.type, condition.status, condition.reason, condition.message),
            *(condition.observed_generation, condition.last_transition),
        )
        for condition in stored
        if condition.type not in OURS
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
