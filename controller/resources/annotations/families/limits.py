"""How many sockets may be open, and how fast clients may come: ours."""

from controller.resources.annotations.annotation import Annotation, Family, Guard, ours
from controller.resources.annotations.values import timeout, whole_number
from controller.resources.features.limits import MOST_CONNECTIONS, MOST_HANDSHAKES

_NO_LIMIT = 'whole number, `"0"`: no limit'


def _count(field: str, means: str) -> Annotation:
    return ours(f"limits.{field}", whole_number(0, MOST_CONNECTIONS), _NO_LIMIT, means, guard=Guard.TEXT)


FAMILY = Family(
    "Limits",
    (
        _count("connections", "open sockets of each path; over it 503"),
        _count("connectionsPerClient", "open sockets of a client's address on each path; over it 429"),
        _count("connectionsPerEndpoint", "open sockets of an endpoint; over it another endpoint, or 503"),
        ours(
            "limits.handshakes.rate",
            whole_number(1, MOST_HANDSHAKES),
            "whole number",
            "upgrades of each client's address in each `limits-handshakes-per`; over it 429",
            guard=Guard.TEXT,
        ),
        ours(
            "limits.handshakes.per",
            timeout,
            "duration, `1s` by default",
            "the time for them",
            guard=Guard.TEXT,
            needs="limits.handshakes.rate",
        ),
        ours(
            "limits.handshakes.burst",
            whole_number(1, MOST_HANDSHAKES),
            "whole number, the rate by default",
            "upgrades that may come at once",
            guard=Guard.TEXT,
            needs="limits.handshakes.rate",
        ),
    ),
    "limits",
)
