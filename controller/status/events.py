"""Events: what the owner of an Ingress reads in `kubectl describe`, since an Ingress has no conditions. Pure.

One Event per object and verdict: its name is made of both, so that a verdict that comes back brings the Event that is
there up to date.
"""

import hashlib
from dataclasses import dataclass

from controller.resources.reading.stored_status import Observed
from controller.translate.verdicts import Verdict, joined

COMPONENT = "sluice"
MAX_MESSAGE = 1024
"""Longer messages are refused by the API server."""
REPEAT_SECONDS = 45 * 60.0
"""How long after it was last said a problem that is still there is said again: the API server forgets Events after an hour."""


@dataclass(frozen=True, slots=True)
class Saying:
    """What an Event says."""

    type: str
    reason: str
    message: str


FINE = Saying("Normal", "Accepted", "Everything that was wrong with the object is solved; it is served as it is written.")


def saying(verdict: Verdict) -> Saying | None:
    """Return what is wrong by a verdict, in one saying; None: nothing."""
    if not verdict.problems:
        return None
    message = joined(verdict.problems)
    if len(message) > MAX_MESSAGE:
        message = message[: MAX_MESSAGE - 3] + "..."
    return Saying("Warning", str(verdict.problems[0].reason), message)


def event_name(of: Observed, what: Saying) -> str:
    """Name the Event of an object and a saying; the same for every replica and after a restart."""
    digest = hashlib.blake2b(f"{of.uid}\x00{what.reason}\x00{what.message}".encode(), digest_size=8).hexdigest()
    return f"{of.ref.name[:220]}.{digest}"


def make_event(of: Observed, what: Saying, now: str) -> dict[str, object]:
    """Write an Event (v1) about an object. `now`: RFC 3339."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event_name(of, what), "namespace": of.ref.namespace},
        "involvedObject": {
            "apiVersion": of.api_version,
            "kind": of.ref.kind,
            "namespace": of.ref.namespace,
            "name": of.ref.name,
            "uid": of.uid,
        },
        "type": what.type,
        "reason": what.reason,
        "message": what.message,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
