"""Conflicts between objects that want the same: reported here, carried out by the order that the proxy's table keeps.

Both use `route_order` of the model, so that what a verdict says is what is served. Only what is dirty is decided anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from proxy.model.config import Conditions, Path, Route
from proxy.model.route_order import route_order

Place = tuple[str, bool, Path, Conditions, bool]
"""Host, upgrades or requests, path, conditions, a default backend or not: what only one route can serve."""


def places_of(route: Route) -> list[Place]:
    """Return every place that a route wants."""
    kinds = [upgrade for upgrade, target in ((False, route.http), (True, route.websocket)) if target is not None]
    return [(host, upgrade, route.path, route.conditions, route.fallback) for host in route.hosts for upgrade in kinds]


def owner_of(route: Route) -> ObjectRef:
    """Return the object that a route came from."""
    return ObjectRef("WsRoute" if route.origin == "wsroute" else "Ingress", route.namespace, route.name)


def created_at(created: str) -> str:
    """Write an object's age; empty where it is not known."""
    return f" (created {created})" if created else ""


class Conflicts:
    """Stage: which route serves each place."""

    __slots__ = ("_contested", "_dirty", "_sole", "_winners")

    def __init__(self) -> None:
        self._sole: dict[Place, Route] = {}
        """Of places that one route wants: nearly all."""
        self._contested: dict[Place, dict[str, Route]] = {}
        """Of places that more than one route wants, or wanted."""
        self._winners: dict[Place, Route] = {}
        """Only of places that more than one route wants."""
        self._dirty: set[Place] = set()

    def replace(self, old: Iterable[Route], new: Iterable[Route]) -> None:
        """Let routes `new` stand in place of `old`."""
        for route in old:
            for place in places_of(route):
                sole, candidates = self._sole.get(place), self._contested.get(place)
                if sole is not None and sole.id == route.id:
                    del self._sole[place]
                elif candidates is not None:
                    candidates.pop(route.id, None)
                    if not candidates:
                        del self._contested[place]
                self._dirty.add(place)
        for route in new:
            for place in places_of(route):
                sole, candidates = self._sole.get(place), self._contested.get(place)
                if candidates is not None:
                    candidates[route.id] = route
                elif sole is None or sole.id == route.id:
                    self._sole[place] = route
                else:
                    del self._sole[place]
                    self._contested[place] = {sole.id: sole, route.id: route}
                self._dirty.add(place)

    def resolve(self) -> set[ObjectRef]:
        """Decide dirty places anew; return the objects whose outcome may have changed."""
        contestants: set[ObjectRef] = set()
        for place in self._dirty:
            candidates = self._contested.get(place, {})
            before = self._winners.pop(place, None)
            if len(candidates) > 1:
                self._winners[place] = min(candidates.values(), key=lambda route: route_order(route, upgrade=place[1]))
            if before is not None or len(candidates) > 1:
                contestants.update(map(owner_of, candidates.values()))
        self._dirty.clear()
        return contestants

    def lost_places(self, route: Route) -> list[tuple[Place, Route]]:
        """Return the places that a route lost, each with its winner."""
        winners = self._winners
        if not winners:
            return []
        outcome = [(place, winners.get(place)) for place in places_of(route)]
        return [(place, winner) for place, winner in outcome if winner is not None and winner.id != route.id]

    def is_served(self, route: Route) -> bool:
        """Tell whether there is a place that a route serves."""
        winners = self._winners
        return not winners or any((winner := winners.get(place)) is None or winner.id == route.id for place in places_of(route))


def conflict_problems(route: Route, lost: Iterable[tuple[Place, Route]], fields: Mapping[str, str]) -> list[Problem]:
    """Say which routes serve the places that a route lost. `fields` says where its own routes were written.

    A WsRoute that takes the upgrades of an Ingress path is no conflict (docs/wsroute.md, 'What is matched, and who wins').
    """
    kinds: dict[tuple[str, str], list[bool]] = {}
    winners: dict[str, Route] = {}
    for (host, upgrade, _, _, _), winner in lost:
        if not (upgrade and winner.origin == "wsroute" and route.origin == "ingress"):
            kinds.setdefault((winner.id, host), []).append(upgrade)
            winners[winner.id] = winner
    groups: dict[tuple[str, tuple[bool, ...]], list[str]] = {}
    for (winner_id, host), upgrades in kinds.items():
        groups.setdefault((winner_id, tuple(upgrades)), []).append(host)
    return [_conflict(route, winners[winner_id], hosts, upgrades, fields) for (winner_id, upgrades), hosts in groups.items()]


