"""Who may come at all: origins and networks, as a WsRoute's rule or an Ingress's annotations list them.

A list of which a part cannot be read is no list: what it was to guard is not served. Which fields of a WsRoute's rule guard it is
said here too.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.resources.reading.fields import Reader, shown
from controller.resources.reading.guard_faults import Faults
from controller.resources.reading.problems import Problem

ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]{0,31}://"
    r"(?P<host>(?:\*\.)?[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)*|\[[0-9a-f:]{2,39}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
ORIGIN_HINT = "an origin such as https://app.example.com, or https://*.example.com for one label, in lower case, would be accepted."
NETWORK_HINT = "a network such as 10.0.0.0/8 or fd00::/8 would be accepted."
ADDRESS_HINT = "networks such as 10.0.0.0/8 and addresses, separated by commas, would be accepted."

WITHHELD = "Until then what it was to guard answers 500."
_GUARD_FIELD = re.compile(r"spec\.rules\[([0-9]+)\]\.((?:auth|origin|allow|deny|limit)\w*)", re.ASCII | re.IGNORECASE)
"""A field that is not known and begins like a guard is a misspelt one, or one of a later version."""

_PREFIX = re.compile(r"0|[1-9][0-9]{0,2}")
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_OURS = "sluice.dev/"
_NGINX = "nginx.ingress.kubernetes.io/"
_LISTS = {
    "origins": (_OURS + "origins",),
    "allow": (_OURS + "allow-cidrs", _NGINX + "allowlist-source-range", _NGINX + "whitelist-source-range"),
    "deny": (_OURS + "deny-cidrs", _NGINX + "denylist-source-range"),
}
"""Annotations of each list; the first that is there counts."""
GUARD_ANNOTATIONS = frozenset(key for keys in _LISTS.values() for key in keys)


@dataclass(frozen=True, slots=True)
class Guards:
    """The lists, as written but for the networks, which are written in one way; an empty one asks for nothing."""

    origins: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    """CIDRs."""
    deny: tuple[str, ...] = ()


UNGUARDED = Guards()


@dataclass(frozen=True, slots=True)
class GuardField:
    """A field of a WsRoute's rule that guards it."""

    rule: int
    name: str


def guard_of(field: str) -> GuardField | None:
    """Return the guard that a field is, or is a part of; None: it guards nothing."""
    found = _GUARD_FIELD.match(field)
    return None if found is None else GuardField(int(found[1]), found[2])


def withheld(problem: Problem) -> Problem:
    """Say of a guard that cannot be carried out what becomes of its rule."""
    return replace(problem, message=f"{problem.message} {WITHHELD}")


def parse_network(text: str, *, bare: bool = False) -> str | None:
    """Return a CIDR in its one way of writing, without what its prefix does not cover; None: it is none.

    `bare`: an address alone is a network of one. IPv4 written as IPv6 is none: clients are compared as what they are.
    """
    address, slash, prefix = text.partition("/")
    if (not slash and not bare) or (slash and _PREFIX.fullmatch(prefix) is None) or "%" in address:
        return None
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96 and network.subnet_of(_MAPPED):
        return None
    return str(network)


def parse_origin(text: str) -> str | None:
    """Return an origin that may be listed; None: it may not."""
    found = ORIGIN.fullmatch(text) if len(text) <= 512 else None
    if found is None:
        return None
    host, port = found["host"], found["port"]
    if port is not None and not 0 < int(port) < 65536:
        return None
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return None
    return text


def parse_guards(reader: Reader, place: str, rule: Mapping[str, Any]) -> Guards:
    """Read the lists of a rule that has the schema's shape."""
    return Guards(
        _parse_list(reader, f"{place}.origins", rule.get("origins"), parse_origin, ORIGIN_HINT),
        _parse_list(reader, f"{place}.allowCIDRs", rule.get("allowCIDRs"), parse_network, NETWORK_HINT),
        _parse_list(reader, f"{place}.denyCIDRs", rule.get("denyCIDRs"), parse_network, NETWORK_HINT),
    )


def _parse_list(
    reader: Reader, place: str, written: Sequence[str] | None, parse: Callable[[str], str | None], hint: str
) -> tuple[str, ...]:
    found = []
    for number, text in enumerate(written or ()):
        parsed = parse(text)
        if parsed is None:
            reader.report(f"{place}[{number}]", f"{shown(text)} was found, {hint}")
        else:
            found.append(parsed)
    return tuple(dict.fromkeys(found))


def read_guards(reader: Reader, annotations: Mapping[str, str]) -> tuple[Guards, str]:
    """Read the lists of an Ingress; what is wrong is collected, and said again as the fault of its routes."""
    lists: dict[str, tuple[str, ...]] = {}
    faults = Faults(reader, annotations)
    for name, keys in _LISTS.items():
        key = next((key for key in keys if key in annotations), None)
        if key is None:
            continue
        found = tuple(_parse_annotation(annotations[key], origins=name == "origins"))
        if found and None not in found:
            lists[name] = tuple(dict.fromkeys(one for one in found if one is not None))
            continue
        faults.report(key, ORIGIN_HINT if name == "origins" else ADDRESS_HINT)
    return Guards(**lists) if lists else UNGUARDED, faults.first


def _parse_annotation(value: str, *, origins: bool) -> Iterable[str | None]:
    for part in filter(None, map(str.strip, value.split(","))):
        yield parse_origin(part) if origins else parse_network(part, bare=True)
