# Compiled by mypyc: see setup.py.
"""Fields in which proxies say what they know of the client: which these are, and those that a backend gets (docs/security.md).

X-Forwarded-*, X-Real-IP, and Forwarded (RFC 7239). What a peer sent is taken into account only if it is trusted; its caller sees
to that.
"""

import re
from collections.abc import Callable
from typing import Final

from proxy.http.addresses import hops_behind
from proxy.http.message import Client

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}", re.ASCII)
FORWARDING: Final = frozenset(
    (
        b"x-original-forwarded-for",
        b"x-real-ip",
        b"x-request-id",
        b"x-scheme",
        b"forwarded",
    )
)
"""Fields in which proxies say what they know of the client, beside all X-Forwarded-*: see `is_forwarding`."""
_OURS: Final = frozenset(
    ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "x-request-id", "forwarded")
)
"""Those that the proxy writes itself; the others of a trusted peer pass."""


def is_forwarding(name: bytes) -> bool:
    """Tell whether a field, by its lower-case name, is for proxies to say what they know of the client."""
    return name in FORWARDING or name.startswith(b"x-forwarded-")


def forwarding_fields(
    authority: str, client: Client, incoming: list[tuple[str, str]], trusts: Callable[[bytes], bool], *, forwarded: bool
) -> tuple[str, str]:
    """Return the client's address and the forwarding fields for the backend; `incoming` is what a trusted peer sent."""
    lists: dict[str, list[str]] = {}
    for name, value in incoming:
        if value:  # a field without one says nothing
            lists.setdefault(name, []).append(value)
    values = {name: ", ".join(texts) for name, texts in lists.items()}
    peer = client.peer
    hops = [peer]
    chain = peer
    if "x-forwarded-for" in values:
        chain = f"{values['x-forwarded-for']}, {peer}"
        hops = hops_behind(values["x-forwarded-for"], peer, trusts)
    address = hops[-1]
    proto = values.get("x-forwarded-proto", "https" if client.secure else "http")
    lines = [
        f"X-Forwarded-For: {chain}\r\n",
        f"X-Forwarded-Proto: {proto}\r\n",
        f"X-Forwarded-Host: {values.get('x-forwarded-host', authority)}\r\n",
        f"X-Forwarded-Port: {values.get('x-forwarded-port', client.port)}\r\n",
        f"X-Real-IP: {address}\r\n",
    ]
    lines += [f"{name.title()}: {value}\r\n" for name, value in values.items() if name not in _OURS]
    if forwarded:
        lines.append(f"Forwarded: {_forwarded(authority, client, hops, values)}\r\n")
    elif "forwarded" in values:
        lines.append(f"Forwarded: {values['forwarded']}\r\n")
    return address, "".join(lines)


def _forwarded(authority: str, client: Client, hops: list[str], values: dict[str, str]) -> str:
    """Write Forwarded (RFC 7239, 4): an element for each hop that is believed, the client's first, that of who asked us last.

    X-Forwarded-For is what is believed, so it is what is written here (RFC 7239, 7.4). A Forwarded beside it may be the client's,
    which the load balancer let pass; without it, what a trusted peer sent goes first.
    """
    scheme = "https" if client.secure else "http"
    forwarded_proto = _last(values.get("x-forwarded-proto", ""))
    if _SCHEME.fullmatch(forwarded_proto) is None:
        forwarded_proto = ""
    elements = [f"for={_node(hop)}" for hop in reversed(hops)]
    if len(hops) > 1:
        # What the first proxy was asked for, and how.
        host = _last(values.get("x-forwarded-host", ""))
        elements[0] += (f";host={_quoted(host)}" if host else "") + (f";proto={forwarded_proto}" if forwarded_proto else "")
    elif forwarded_proto:
        scheme = forwarded_proto
    elements[-1] += f";host={_quoted(authority)};proto={scheme}"
    if "forwarded" in values and "x-forwarded-for" not in values:
        elements.insert(0, values["forwarded"])
    return ", ".join(elements)


def _last(values: str) -> str:
    return values.rpartition(",")[2].strip(" \t")


def _node(address: str) -> str:
    """Write an address as a node (RFC 7239, 6)."""
    return f'"[{address}]"' if ":" in address else address


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
