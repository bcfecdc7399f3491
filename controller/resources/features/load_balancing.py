"""What a rule says about the choice of an endpoint: load balancing, affinity, pods by name, rewritten paths.

Read from a rule of a WsRoute, or from the annotations of an Ingress, which name the same fields (spec `affinity.cookie.name` is
`sluice.dev/affinity-cookie-name`). The schema was applied before; what the CRD's CEL rules decide is decided here.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.resources.reading.fields import PATH_HINT, TIMEOUT_HINT, Reader, is_literal_path, parse_timeout, shown
from controller.resources.reading.problems import Reason
from controller.resources.reading.schema import check_rule_part

Policy = Literal["RoundRobin", "LeastConnections", "Random2", "Hash", "EWMA"]
HashKind = Literal["client-ip", "header", "cookie", "query"]
SameSite = Literal["Lax", "Strict", "None"]

_ON: Mapping[str, HashKind] = {"clientIP": "client-ip", "header": "header", "cookie": "cookie", "query": "query"}

ANNOTATIONS: Mapping[str, tuple[str, ...]] = {
    "load-balancing-policy": ("loadBalancing", "policy"),
    "load-balancing-hash-on-client-ip": ("loadBalancing", "hashOn", "clientIP"),
    "load-balancing-hash-on-header": ("loadBalancing", "hashOn", "header"),
    "load-balancing-hash-on-cookie": ("loadBalancing", "hashOn", "cookie"),
    "load-balancing-hash-on-query": ("loadBalancing", "hashOn", "query"),
    "affinity-cookie-name": ("affinity", "cookie", "name"),
    "affinity-cookie-max-age": ("affinity", "cookie", "maxAge"),
    "affinity-cookie-same-site": ("affinity", "cookie", "sameSite"),
    "affinity-engine-io": ("affinity", "engineIO"),
    "rewrite-prefix": ("rewrite", "prefix"),
    "rebalance-above": ("rebalance", "above"),
    "rebalance-rate": ("rebalance", "rate"),
}
"""Annotations under `sluice.dev/`, and the field of a rule that each one stands for."""


MOST_ABOVE = 100.0
"""`rebalance.above` is at most this."""


@dataclass(frozen=True, slots=True)
class AffinityCookie:
    """The cookie that names an endpoint."""

    name: str = "SLUICE"
    max_age: float = 0.0
    """Seconds; 0: until the browser ends."""
    same_site: SameSite = "Lax"


@dataclass(frozen=True, slots=True)
class Balance:
    """How a rule's requests find their endpoint."""

    policy: Policy | None = None
    """None: the default of each kind of traffic."""
    hash_on: tuple[HashKind, str] | None = None
    """What `Hash` looks at, and its name."""
    cookie: AffinityCookie | None = None
    engine_io: bool = False
    pods: bool = False
    """Upgrades name a pod."""
    rewrite: str | None = None
    """The prefix that the backend sees."""
    rebalance: tuple[float, float] | None = None
    """From how many times the mean on an endpoint sheds sockets, and how many per second."""


NOTHING = Balance()
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_WORD = re.compile(r"[A-Z]+")


def parse_balance(reader: Reader, place: str, raw: Mapping[str, Any]) -> Balance:
    """Read the fields of a rule that passed the schema; `place` is where it stands."""
    balancing = raw.get("loadBalancing") or {}
    policy = balancing.get("policy")
    hash_on = _parse_on(reader, f"{place}.loadBalancing", policy, balancing.get("hashOn"))
    affinity = raw.get("affinity")
    cookie = None
    if affinity is not None:
        if "cookie" not in affinity and "engineIO" not in affinity:
            reader.report(f"{place}.affinity", "neither cookie nor engineIO was found, at least one of them would be accepted.")
        if "cookie" in affinity:
            cookie = _parse_cookie(reader, f"{place}.affinity.cookie", affinity["cookie"])
    path = raw.get("path") or {}
    rewrite = _parse_rewrite(reader, f"{place}.rewrite", raw.get("rewrite"), path.get("type"))
    pods = (raw.get("websocket") or {}).get("target") == "Pod"
    rebalance = _parse_rebalance(reader, f"{place}.rebalance", raw.get("rebalance"))
    found = Balance(policy, hash_on, cookie, bool(affinity is not None and "engineIO" in affinity), pods, rewrite, rebalance)
    if rebalance is not None and (policy == "Hash" or cookie is not None or pods):
        sentence = (
            "was found with policy Hash, affinity.cookie or target Pod, which bring each client back to where it was; remove one."
        )
        reader.report(f"{place}.rebalance", sentence)
    return found


