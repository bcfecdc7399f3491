"""Endpoints that shed sockets after a scale-up: `rebalance` of a rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.reading.fields import Reader, shown

MOST_ABOVE = 100.0
"""`rebalance.above` is at most this."""
ABOVE_HINT = "a number above 1 and of at most 100 would be accepted."
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class RebalanceSpec:
    """Who sheds, and how fast."""

    above: float
    """From how many times the mean on an endpoint sockets are shed."""
    rate: float
    """Sockets per second."""


def parse_rebalance(reader: Reader, place: str, rule: Mapping[str, Any]) -> RebalanceSpec | None:
    """Read `rebalance` of a rule; None: it is absent."""
    written = rule.get("rebalance")
    if written is None:
        return None
    above = float(written["above"])
    if not 1 < above <= MOST_ABOVE:
        reader.report(f"{place}.rebalance.above", f"{shown(written['above'])} was found, {ABOVE_HINT}")
    if _brings_clients_back(rule):
        reader.report(
            f"{place}.rebalance",
            "was found with policy Hash, affinity.cookie or target Pod, which bring each client back to where it was; remove one.",
        )
    count, _, unit = written["rate"].partition("/")
    return RebalanceSpec(above, int(count) / _SECONDS[unit])


def _brings_clients_back(rule: Mapping[str, Any]) -> bool:
    hashed = (rule.get("loadBalancing") or {}).get("policy") == "Hash"
    return hashed or "cookie" in (rule.get("affinity") or {}) or (rule.get("websocket") or {}).get("target") == "Pod"
