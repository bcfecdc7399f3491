"""WsRoute v1alpha1 as typed records: the schema first, then what the CRD's CEL rules decide, then the record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import re2

from controller.resources.features import NO_FEATURES, TLS_PARSERS, Features, parse_features, parse_fields
from controller.resources.features.https_redirect import HttpsRedirectSpec
from controller.resources.kinds.ingress import BackendRef
from controller.resources.reading.fields import (
    PATH_HINT,
    Reader,
    check_names,
    is_literal_path,
    metadata_ref,
    read_created,
    read_generation,
    read_uid,
    shown,
)
from controller.resources.reading.guard_faults import guard_of, withheld
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Malformed, Problem, Reason
from controller.resources.reading.schema import validate, with_defaults

UNSUPPORTED_GUARDS = ("auth",)
"""In the schema from the first day, but not there yet: a rule that asks for one answers 500, never less protected than written."""


@dataclass(frozen=True, slots=True)
class WsRule:
    """One rule of a WsRoute."""

    name: str
    """Its own, or its index."""
    kind: Literal["Prefix", "Exact", "Regex"]
    path: str
    subprotocols: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    query: tuple[tuple[str, str], ...]
    websocket: tuple[BackendRef, ...] | None
    http: tuple[BackendRef, ...] | None
    field: str
    features: Features = NO_FEATURES


@dataclass(frozen=True, slots=True)
class WsRoute:
    """A sluice.dev/v1alpha1 WsRoute."""

    ref: ObjectRef
    created: str
    generation: int
    class_name: str | None
    hosts: tuple[str, ...]
    """Empty: any host."""
    secret: str
    """Name of the TLS Secret; empty: no TLS of its own."""
    rules: tuple[WsRule, ...] = field(default=())
    uid: str = ""
    """Unique among all objects that ever were, and unknown outside of the cluster; empty in a folder."""
    problems: tuple[Problem, ...] = ()
    """Guards that cannot be carried out; the other rules are served all the same."""


def parse_ws_route(raw: Mapping[str, Any]) -> WsRoute | Malformed:
    """Read a WsRoute."""
    ref = metadata_ref(raw, "WsRoute")
    reader = Reader(ref)
    check_names(reader, raw)
    spec = raw.get("spec")
    if not isinstance(spec, Mapping):
        reader.report("spec", f"{shown(spec)} was found, an object with rules would be accepted.")
        return Malformed(ref, tuple(reader.problems), generation=read_generation(raw))
    named = spec.get("ingressClassName")
    class_name = named if isinstance(named, str) else None
    validate(reader, spec)

    def refused() -> Malformed:
        return Malformed(
            ref,
            tuple(reader.problems),
            class_name,
            generation=read_generation(raw),
            fault=next(iter(_faults(reader.problems).values()), ""),
        )

    if any(guard_of(problem.field) is None for problem in reader.problems):
        return refused()
    spec = with_defaults(_without(spec, reader.problems))
    tls = spec.get("tls") or {}
    shared = _features_of_all_rules(reader, tls)
    rules = tuple(_parse_rule(reader, number, rule, shared) for number, rule in enumerate(spec["rules"]))
    names: dict[str, int] = {}
    for number, rule in enumerate(rules):
        first = names.setdefault(rule.name, number)
        if first != number:
            reader.report(
                f"spec.rules[{number}].name",
                f"{shown(rule.name)} names spec.rules[{first}] already, a name of its own would be accepted.",
            )
    hosts = tuple(spec.get("hosts") or ())
    for number, rule in enumerate(rules):
        if rule.features.pod_target and rule.kind != "Prefix" and not names_pods_by_host(hosts):
            reader.report(
                f"spec.rules[{number}].websocket.target",
                "Pod was found, and nothing names it; a path of type Prefix, or only wildcard hosts, would be accepted with it.",
            )
    if any(guard_of(problem.field) is None for problem in reader.problems):
        return refused()
    faults = _faults(reader.problems)
    if faults:
        rules = tuple(_with_fault(rule, faults.get(number, "")) for number, rule in enumerate(rules))
    return WsRoute(
        ref,
        read_created(raw),
        read_generation(raw),
        class_name,
        hosts,
        tls.get("secretName", ""),
        rules,
        read_uid(raw),
        tuple(withheld(problem) for problem in reader.problems),
    )


def _faults(problems: Sequence[Problem]) -> dict[int, str]:
    """Return why rules answer 500, by their number: the first guard of each that cannot be carried out."""
    faults: dict[int, str] = {}
    for problem in problems:
        guard = guard_of(problem.field)
        if guard is not None:
            faults.setdefault(guard.rule, f"{problem.field} cannot be carried out")
    return faults


def _without(spec: Mapping[str, Any], problems: Sequence[Problem]) -> Mapping[str, Any]:
    """Return a spec without the guards that cannot be read, so that the rest of it can."""
    guards = [guard for problem in problems if (guard := guard_of(problem.field)) is not None]
    if not guards:
        return spec
    rules = [dict(rule) for rule in spec["rules"]]
    for guard in guards:
        rules[guard.rule].pop(guard.name, None)
    return {**spec, "rules": rules}


def names_pods_by_host(hosts: tuple[str, ...]) -> bool:
    """Tell whether the first label of the host names the pod: every host is a wildcard. Else the path does."""
    return bool(hosts) and all(host.startswith("*.") for host in hosts)


def _features_of_all_rules(reader: Reader, tls: Mapping[str, Any]) -> Mapping[str, object]:
    features = parse_fields(reader, "spec.tls", tls, TLS_PARSERS)
    if tls.get("secretName") and tls.get("redirect"):
        features["https_redirect"] = HttpsRedirectSpec(always=True)
    return features


def _with_fault(rule: WsRule, fault: str) -> WsRule:
    return replace(rule, features=replace(rule.features, fault=fault)) if fault else rule


def _parse_rule(reader: Reader, number: int, raw: Mapping[str, Any], shared: Mapping[str, object]) -> WsRule:
    place = f"spec.rules[{number}]"
    for guard in UNSUPPORTED_GUARDS:
        if guard in raw:
            reader.report(
                f"{place}.{guard}",
                "is not supported yet; a rule without it would be accepted.",
                Reason.UNSUPPORTED_VALUE,
            )
    if "websocket" not in raw and "http" not in raw:
        reader.report(place, "neither websocket nor http was found, at least one of them would be accepted.")
    path = raw["path"]
    kind, value = path["type"], path["value"]
    if kind == "Regex":
        _check_pattern(reader, f"{place}.path.value", value)
    elif not is_literal_path(value):
        reader.report(f"{place}.path.value", f"{shown(value)} was found, {PATH_HINT}")
    match = raw.get("match") or {}
    return WsRule(
        raw.get("name", str(number)),
        kind,
        value,
        tuple(match.get("subprotocols") or ()),
        tuple((item["name"].lower(), item["value"]) for item in match.get("headers") or ()),
        tuple((item["name"], item["value"]) for item in match.get("query") or ()),
        _parse_backends(raw, "websocket", place),
        _parse_backends(raw, "http", place),
        place,
        parse_features(reader, place, raw, **shared),
    )


def _parse_backends(rule: Mapping[str, Any], kind: str, place: str) -> tuple[BackendRef, ...] | None:
    if kind not in rule:
        return None
    return tuple(
        # The schema's integers may be written as 2.0; the API server stores 2.
        BackendRef(
            item["service"],
            item["port"] if isinstance(item["port"], str) else int(item["port"]),
            int(item["weight"]),
            f"{place}.{kind}.backends[{number}]",
        )
        for number, item in enumerate(rule[kind]["backends"])
    )


def _check_pattern(reader: Reader, field: str, pattern: str) -> None:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        text = error.args[0] if error.args else error
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        reader.report(field, f"{shown(pattern)} was found ({text}), a regular expression of RE2 would be accepted.")