def _parse_on(reader: Reader, place: str, policy: Policy | None, on: Mapping[str, Any] | None) -> tuple[HashKind, str] | None:
    if policy != "Hash":
        if on is not None:
            reader.report(f"{place}.hashOn", "was found without policy Hash; remove it, or set policy to Hash.")
        return None
    if on is None:
        reader.report(f"{place}.hashOn", "nothing was found, policy Hash needs one of clientIP, header, cookie and query.")
        return None
    if len(on) != 1:
        found = ", ".join(on) or "nothing"
        reader.report(f"{place}.hashOn", f"{found} was found, exactly one of clientIP, header, cookie and query would be accepted.")
        return None
    ((field, value),) = on.items()
    if value is False:
        reader.report(f"{place}.hashOn.{field}", "false was found, true would be accepted.")
        return None
    kind = _ON[field]
    return kind, "" if value is True else value.lower() if kind == "header" else value


def _parse_cookie(reader: Reader, place: str, raw: Mapping[str, Any]) -> AffinityCookie:
    age = 0.0
    text = raw.get("maxAge")
    if text is not None:
        seconds = parse_timeout(text)
        if seconds is None:
            reader.report(f"{place}.maxAge", f"{shown(text)} was found, {TIMEOUT_HINT}")
        else:
            age = seconds
    return AffinityCookie(raw.get("name", "SLUICE"), age, raw.get("sameSite", "Lax"))


def _parse_rewrite(reader: Reader, place: str, raw: Mapping[str, Any] | None, kind: str | None) -> str | None:
    if raw is None:
        return None
    prefix: str = raw["prefix"]
    if kind == "Regex":
        reader.report(place, "was found with a path of type Regex; a path of type Prefix or Exact would be accepted.")
    if not is_literal_path(prefix):
        reader.report(f"{place}.prefix", f"{shown(prefix)} was found, {PATH_HINT}")
        return None
    return prefix


def _parse_rebalance(reader: Reader, place: str, raw: Mapping[str, Any] | None) -> tuple[float, float] | None:
    if raw is None:
        return None
    for name in ("above", "rate"):
        if name not in raw:  # the schema sees to it in a rule, not in annotations
            reader.report(f"{place}.{name}", "nothing was found, a value is required.")
            return None
    above = float(raw["above"])
    if not 1 < above <= MOST_ABOVE:
        reader.report(f"{place}.above", f"{shown(raw['above'])} was found, a number above 1 and of at most 100 would be accepted.")
    count, _, unit = raw["rate"].partition("/")
    return above, int(count) / _SECONDS[unit]


def read_balance(reader: Reader, written: Iterable[tuple[str, str]]) -> Balance:
    """Read annotations of `ANNOTATIONS`, without their prefix; those that are wrong are collected and left out."""
    raw: dict[str, Any] = {}
    for name, text in written:
        path = ANNOTATIONS[name]
        if name in ("affinity-engine-io", "load-balancing-hash-on-client-ip"):
            if text not in ("true", "false"):
                sentence = f'{shown(text)} was found, "true" or "false" would be accepted.'
                reader.report(f"metadata.annotations[sluice.dev/{name}]", sentence, Reason.UNSUPPORTED_VALUE)
            elif text == "true":
                _put(raw, path, {} if name == "affinity-engine-io" else True)
            continue
        sentences = check_rule_part(path, text)
        for sentence in sentences:
            reader.report(f"metadata.annotations[sluice.dev/{name}]", sentence, Reason.UNSUPPORTED_VALUE)
        if not sentences:
            _put(raw, path, text)
    inner = Reader(reader.ref)
    found = parse_balance(inner, "", raw)
    for problem in inner.problems:
        name = _WORD.sub(lambda match: "-" + match[0].lower(), problem.field.removeprefix(".")).replace(".", "-")
        sentence = problem.message.removeprefix(f"{problem.field}: ")
        reader.report(f"metadata.annotations[sluice.dev/{name}]", sentence, Reason.UNSUPPORTED_VALUE)
    # Half of what was asked for would be something else. Those that ask for nothing share that.
    return NOTHING if inner.problems or found == NOTHING else found


def _put(raw: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for name in path[:-1]:
        raw = raw.setdefault(name, {})
    raw[path[-1]] = value
