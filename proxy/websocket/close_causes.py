"""Whether an open socket still has what it was opened with: its rule, its backend there, who may open it, its endpoint. Pure.

The answer is read off the present configuration and the route as the socket knew it last, and off nothing in between. So the
proxy needs no word from its controller of what went away: changes that came together, a worker that was replaced, a controller
that was restarted all give the same answer, and what comes back takes a drain that is under way back.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from proxy.model.config import Endpoint, Route, Target
from proxy.model.policy import SOCKET_ADMISSION, Close, CloseMode, Drain
from proxy.routing.hosts import wildcard_of

ROUTE_DELETED, RULE_GONE, CLASS_GONE = "route_deleted", "rule_gone", "class_gone"
BACKENDS_CHANGED, SERVICE_DELETED = "backends_changed", "service_deleted"
POLICY_CHANGED = "policy_changed"
ENDPOINT_TERMINATING, ENDPOINT_GONE = "endpoint_terminating", "endpoint_gone"


EndpointAddress = tuple[str, int]
"""Address and port of an endpoint."""


@dataclass(frozen=True, slots=True)
class CloseCause:
    """Why a socket has to go, and what its route wants done about it."""

    name: str
    """One of the constants above, as metrics have it."""
    subject: str
    """The route or endpoint that it is about: sockets of one cause and subject are closed together."""
    mode: CloseMode
    drain: Drain
    deadline: float = 0.0
    """Unix time at which the other end is killed; 0: unknown."""


def object_of(route: Route) -> str:
    """Return the object of a route, as its id begins."""
    return f"{route.origin}/{route.namespace}/{route.name}"


def close_of(route: Route) -> Close:
    """Return what a route wants done with its sockets."""
    return next((policy for policy in route.policies if isinstance(policy, Close)), _DEFAULT)


_DEFAULT = Close()


def admission_of(route: Route) -> tuple[object, ...]:
    """Return everything of a route that decides who may open a socket."""
    return (route.fault, *(policy for policy in route.policies if isinstance(policy, SOCKET_ADMISSION)))


def find_rule(known: Route, host: str, routes: Mapping[str, Route], siblings: Sequence[Route]) -> Route | None:
    """Find the rule that a socket of `host` was opened under, as it is now; None: it is gone.

    `siblings` are the routes of the same object. A rule is known by what it matches; one that its owner named also by its name.
    Rules without a name are numbered, so that one removed before them gives them another number, and theirs to others.
    """
    same = routes.get(known.id)
    candidates = siblings if same is None else (same, *siblings)
    for route in candidates:
        if route.path == known.path and route.conditions == known.conditions and _covers(route, host):
            return route
    if same is not None and (same.fault or not same.id.rpartition("/")[2].isdigit()):
        return same if same.fault or _covers(same, host) else None
    return None


def _covers(route: Route, host: str) -> bool:
    return host in route.hosts or "" in route.hosts or wildcard_of(host) in route.hosts


def backend_cause(known: Route, rule: Route, service: str) -> str:
    """Name why a rule does not lead to a socket's Service any more; empty: it does."""
    target = rule.websocket
    if target is not None and any(share.upstream == service for share in target.shares):
        return ""
    if target is not None and known.websocket is not None and _unresolved(known.websocket, target, service):
        return SERVICE_DELETED
    return BACKENDS_CHANGED


def service_port_of(
    rule: Route, service: str, address: EndpointAddress, endpoints: Callable[[str], Container[EndpointAddress]]
) -> str:
    """Return the port of a Service that a rule names for sockets now and that leads to an endpoint; empty: none does.

    The port by which a socket came may have another number by now, or the rule may name another port that leads to the same pods.
    """
    target = rule.websocket
    names = [share.upstream for share in target.shares if share.upstream is not None] if target is not None else []
    owner = service.rpartition(":")[0]
    return next((name for name in names if name.rpartition(":")[0] == owner and address in endpoints(name)), "")


def _unresolved(before: Target, now: Target, service: str) -> bool:
    """Tell whether the backend is still written, but leads nowhere."""
    return len(before.shares) == len(now.shares) and any(
        old.upstream == service and new.upstream is None for old, new in zip(before.shares, now.shares, strict=True)
    )


def endpoint_cause(close: Close, endpoint: Endpoint | None, name: str) -> CloseCause | None:
    """Return the cause to close a socket that its endpoint gives, as its Service has it now; None: there is none."""
    if endpoint is None:
        return CloseCause(ENDPOINT_GONE, name, close.on_endpoint_terminating, close.drain)
    if endpoint.state in ("draining", "stopping"):
        return CloseCause(ENDPOINT_TERMINATING, name, close.on_endpoint_terminating, close.drain, endpoint.deadline)
    return None
