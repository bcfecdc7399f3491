# Compiled by mypyc: see setup.py.
"""Cookies as far as the choice of an endpoint is concerned: find one, take one away, write attributes of ours (RFC 6265). Pure."""

import re
import time
from collections.abc import Sequence
from typing import Final

from proxy.model.policy import CookieAffinity

_REFUSES_SAME_SITE_NONE: Final = re.compile(
    r"Chrome/[456]|CPU iPhone OS 12|iPad; CPU OS 12|^(?!.*Chrome)(?=.*Macintosh)(?=.*Intel Mac OS X 10_14)(?=.*Safari)"
)
"""User-Agent of browsers that drop cookies with `SameSite=None`, or take it for Strict; those that ingress-nginx knows."""


def find_cookie(fields: Sequence[str], name: str) -> str | None:
    """Return the value of the first cookie of that name in the values of the Cookie fields; None: there is none."""
    for field in fields:
        if name in field:
            for pair in field.split(";"):
                cookie_name, equals, value = pair.strip(" \t").partition("=")
                if equals and cookie_name == name:
                    return value
    return None


def without_cookie(forward: bytes, name: str, value: str) -> bytes:
    """Return field lines without every cookie of that name and value; a Cookie field that held nothing else goes with it."""
    wanted = f"{name}={value}".encode("latin-1")
    lines: list[bytes] = []
    for line in forward.split(b"\r\n"):
        field, colon, pairs = line.partition(b":")
        if colon and wanted in pairs and field.lower() == b"cookie":
            kept = [stripped for pair in pairs.split(b";") if (stripped := pair.strip(b" \t")) and stripped != wanted]
            if kept:
                lines.append(field + b": " + b"; ".join(kept))
        else:
            lines.append(line)
    return b"\r\n".join(lines)


def takes_same_site_none(user_agents: Sequence[str]) -> bool:
    """Tell whether a browser keeps cookies with `SameSite=None`, by the values of its User-Agent."""
    return not any(_REFUSES_SAME_SITE_NONE.search(value) for value in user_agents)


def cookie_attributes(cookie: CookieAffinity, now: float, *, secure: bool, same_site: bool) -> str:
    """Write the attributes of a cookie of ours (RFC 6265, 4.1.1). `now`: Unix time; `same_site`: False leaves that one out."""
    parts = [f"; Path={cookie.path}"]
    if cookie.domain:
        parts.append(f"; Domain={cookie.domain}")
    if cookie.expires:
        parts.append(time.strftime("; Expires=%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now + cookie.expires)))
    if cookie.max_age:
        parts.append(f"; Max-Age={cookie.max_age}")
    parts.append("; HttpOnly")
    if secure if cookie.secure is None else cookie.secure:
        parts.append("; Secure")
    if same_site and cookie.same_site:
        parts.append(f"; SameSite={cookie.same_site}")
    if cookie.partitioned:
        parts.append("; Partitioned")
    return "".join(parts)
