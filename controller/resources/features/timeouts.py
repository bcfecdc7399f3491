"""Time limits of requests and sockets: `timeouts` of a rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.reading.fields import MAX_SECONDS, TIMEOUT_HINT, Reader, parse_duration, parse_timeout, shown

AGE_HINT = "a duration of at most 87600h, such as 12h, would be accepted; 0s is no limit."
_NAMES = ("connect", "handshake", "response", "idle")


@dataclass(frozen=True, slots=True)
class TimeoutsSpec:
    """Those that were written, in seconds; None: the default (docs/wsroute.md)."""

    connect: float | None = None
    handshake: float | None = None
    response: float | None = None
    idle: float | None = None
    max_age: float | None = None
    """0: no limit."""


def parse_timeouts(reader: Reader, place: str, rule: Mapping[str, Any]) -> TimeoutsSpec | None:
    """Read `timeouts` of a rule; None: all are the defaults."""
    written = rule.get("timeouts") or {}
    seconds: dict[str, float | None] = {}
    for name in _NAMES:
        if (text := written.get(name)) is not None:
            seconds[name] = parse_timeout(text)
            if seconds[name] is None:
                reader.report(f"{place}.timeouts.{name}", f"{shown(text)} was found, {TIMEOUT_HINT}")
    if (text := written.get("maxAge")) is not None:
        seconds["max_age"] = parse_age(text)
        if seconds["max_age"] is None:
            reader.report(f"{place}.timeouts.maxAge", f"{shown(text)} was found, {AGE_HINT}")
    return TimeoutsSpec(**seconds) if seconds else None


def parse_age(text: str) -> float | None:
    """Parse a maximum age into seconds, 0 for no limit; None: it is none."""
    seconds = parse_duration(text)
    return seconds if seconds is not None and seconds <= MAX_SECONDS else None
