"""Limits on the requests of a client to one Ingress, as ingress-nginx has them."""

from collections.abc import Mapping
from typing import Any

from controller.resources.annotations.annotation import NGINX, OURS, Annotation, Family, Guard, Parse, Status, not_yet, unread
from controller.resources.annotations.values import networks, whole_number
from controller.resources.features.limits import MOST_CONNECTIONS, MOST_HANDSHAKES
from controller.resources.features.request_limits import MOST_MULTIPLIER, RequestLimits

_NO_LIMIT = 'whole number, `"0"`: no limit'


def build(values: Mapping[str, Any]) -> RequestLimits | None:
    """Make the limits; None: nothing is limited."""
    limits = RequestLimits(**values)
    return limits if limits.connections or limits.per_second or limits.per_minute else None


def _limit(name: str, attribute: str, parse: Parse, values: str, means: str, yields_to: str = "") -> Annotation:
    return Annotation(
        NGINX + name, guard=Guard.TEXT, says=means, values=values, parse=parse, attribute=attribute, yields_to=yields_to
    )


FAMILY = Family(
    "Limits of ingress-nginx",
    (
        _limit(
            "limit-connections",
            "connections",
            whole_number(0, MOST_CONNECTIONS),
            _NO_LIMIT,
            "requests under way and open sockets of a client's address on the whole Ingress; over it 503. "
            "`sluice.dev/limits-connections-per-client` wins where both are set",
            OURS + "limits-connections-per-client",
        ),
        _limit(
            "limit-rps",
            "per_second",
            whole_number(0, MOST_HANDSHAKES),
            _NO_LIMIT,
            "requests, upgrades among them, of a client's address to the whole Ingress, per second; over it 503",
        ),
        _limit("limit-rpm", "per_minute", whole_number(0, MOST_HANDSHAKES), _NO_LIMIT, "the same per minute"),
        _limit(
            "limit-burst-multiplier",
            "multiplier",
            whole_number(1, MOST_MULTIPLIER),
            'whole number, `"5"` by default',
            "so many times the rate may come at once, beside the one that is due",
        ),
        _limit(
            "limit-allowlist",
            "exempt",
            networks,
            "networks and addresses, separated by commas",
            "clients to which ingress-nginx's limits do not apply",
        ),
        _limit("limit-whitelist", "exempt", networks, "the same", "as `limit-allowlist`, which wins where both are set"),
        *not_yet("limit-rate", "limit-rate-after", guard=Guard.SWITCH),
        *unread(
            Status.NEVER_EXISTED,
            "the routes of this Ingress answer 500: {name} never existed in ingress-nginx, so they would be less limited than "
            "written. Write limit-rps, limit-rpm or limit-connections instead.",
            "rate-limit",
            "limit-req",
            guard=Guard.SWITCH,
        ),
    ),
    "request_limits",
    build,
)
