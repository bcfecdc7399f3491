"""Who may come at all: `origins`, `allowCIDRs` and `denyCIDRs` of a rule. Guards."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.reading.fields import Reader, shown
from controller.resources.reading.networks import NETWORK_HINT, parse_network

ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]{0,31}://"
    r"(?P<host>(?:\*\.)?[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)*|\[[0-9a-f:]{2,39}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
ORIGIN_HINT = "an origin such as https://app.example.com, or https://*.example.com for one label, in lower case, would be accepted."


@dataclass(frozen=True, slots=True)
class AccessLists:
    """The lists, as written but for the networks, which are written in one way; an empty one asks for nothing."""

    origins: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    """CIDRs."""
    deny: tuple[str, ...] = ()


def parse_origin(text: str) -> str | None:
    """Return an origin that may be listed; None: it may not."""
    match = ORIGIN.fullmatch(text) if len(text) <= 512 else None
    if match is None:
        return None
    host, port = match["host"], match["port"]
    if port is not None and not 0 < int(port) < 65536:
        return None
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return None
    return text


def parse_access(reader: Reader, place: str, rule: Mapping[str, Any]) -> AccessLists | None:
    """Read the lists of a rule; None: there are none."""

    def entries(name: str, parse: Callable[[str], str | None], hint: str) -> tuple[str, ...]:
        parsed = []
        for number, text in enumerate(rule.get(name) or ()):
            entry = parse(text)
            if entry is None:
                reader.report(f"{place}.{name}[{number}]", f"{shown(text)} was found, {hint}")
            else:
                parsed.append(entry)
        return tuple(dict.fromkeys(parsed))

    lists = AccessLists(
        entries("origins", parse_origin, ORIGIN_HINT),
        entries("allowCIDRs", parse_network, NETWORK_HINT),
        entries("denyCIDRs", parse_network, NETWORK_HINT),
    )
    return None if lists == AccessLists() else lists
