"""How an endpoint is chosen."""

from controller.resources.annotations.annotation import Annotation, Family, Status, not_yet, ours, unread
from controller.resources.annotations.values import choice, field_text, presence

_NAME = "a name of letters, digits and !#$%&'*+.^_`|~- would be accepted."
_DOCS = "[as for a WsRoute](wsroute.md#which-endpoint-a-request-goes-to)"


def _hash_on(kind: str, means: str, hint: str = _NAME) -> Annotation:
    field = f"loadBalancing.hashOn.{kind}"
    return ours(field, field_text(field, hint), "a name", f"with `Hash`: the value of that {means}")


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
        *unread(Status.DIFFERENT, "{name} has no effect. Write sluice.dev/load-balancing-policy instead.", "load-balance"),
        *unread(
            Status.DIFFERENT,
            "{name} has no effect. Write sluice.dev/load-balancing-policy: Hash, and load-balancing-hash-on-* beside it.",
            "upstream-hash-by",
        ),
        *not_yet("upstream-hash-by-subset", "upstream-hash-by-subset-size"),
    ),
    "load_balancing",
)
