"""Events: what the owner of an Ingress reads in `kubectl describe`, since an Ingress has no conditions. Pure.

One Event per object and verdict: its name is made of both, so that a verdict that comes back brings the Event that is
there up to date.
"""

import hashlib
from dataclasses import dataclass

from controller.resources.reading.stored_status import StoredStatus
from controller.translate.verdicts import Verdict, join_messages

COMPONENT = "sluice"
MAX_MESSAGE = 1024
"""Longer messages are refused by the API server."""
REPEAT_SECONDS = 45 * 60.0
"""After this time the Event of a problem that is still there is renewed: the API server forgets Events after an hour."""


@dataclass(frozen=True, slots=True)
class EventText:
    """Type, reason and message of an Event."""

    type: str
    reason: str
    message: str


ALL_SOLVED = EventText("Normal", "Accepted", "Everything that was wrong with the object is solved; it is served as it is written.")


def event_text(verdict: Verdict) -> EventText | None:
    """Return all problems of a verdict as one text; None: there are none."""
    if not verdict.problems:
        return None
    message = join_messages(verdict.problems)
    if len(message) > MAX_MESSAGE:
        message = message[: MAX_MESSAGE - 3] + "..."
    return EventText("Warning", str(verdict.problems[0].reason), message)


def event_name(status: StoredStatus, text: EventText) -> str:
    """Name the Event of an object and a text; the same for every replica and after a restart."""
    digest = hashlib.blake2b(f"{status.uid}\x00{text.reason}\x00{text.message}".encode(), digest_size=8).hexdigest()
    return f"{status.ref.name[:220]}.{digest}"


def make_event(status: StoredStatus, text: EventText, now: str) -> dict[str, object]:
    """Write an Event (v1) about an object. `now`: RFC 3339."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event_name(status, text), "namespace": status.ref.namespace},
        "involvedObject": {
            "apiVersion": status.api_version,
            "kind": status.ref.kind,
            "namespace": status.ref.namespace,
            "name": status.ref.name,
            "uid": status.uid,
        },
        "type": text.type,
        "reason": text.reason,
        "message": text.message,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