def _conflict(loser: Route, winner: Route, hosts: list[str], upgrades: tuple[bool, ...], fields: Mapping[str, str]) -> Problem:
    field, owner = fields[loser.id], owner_of(winner)
    by = (
        f"{fields[winner.id]} of this object" if winner.id in fields else f'{owner.kind} "{owner.path}"{created_at(winner.created)}'
    )
    what = " and ".join("WebSocket upgrades" if upgrade else "requests" for upgrade in upgrades)
    named = ", ".join(f'"{host}"' for host in hosts if host)
    where = f"of host{'s' if len(hosts) > 1 else ''} {named}" if named else "of any host"
    if loser.fallback:
        where = where if named else "of hosts that nobody names"
        message = (
            f"{field}: {what} {where} go to the default backend of {by} already where no rule serves them; rules would be accepted."
        )
    else:
        some = " under the same conditions" if loser.conditions.count else ""
        message = (
            f'{field}: {what} {where} with {loser.path.kind} path "{loser.path.value}"{some} are served by {by} already; '
            "another host or path would be accepted."
        )
    return Problem(owner_of(loser), Reason.ROUTE_CONFLICT, field, message)


@dataclass(frozen=True, slots=True, order=True)
class HostClaim:
    """An object that names a host, in the order in which hosts are given away."""

    created: str
    namespace: str
    name: str
    kind: str


class HostOwners:
    """Stage, where hosts are not shared: which namespace has each host (docs/wsroute.md). A rule for any host claims none."""

    __slots__ = ("_claims", "_named", "_owners")

    def __init__(self) -> None:
        self._claims: dict[str, set[HostClaim]] = {}
        self._named: dict[ObjectRef, dict[str, HostClaim]] = {}
        self._owners: dict[str, HostClaim] = {}

    def replace_object(self, ref: ObjectRef, routes: Iterable[Route]) -> set[str]:
        """Let an object claim the hosts of its routes, and no others; return hosts that may have another owner now."""
        new = {host: _claim(route) for route in routes for host in _ownable(route)}
        old = self._named.pop(ref, {})
        for host, claim in old.items():
            self._claims.get(host, set()).discard(claim)
        for host, claim in new.items():
            self._claims.setdefault(host, set()).add(claim)
        if new:
            self._named[ref] = new
        return old.keys() | new.keys()

    def resolve(self, dirty: Iterable[str]) -> tuple[list[str], list[ObjectRef]]:
        """Decide hosts anew; return those whose owner changed, and the objects whose routes name one of them."""
        hosts: list[str] = []
        claimants: list[ObjectRef] = []
        for host in dirty:
            claims = self._claims.get(host)
            before = self._owners.pop(host, None)
            if claims:
                self._owners[host] = min(claims)
            else:
                self._claims.pop(host, None)
            if self._owners.get(host) != before:
                hosts.append(host)
                claimants += [ObjectRef(claim.kind, claim.namespace, claim.name) for claim in claims or ()]
        return hosts, claimants

    def foreign_owner(self, host: str, namespace: str) -> HostClaim | None:
        """Return the claim that owns a host, if it is of another namespace."""
        owner = self._owners.get(host)
        return owner if owner is not None and owner.namespace != namespace else None

    def without_foreign_hosts(self, route: Route) -> Route | None:
        """Return a route without the hosts of other namespaces; None: nothing is left of it."""
        hosts = tuple(host for host in route.hosts if self.foreign_owner(host, route.namespace) is None)
        if len(hosts) == len(route.hosts):
            return route
        return msgspec.structs.replace(route, hosts=hosts) if hosts else None


def _ownable(route: Route) -> list[str]:
    return [host for host in route.hosts if host]


def _claim(route: Route) -> HostClaim:
    return HostClaim(route.created, route.namespace, route.name, owner_of(route).kind)


def foreign_host_problem(ref: ObjectRef, field: str, host: str, owner: HostClaim) -> Problem:
    """Say that another namespace owns a host of an object."""
    message = (
        f'{field}: host "{host}" is claimed by {owner.kind} "{owner.namespace}/{owner.name}"{created_at(owner.created)} already, '
        "and hosts are not shared between namespaces here; a host that no other namespace names would be accepted."
    )
    return Problem(ref, Reason.HOST_CONFLICT, field, message)
