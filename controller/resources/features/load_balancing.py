"""How an endpoint is chosen: `loadBalancing` of a rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.resources.reading.fields import Reader

Policy = Literal["RoundRobin", "LeastConnections", "Random2", "Hash", "EWMA"]
HashKind = Literal["client-ip", "header", "cookie", "query"]
HashPartKind = Literal["literal", "client-ip", "host", "target", "path", "header", "cookie", "query"]

_KINDS: Mapping[str, HashKind] = {"clientIP": "client-ip", "header": "header", "cookie": "cookie", "query": "query"}


@dataclass(frozen=True, slots=True)
class LoadBalancingSpec:
    """A policy, and what `Hash` looks at: the kind and its name."""

    policy: Policy
    hash_on: tuple[HashKind, str] | None = None
    hash_text: tuple[tuple[HashPartKind, str], ...] = ()
    """A text in its place: parts, by their kind and name. A WsRoute has no field for it."""


def parse_load_balancing(reader: Reader, place: str, rule: Mapping[str, Any]) -> LoadBalancingSpec | None:
    """Read `loadBalancing` of a rule; None: each kind of traffic has its default."""
    written = rule.get("loadBalancing") or {}
    policy = written.get("policy")
    hash_on = _parse_hash_on(reader, f"{place}.loadBalancing.hashOn", policy, written.get("hashOn"))
    return None if policy is None else LoadBalancingSpec(policy, hash_on)


def _parse_hash_on(
    reader: Reader, place: str, policy: Policy | None, written: Mapping[str, Any] | None
) -> tuple[HashKind, str] | None:
    if policy != "Hash":
        if written is not None:
            reader.report(place, "was found without policy Hash; remove it, or set policy to Hash.")
        return None
    if written is None:
        reader.report(place, "nothing was found, policy Hash needs one of clientIP, header, cookie and query.")
        return None
    if len(written) != 1:
        names = ", ".join(written) or "nothing"
        reader.report(place, f"{names} was found, exactly one of clientIP, header, cookie and query would be accepted.")
        return None
    ((field, value),) = written.items()
    if value is False:
        reader.report(f"{place}.{field}", "false was found, true would be accepted.")
        return None
    kind = _KINDS[field]
    return kind, "" if value is True else value.lower() if kind == "header" else value
