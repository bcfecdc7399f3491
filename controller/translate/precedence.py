"""Who wins where two objects want the same: reported here, carried out by the order that the proxy's table keeps.

Both use `route_order` of the model, so that what an owner is told is what is served.
"""

from collections.abc import Iterable, Mapping

from controller.resources.problems import Problem, Reason
from controller.resources.refs import ObjectRef
from proxy.model.config import Conditions, Path, Route, route_order

Place = tuple[str, bool, Path, Conditions]
"""Host, upgrades or requests, path, conditions: what only one route can serve."""


def places_of(route: Route) -> tuple[Place, ...]:
    """Return every place that a route wants."""
    if route.fallback:
        return tuple(("*", upgrade, route.path, route.conditions) for upgrade in (False, True))
    kinds = [upgrade for upgrade, target in ((False, route.http), (True, route.websocket)) if target is not None]
    return tuple((host, upgrade, route.path, route.conditions) for host in route.hosts for upgrade in kinds)


def owner_of(route: Route) -> ObjectRef:
    """Return the object that a route came from."""
    return ObjectRef("WsRoute" if route.origin == "wsroute" else "Ingress", route.namespace, route.name)


def find_conflicts(routes: Iterable[tuple[Route, tuple[Place, ...]]]) -> tuple[dict[ObjectRef, list[Problem]], set[str]]:
    """Find the losers: what their owners are told, and the ids of routes that serve nothing at all."""
    first: dict[Place, Route] = {}
    contested: dict[Place, list[Route]] = {}
    for route, places in routes:
        for place in places:
            other = first.setdefault(place, route)
            if other is not route:
                contested.setdefault(place, [other]).append(route)
    problems: dict[ObjectRef, list[Problem]] = {}
    lost: dict[str, set[Place]] = {}
    for place, rivals in contested.items():
        upgrade = place[1]
        winner, *losers = sorted(rivals, key=lambda route: route_order(route, upgrade=upgrade))
        for loser in losers:
            lost.setdefault(loser.id, set()).add(place)
            if upgrade and winner.origin == "wsroute" and loser.origin == "ingress":
                continue  # by design: a WsRoute takes the upgrades of an Ingress path (spec/wsroute.md, rule 2)
            problems.setdefault(owner_of(loser), []).append(_conflict(loser, winner, place))
    dead = {route.id for rivals in contested.values() for route in rivals if lost.get(route.id) == set(places_of(route))}
    return problems, dead


def _conflict(loser: Route, winner: Route, place: Place) -> Problem:
    host, upgrade, path, conditions = place
    field = f"spec.rules[{loser.index}]" if loser.origin == "wsroute" else "spec.defaultBackend" if loser.fallback else "spec.rules"
    same = owner_of(winner) == owner_of(loser)
    by = (
        "an earlier rule of the same object"
        if same
        else f"{owner_of(winner)}{f' (created {winner.created})' if winner.created else ''}"
    )
    what = "WebSocket upgrades" if upgrade else "requests"
    where = "of any host that nothing else serves" if host == "*" else f'of host "{host}"' if host else "of any host"
    some = " under the same conditions" if conditions.count else ""
    message = (
        f'{field}: {what} {where} with {path.kind} path "{path.value}"{some} are served by {by} already; '
        "another host or path would be accepted."
    )
    return Problem(owner_of(loser), Reason.ROUTE_CONFLICT, field, message)


def claim_hosts(routes: Iterable[Route]) -> Mapping[str, str]:
    """Return which namespace owns a host: that of the oldest object that names it (spec/wsroute.md, rule 5)."""
    owners: dict[str, tuple[str, str, str]] = {}
    for route in routes:
        if not route.fallback:
            claim = (route.created, route.namespace, route.name)
            for host in route.hosts:
                if host and (host not in owners or claim < owners[host]):
                    owners[host] = claim
    return {host: namespace for host, (_, namespace, _) in owners.items()}


def foreign_host(route: Route, host: str, owner: str) -> Problem:
    """Tell the owner of a route that another namespace has its host."""
    message = (
        f'spec: host "{host}" is claimed by namespace "{owner}" already, and hosts are not shared between namespaces here; '
        "a host that no other namespace serves would be accepted."
    )
    return Problem(owner_of(route), Reason.HOST_CONFLICT, "spec", message)
