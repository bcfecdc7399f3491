"""The limits that a rule sets to the messages of a socket. A guard: what cannot be read is never left out in silence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.reading.fields import TIMEOUT_HINT, Reader, parse_count, parse_size, parse_timeout, shown
from controller.resources.reading.guard_faults import Faults

_PREFIX = "sluice.dev/limits-"
_NEED_A_RATE = (_PREFIX + "messages-per", _PREFIX + "messages-burst")
MESSAGE_ANNOTATIONS = frozenset((_PREFIX + "message-bytes", _PREFIX + "messages-rate", *_NEED_A_RATE))
MOST_MESSAGES = 1_000_000
_COUNT_HINT = f"a whole number from 1 to {MOST_MESSAGES} would be accepted."


@dataclass(frozen=True, slots=True)
class MessageLimitsSpec:
    """`limits.messageBytes` and `limits.messages` of a rule."""

    size: int = 0
    """Bytes; 0: any."""
    rate: int = 0
    """Messages in each `per`; 0: any number."""
    per: float = 1.0
    """Seconds."""
    burst: int = 1


def parse_message_limits(reader: Reader, place: str, raw: Mapping[str, Any] | None) -> MessageLimitsSpec | None:
    """Read `limits` of a rule that the schema accepts; None: messages are not limited, or something is wrong."""
    if raw is None:
        return None
    size = parse_size(raw.get("messageBytes", 0)) or 0
    messages = raw.get("messages")
    if messages is None:
        return MessageLimitsSpec(size) if size else None
    per = parse_timeout(messages["per"])
    if per is None:
        reader.report(f"{place}.messages.per", f"{shown(messages['per'])} was found, {TIMEOUT_HINT}")
        return None
    rate = int(messages["rate"])
    return MessageLimitsSpec(size, rate, per, int(messages.get("burst", rate)))


def read_message_limits(reader: Reader, annotations: Mapping[str, str]) -> tuple[MessageLimitsSpec | None, str]:
    """Read what the annotations of an Ingress say, and why it cannot be honoured; empty: it can."""
    size: int | None = 0
    counts: dict[str, int] = {}
    per: float | None = 1.0
    faults = Faults(reader, annotations)
    for key in sorted(MESSAGE_ANNOTATIONS & annotations.keys()):
        text, name, wrong = annotations[key], key.removeprefix(_PREFIX), ""
        if name == "message-bytes":
            size = parse_size(text)
            wrong = "" if size is not None else "a size such as 65536, 64Ki or 1M would be accepted."
        elif name == "messages-per":
            per = parse_timeout(text)
            wrong = "" if per is not None else TIMEOUT_HINT
        else:
            count = parse_count(text, MOST_MESSAGES)
            wrong = "" if count is not None else _COUNT_HINT
            counts[name] = count or 0
        if key in _NEED_A_RATE and _PREFIX + "messages-rate" not in annotations:
            wrong = wrong or f"it says nothing without {_PREFIX}messages-rate."
        if wrong:
            faults.report(key, wrong)
    rate = counts.get("messages-rate", 0)
    if faults.first or not (size or rate):
        return None, faults.first
    return MessageLimitsSpec(size or 0, rate, per or 1.0, counts.get("messages-burst", rate or 1)), ""
