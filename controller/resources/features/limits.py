"""How many sockets may be open, and how fast clients may come: `limits` of a WsRoute's rule, and an Ingress's annotations.

Limits on the messages of a socket are not here. What cannot be read is a limit all the same: what it was to guard is not served.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.features.access import ADDRESS_HINT, parse_network
from controller.resources.reading.fields import TIMEOUT_HINT, Reader, parse_timeout, shown
from controller.resources.reading.guard_faults import Faults

MOST_CONNECTIONS = 10_000_000
MOST_HANDSHAKES = 1_000_000
MOST_MULTIPLIER = 1000
"""The first two are the bounds of the CRD's schema."""

_OURS = "sluice.dev/limits-"
_NGINX = "nginx.ingress.kubernetes.io/"
_EXEMPT = (_NGINX + "limit-allowlist", _NGINX + "limit-whitelist")
_COUNTS = {
    _OURS + "connections": (0, MOST_CONNECTIONS),
    _OURS + "connections-per-client": (0, MOST_CONNECTIONS),
    _OURS + "connections-per-endpoint": (0, MOST_CONNECTIONS),
    _OURS + "handshakes-rate": (1, MOST_HANDSHAKES),
    _OURS + "handshakes-burst": (1, MOST_HANDSHAKES),
    _NGINX + "limit-connections": (0, MOST_CONNECTIONS),
    _NGINX + "limit-rps": (0, MOST_HANDSHAKES),
    _NGINX + "limit-rpm": (0, MOST_HANDSHAKES),
    _NGINX + "limit-burst-multiplier": (1, MOST_MULTIPLIER),
}
"""Annotations that are whole numbers, with their bounds."""
_PER = _OURS + "handshakes-per"
_NEED_A_RATE = (_PER, _OURS + "handshakes-burst")
LIMIT_ANNOTATIONS = frozenset((*_COUNTS, *_EXEMPT, _PER))
BURST_MULTIPLIER = 5
"""ingress-nginx's default of limit-burst-multiplier."""


@dataclass(frozen=True, slots=True)
class Handshakes:
    """A bucket of `burst` tokens for each client, into which `rate` come back in `per` seconds."""

    rate: int
    per: float
    burst: int


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What ingress-nginx's annotations limit: all requests of a client to one Ingress, upgrades among them. 0: nothing."""

    connections: int = 0
    """Requests under way; a socket is one while it is open."""
    per_second: int = 0
    per_minute: int = 0
    multiplier: int = BURST_MULTIPLIER
    """So many times the rate may come at once."""
    exempt: tuple[str, ...] = ()
    """CIDRs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the sockets of a rule; 0 or None: no limit."""

    connections: int = 0
    per_client: int = 0
    per_endpoint: int = 0
    handshakes: Handshakes | None = None
    requests: RequestLimits | None = None


UNLIMITED = Limits()


def parse_limits(reader: Reader, place: str, raw: Mapping[str, Any] | None) -> Limits:
    """Read `limits` of a rule that has the schema's shape and defaults."""
    written = raw or {}
    handshakes = None
    asked = written.get("handshakes")
    if asked is not None:
        per, rate = parse_timeout(asked["per"]), int(asked["rate"])
        if per is None:
            reader.report(f"{place}.handshakes.per", f"{shown(asked['per'])} was found, {TIMEOUT_HINT}")
        else:
            handshakes = Handshakes(rate, per, int(asked.get("burst", rate)))
    return Limits(
        int(written.get("connections", 0)),
        int(written.get("connectionsPerClient", 0)),
        int(written.get("connectionsPerEndpoint", 0)),
        handshakes,
    )


def read_limits(reader: Reader, annotations: Mapping[str, str]) -> tuple[Limits, str]:
    """Read the limits of an Ingress; what is wrong is collected, and said again as the fault of its routes."""
    reading = _Reading(reader, annotations)
    counts = {key: reading.count(key, *bounds) for key, bounds in _COUNTS.items() if key in annotations}
    per = reading.duration(_PER) if _PER in annotations else 1.0
    exempt = next((reading.networks(key) for key in _EXEMPT if key in annotations), ())
    rate = counts.get(_OURS + "handshakes-rate", 0)
    if not rate and _OURS + "handshakes-rate" not in annotations:
        for key in _NEED_A_RATE:
            if key in annotations:
                reading.faults.report(key, f"it says nothing without {_OURS}handshakes-rate.")
    requests = RequestLimits(
        # Ours wins where both are set.
        0 if _OURS + "connections-per-client" in annotations else counts.get(_NGINX + "limit-connections", 0),
        counts.get(_NGINX + "limit-rps", 0),
        counts.get(_NGINX + "limit-rpm", 0),
        counts.get(_NGINX + "limit-burst-multiplier", BURST_MULTIPLIER),
        exempt,
    )
    limits = Limits(
        counts.get(_OURS + "connections", 0),
        counts.get(_OURS + "connections-per-client", 0),
        counts.get(_OURS + "connections-per-endpoint", 0),
        Handshakes(rate, per, counts.get(_OURS + "handshakes-burst", rate)) if rate else None,
        requests if requests.connections or requests.per_second or requests.per_minute else None,
    )
    # Nearly all objects ask for none, and share that.
    return UNLIMITED if limits == UNLIMITED else limits, reading.faults.first


class _Reading:
    """Reads annotations one by one; what is wrong is collected in `faults`."""

    def __init__(self, reader: Reader, annotations: Mapping[str, str]) -> None:
        self.faults = Faults(reader, annotations)
        self._annotations = annotations

    def count(self, key: str, least: int, most: int) -> int:
        text = self._annotations[key]
        if text.isascii() and text.isdigit() and len(text) <= 12 and least <= int(text) <= most:
            return int(text)
        self.faults.report(key, f"a whole number from {least} to {most} would be accepted.")
        return 0

    def duration(self, key: str) -> float:
        seconds = parse_timeout(self._annotations[key])
        if seconds is None:
            self.faults.report(key, TIMEOUT_HINT)
        return seconds or 1.0

    def networks(self, key: str) -> tuple[str, ...]:
        parts = [parse_network(part, bare=True) for part in map(str.strip, self._annotations[key].split(",")) if part]
        found = tuple(part for part in parts if part is not None)
        if not parts or len(found) < len(parts):
            self.faults.report(key, ADDRESS_HINT)
        return tuple(dict.fromkeys(found))
