"""How an endpoint is chosen."""

import re
from collections.abc import Mapping
from typing import Any

from controller.resources.annotations.annotation import NGINX, OURS, Annotation, Family, Refused, Status, ours, unread
from controller.resources.annotations.values import choice, field_text, presence
from controller.resources.features.load_balancing import HashPartKind, LoadBalancingSpec, Policy

_NAME = "a name of letters, digits and !#$%&'*+.^_`|~- would be accepted."
_DOCS = "[as for a WsRoute](wsroute.md#which-endpoint-a-request-goes-to)"


def _hash_on(kind: str, means: str, hint: str = _NAME) -> Annotation:
    field = f"loadBalancing.hashOn.{kind}"
    return ours(field, field_text(field, hint), "a name", f"with `Hash`: the value of that {means}")


_ALGORITHMS: Mapping[str, Policy] = {"round_robin": "RoundRobin", "ewma": "EWMA"}
_VARIABLES: Mapping[str, HashPartKind] = {
    "remote_addr": "client-ip",
    "binary_remote_addr": "client-ip",
    "host": "host",
    "request_uri": "target",
    "uri": "path",
}
_PREFIXES: Mapping[str, HashPartKind] = {"arg_": "query", "cookie_": "cookie", "http_": "header"}
_TOKEN = re.compile(r"\$\{(?P<braced>\w+)\}|\$(?P<bare>\w+)|(?P<literal>[^$]+)|\$", re.ASCII)
_MOST_TEXT = 1024
_KNOWN = "$remote_addr, $binary_remote_addr, $host, $request_uri, $uri, $arg_NAME, $cookie_NAME or $http_NAME"


def build(values: Mapping[str, Any]) -> LoadBalancingSpec:
    """Make the policy: what hashes first, as in ingress-nginx."""
    if "hash_text" in values:
        return LoadBalancingSpec("Hash", hash_text=values["hash_text"])
    return LoadBalancingSpec(values["algorithm"])


def _algorithm(text: str) -> Policy | Refused | None:
    if not text:
        return None
    return _ALGORITHMS.get(text) or Refused("so the default stays; round_robin or ewma would be accepted.")


def _hash_text(text: str) -> tuple[tuple[HashPartKind, str], ...] | Refused | None:
    """Read a text of nginx with variables; names of variables count in any case of letters, as there."""
    if not text:
        return None
    if len(text) > _MOST_TEXT or not text.isprintable():
        return Refused(f"so requests go round; a text of at most {_MOST_TEXT} printable characters would be accepted.")
    parts: list[tuple[HashPartKind, str]] = []
    for token in _TOKEN.finditer(text):
        if token["literal"]:
            parts.append(("literal", token["literal"]))
            continue
        part = _variable((token["braced"] or token["bare"] or "").lower())
        if part is None:
            return Refused(f"so requests go round: {token[0]} is not known there; {_KNOWN} would be accepted.")
        parts.append(part)
    if all(kind == "literal" for kind, _ in parts):
        return Refused(f"so requests go round: it has no variable, and all would go to one endpoint; {_KNOWN} would be accepted.")
    return tuple(parts)


def _variable(name: str) -> tuple[HashPartKind, str] | None:
    if name in _VARIABLES:
        return _VARIABLES[name], ""
    for prefix, kind in _PREFIXES.items():
        rest = name.removeprefix(prefix)
        if rest not in (name, ""):
            return kind, rest.replace("_", "-") if kind == "header" else rest
    return None


FAMILY = Family(
    "Load balancing",
    (
        ours(
            "loadBalancing.policy",
            choice("RoundRobin", "LeastConnections", "Random2", "Hash", "EWMA"),
            "`RoundRobin`, `LeastConnections`, `Random2`, `Hash`, `EWMA`",
            f"how an endpoint is chosen, {_DOCS}",
        ),
        ours("loadBalancing.hashOn.clientIP", presence(value=True), '`"true"`', "with `Hash`: the client's address"),
        _hash_on("header", "header field"),
        _hash_on("cookie", "cookie"),
        _hash_on("query", "query parameter", "a name of 1 to 256 characters would be accepted."),
        Annotation(
            NGINX + "upstream-hash-by",
            says="the text leads to the endpoint, its variables filled in; what a request lacks is empty. It wins over "
            "`load-balance`, and `sluice.dev/load-balancing-policy` wins over both",
            values="a text with `$remote_addr`, `$binary_remote_addr`, `$host`, `$request_uri`, `$uri`, `$arg_NAME`, "
            "`$cookie_NAME` or `$http_NAME`",
            parse=_hash_text,
            attribute="hash_text",
            yields_to=OURS + "load-balancing-policy",
        ),
        Annotation(
            NGINX + "load-balance",
            says="how an endpoint is chosen; with `ewma` sockets go where fewer are open",
            values="`round_robin`, `ewma`",
            parse=_algorithm,
            attribute="algorithm",
            yields_to=OURS + "load-balancing-policy",
        ),
        *unread(
            Status.DIFFERENT,
            "{name} has no effect: what upstream-hash-by says leads to one endpoint, not to a set of several. Remove it.",
            "upstream-hash-by-subset",
            "upstream-hash-by-subset-size",
        ),
    ),
    "load_balancing",
    build,
)
