"""Pings that the proxy sends: `keepalive` of a rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.resources.reading.fields import Reader, parse_duration, shown

Side = Literal["Client", "Backend", "Both"]

SHORTEST, LONGEST = 1.0, 24 * 3600.0
"""Seconds of an interval. Below the first, ten thousand sockets would keep a core busy with nothing but pings."""
INTERVAL_HINT = "a duration from 1s to 24h, such as 30s, would be accepted."
MOST_MISSES = 100
"""Bound of the CRD's schema."""


@dataclass(frozen=True, slots=True)
class KeepaliveSpec:
    """`keepalive` of a rule, with its defaults (docs/wsroute.md)."""

    interval: float = 30.0
    """Seconds."""
    misses: int = 2
    to: Side = "Client"


def parse_keepalive(reader: Reader, place: str, rule: Mapping[str, Any]) -> KeepaliveSpec | None:
    """Read `keepalive` of a rule; None: it is absent."""
    written = rule.get("keepalive")
    if written is None:
        return None
    text = written.get("interval", "30s")
    interval = parse_interval(text)
    if interval is None:
        reader.report(f"{place}.keepalive.interval", f"{shown(text)} was found, {INTERVAL_HINT}")
        return None
    return KeepaliveSpec(interval, int(written.get("misses", 2)), written.get("to", "Client"))


def parse_interval(text: str) -> float | None:
    """Parse the time between two pings into seconds; None: it is none."""
    seconds = parse_duration(text)
    return seconds if seconds is not None and SHORTEST <= seconds <= LONGEST else None
