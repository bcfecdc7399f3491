"""The pings that a rule asks the proxy to send."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from controller.resources.reading.fields import Reader, parse_count, parse_duration, shown
from controller.resources.reading.problems import Reason

Side = Literal["Client", "Backend", "Both"]

_PREFIX = "sluice.dev/keepalive-"
KEEPALIVE_ANNOTATIONS = frozenset(_PREFIX + name for name in ("interval", "misses", "to"))
SHORTEST, LONGEST = 1.0, 24 * 3600.0
"""Seconds of an interval. Below the first, ten thousand sockets would keep a core busy with nothing but pings."""
MOST_MISSES = 100


@dataclass(frozen=True, slots=True)
class KeepaliveSpec:
    """`keepalive` of a rule, with its defaults (docs/wsroute.md)."""

    interval: float = 30.0
    """Seconds."""
    misses: int = 2
    to: Side = "Client"


def parse_keepalive(reader: Reader, place: str, raw: Mapping[str, Any] | None) -> KeepaliveSpec | None:
    """Read `keepalive` of a rule that the schema accepts; None: it is absent or wrong."""
    if raw is None:
        return None
    interval = _parse_interval(reader, f"{place}.interval", raw["interval"])
    return None if interval is None else KeepaliveSpec(interval, int(raw["misses"]), raw["to"])


def read_keepalive(reader: Reader, annotations: Mapping[str, str]) -> KeepaliveSpec | None:
    """Read what the annotations of an Ingress say. None: nothing right was said; what is wrong leaves the defaults."""
    spec = KeepaliveSpec()
    interval, misses, to, said = spec.interval, spec.misses, spec.to, False
    for key in sorted(KEEPALIVE_ANNOTATIONS & annotations.keys()):
        field, text, name = f"metadata.annotations[{key}]", annotations[key], key.removeprefix(_PREFIX)
        if name == "interval":
            found = _parse_interval(reader, field, text, Reason.UNSUPPORTED_VALUE)
            said, interval = said or found is not None, interval if found is None else found
        elif name == "misses":
            count = parse_count(text, MOST_MISSES)
            if count is None:
                sentence = f"{shown(text)} was found, a whole number from 1 to {MOST_MISSES} would be accepted."
                reader.report(field, sentence, Reason.UNSUPPORTED_VALUE)
            else:
                said, misses = True, count
        else:
            side = next((one for one in get_args(Side) if one == text), None)
            if side is None:
                reader.report(
                    field, f"{shown(text)} was found, Client, Backend or Both would be accepted.", Reason.UNSUPPORTED_VALUE
                )
            else:
                said, to = True, side
    return KeepaliveSpec(interval, misses, to) if said else None


def _parse_interval(reader: Reader, field: str, text: str, reason: Reason = Reason.INVALID_SPEC) -> float | None:
    seconds = parse_duration(text)
    if seconds is not None and SHORTEST <= seconds <= LONGEST:
        return seconds
    reader.report(field, f"{shown(text)} was found, a duration from 1s to 24h, such as 30s, would be accepted.", reason)
    return None
