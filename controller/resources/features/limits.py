"""How many sockets may be open, and how fast clients may come: `limits` of a rule, but for those of messages. Guards."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.reading.fields import TIMEOUT_HINT, Reader, parse_timeout, shown

MOST_CONNECTIONS = 10_000_000
MOST_HANDSHAKES = 1_000_000
"""Bounds of the CRD's schema."""


@dataclass(frozen=True, slots=True)
class Handshakes:
    """A bucket of `burst` tokens for each client, into which `rate` come back in `per` seconds."""

    rate: int
    per: float
    burst: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the sockets of a rule; 0 or None: no limit."""

    connections: int = 0
    per_client: int = 0
    per_endpoint: int = 0
    handshakes: Handshakes | None = None


def parse_limits(reader: Reader, place: str, rule: Mapping[str, Any]) -> Limits | None:
    """Read `limits` of a rule; None: there are none."""
    written = rule.get("limits") or {}
    limits = Limits(
        int(written.get("connections") or 0),
        int(written.get("connectionsPerClient") or 0),
        int(written.get("connectionsPerEndpoint") or 0),
        _parse_handshakes(reader, f"{place}.limits.handshakes", written.get("handshakes")),
    )
    return None if limits == Limits() else limits


def _parse_handshakes(reader: Reader, place: str, written: Mapping[str, Any] | None) -> Handshakes | None:
    if written is None:
        return None
    text, rate = written.get("per", "1s"), int(written["rate"])
    per = parse_timeout(text)
    if per is None:
        reader.report(f"{place}.per", f"{shown(text)} was found, {TIMEOUT_HINT}")
        return None
    return Handshakes(rate, per, int(written.get("burst", rate)))
