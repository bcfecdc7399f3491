"""Upgrades are taken from pages of listed origins only (RFC 6455, 10.2). Cross-origin rules of browsers do not cover WebSockets."""

import re

from proxy.filters.contract import Filter
from proxy.http.local_replies import ORIGIN_REFUSED
from proxy.http.message import Answer, Request
from proxy.model.policy import AllowedOrigins

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}

Origin = tuple[str, str, str]
"""Scheme, host and port of an origin; the port is empty where it is the scheme's own."""


def parse_origin(text: str) -> Origin | None:
    """Return scheme, host and port of an Origin (RFC 6454, 6.2); None: it has none, as `null`."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, host, port = match[1], match[2], match[3] or ""
    return scheme, host, "" if port == _DEFAULT_PORTS.get(scheme) else port


def compile_origins(policy: AllowedOrigins) -> Filter:
    """Make the filter; raises ValueError for what is no origin."""
    exact: set[Origin] = set()
    under: set[Origin] = set()
    """With a wildcard for the first label: what is behind it and its dot."""
    for text in policy.allowed:
        wild = "://*." in text
        origin = parse_origin(text.replace("://*.", "://", 1))
        if origin is None:
            raise ValueError(f"{text!r} is no origin")
        (under if wild else exact).add(origin)

    def judge(request: Request) -> Answer | None:
        if not request.upgrade:
            return None
        values = request.values("origin")
        origin = parse_origin(values[0]) if len(values) == 1 else None
        if origin is None:
            return ORIGIN_REFUSED
        if origin in exact:
            return None
        scheme, host, port = origin
        label, _, parent = host.partition(".")
        return None if label and (scheme, parent, port) in under else ORIGIN_REFUSED

    return judge
