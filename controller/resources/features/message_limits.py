"""Limits on the messages of a socket: `limits.messageBytes` and `limits.messages` of a rule. A guard."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.reading.fields import TIMEOUT_HINT, Reader, parse_size, parse_timeout, shown

MOST_MESSAGES = 1_000_000
"""Bound of the CRD's schema."""


@dataclass(frozen=True, slots=True)
class MessageLimitsSpec:
    """Limits on size and number."""

    size: int = 0
    """Bytes; 0: any."""
    rate: int = 0
    """Messages in each `per`; 0: any number."""
    per: float = 1.0
    """Seconds."""
    burst: int = 1


def parse_message_limits(reader: Reader, place: str, rule: Mapping[str, Any]) -> MessageLimitsSpec | None:
    """Read the limits on messages of a rule; None: there are none."""
    written = rule.get("limits") or {}
    size = parse_size(written.get("messageBytes", 0)) or 0
    messages = written.get("messages")
    if messages is None:
        return MessageLimitsSpec(size) if size else None
    text, rate = messages.get("per", "1s"), int(messages["rate"])
    per = parse_timeout(text)
    if per is None:
        reader.report(f"{place}.limits.messages.per", f"{shown(text)} was found, {TIMEOUT_HINT}")
        return None
    return MessageLimitsSpec(size, rate, per, int(messages.get("burst", rate)))
