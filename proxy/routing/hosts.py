# Compiled by mypyc: see setup.py.
"""Hosts as requests name them: normalised for look-up, or refused."""

import ipaddress
import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_PORT: Final = re.compile(r"[0-9]{0,5}")
_PLAIN: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")
MAX_HOST: Final = 255


def normalise_host(authority: str) -> str | None:
    """Return the host of a Host field in lower case, without port and trailing dot; None: it is no host (RFC 9110, 7.2).

    Port 0 to 65535 or empty; names of letters, digits, hyphens, underscores and dots; IPv4; IPv6 in brackets.
    """
    if _PLAIN.fullmatch(authority) is not None and ".." not in authority:
        return authority if len(authority) <= MAX_HOST else None
    if authority.startswith("["):
        address, bracket, port = authority[1:].partition("]")
        if not bracket or (port and not port.startswith(":")) or not _is_port(port[1:]):
            return None
        try:
            return f"[{ipaddress.IPv6Address(address)}]" if "%" not in address else None
        except ValueError:
            return None
    name, _, port = authority.partition(":")
    if not _is_port(port) or _NAME.fullmatch(name) is None or ".." in name or len(name) > MAX_HOST:
        return None
    return name.lower().removesuffix(".")


def _is_port(port: str) -> bool:
    return _PORT.fullmatch(port) is not None and int(port or 0) <= 65535


def wildcard_of(host: str) -> str:
    """Return the wildcard that covers `host` by exactly one label; empty: none can."""
    label, dot, rest = host.partition(".")
    return f"*.{rest}" if label and dot and not host.startswith("[") else ""
