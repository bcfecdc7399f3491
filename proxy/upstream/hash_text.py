# Compiled by mypyc: see setup.py.
"""The text by which a request is hashed: literals, and what the request has in places (ingress-nginx, upstream-hash-by). Pure."""

from collections.abc import Iterable, Sequence

from proxy.http.message import Request
from proxy.model.policy import HashPart
from proxy.routing.paths import decoded_path


def hash_text(parts: Iterable[HashPart], request: Request) -> str:
    """Return the text of a request."""
    return "".join([_value(part, request) for part in parts])


def _value(part: HashPart, request: Request) -> str:
    kind, name = part.kind, part.name
    if kind == "literal":
        return name
    if kind == "client-ip":
        return request.address
    if kind == "host":
        return request.host
    if kind == "target":
        return request.target
    if kind == "path":
        return decoded_path(request.path)
    if kind == "header":
        return ", ".join(request.values(name))
    if kind == "cookie":
        return _first(name, [pair for field in request.values("cookie") for pair in field.split(";")])
    return _first(name, request.query.split("&"))


def _first(name: str, pairs: Sequence[str]) -> str:
    """Return the value of the first pair of that name, in any case of letters, as in nginx; empty: there is none."""
    for pair in pairs:
        found, equals, value = pair.strip(" \t").partition("=")
        if equals and found.lower() == name:
            return value
    return ""
