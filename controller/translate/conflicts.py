"""Who wins where two objects want the same: reported here, carried out by the order that the proxy's table keeps.

Both use `route_order` of the model, so that what an owner is told is what is served. Only what was touched is decided anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from proxy.model.config import Conditions, Path, Route
from proxy.model.precedence import route_order

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
    """Return how an object's age is told; nothing where it is not known."""
    return f" (created {created})" if created else ""


class Contests:
    """Stage of the memo: which route serves each place."""

    __slots__ = ("_alone", "_rivals", "_settled", "_touched")

    def __init__(self) -> None:
        self._alone: dict[Place, Route] = {}
        """Routes that nobody contests: nearly all."""
        self._rivals: dict[Place, dict[str, Route]] = {}
        """Of places that more than one route wants, or wanted."""
        self._settled: dict[Place, Route] = {}
        """Winners, only of places that more than one route wants."""
        self._touched: set[Place] = set()

    def replace(self, old: Iterable[Route], new: Iterable[Route]) -> None:
        """Let routes `new` stand in place of `old`."""
        for route in old:
            for place in places_of(route):
                alone, rivals = self._alone.get(place), self._rivals.get(place)
                if alone is not None and alone.id == route.id:
                    del self._alone[place]
                elif rivals is not None:
                    rivals.pop(route.id, None)
                    if not rivals:
                        del self._rivals[place]
                self._touched.add(place)
        for route in new:
            for place in places_of(route):
                alone, rivals = self._alone.get(place), self._rivals.get(place)
                if rivals is not None:
                    rivals[route.id] = route
                elif alone is None or alone.id == route.id:
                    self._alone[place] = route
                else:
                    del self._alone[place]
                    self._rivals[place] = {alone.id: alone, route.id: route}
                self._touched.add(place)

    def settle(self) -> set[ObjectRef]:
        """Decide touched places anew; return whose outcome may have changed."""
        told: set[ObjectRef] = set()
        for place in self._touched:
            rivals = self._rivals.get(place, {})
            before = self._settled.pop(place, None)
            if len(rivals) > 1:
                self._settled[place] = min(rivals.values(), key=lambda route: route_order(route, upgrade=place[1]))
            if before is not None or len(rivals) > 1:
                told.update(map(owner_of, rivals.values()))
        self._touched.clear()
        return told

    def lost(self, route: Route) -> list[tuple[Place, Route]]:
        """Return the places that a route lost, each with its winner."""
        settled = self._settled
        if not settled:
            return []
        found = [(place, settled.get(place)) for place in places_of(route)]
        return [(place, winner) for place, winner in found if winner is not None and winner.id != route.id]

    def wins(self, route: Route) -> bool:
        """Tell whether there is a place that a route did not lose."""
        settled = self._settled
        return not settled or any((winner := settled.get(place)) is None or winner.id == route.id for place in places_of(route))


def conflict_problems(route: Route, lost: Iterable[tuple[Place, Route]], fields: Mapping[str, str]) -> list[Problem]:
    """Tell the owner of a route who serves the places that it lost. `fields` says where its own routes were written.

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


class Owners:
    """Stage of the memo, where hosts are not shared: which namespace has each host (docs/wsroute.md).

    Any host is nobody's.
    """

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

    def settle(self, touched: Iterable[str]) -> tuple[list[str], list[ObjectRef]]:
        """Decide hosts anew; return those whose owner changed, and everybody whose routes name one of them."""
        hosts: list[str] = []
        told: list[ObjectRef] = []
        for host in touched:
            claims = self._claims.get(host)
            before = self._owners.pop(host, None)
            if claims:
                self._owners[host] = min(claims)
            else:
                self._claims.pop(host, None)
            if self._owners.get(host) != before:
                hosts.append(host)
                told += [ObjectRef(claim.kind, claim.namespace, claim.name) for claim in claims or ()]
        return hosts, told

    def foreign(self, host: str, namespace: str) -> HostClaim | None:
        """Return who has a host, if it is another namespace."""
        owner = self._owners.get(host)
        return owner if owner is not None and owner.namespace != namespace else None

    def keep(self, route: Route) -> Route | None:
        """Return a route without the hosts of other namespaces; None: nothing is left of it."""
        hosts = tuple(host for host in route.hosts if self.foreign(host, route.namespace) is None)
        if len(hosts) == len(route.hosts):
            return route
        return msgspec.structs.replace(route, hosts=hosts) if hosts else None


def _ownable(route: Route) -> list[str]:
    return [host for host in route.hosts if host]


def _claim(route: Route) -> HostClaim:
    return HostClaim(route.created, route.namespace, route.name, owner_of(route).kind)


def foreign_host(ref: ObjectRef, field: str, host: str, owner: HostClaim) -> Problem:
    """Tell an object that another namespace has its host."""
    message = (
        f'{field}: host "{host}" is claimed by {owner.kind} "{owner.namespace}/{owner.name}"{created_at(owner.created)} already, '
        "and hosts are not shared between namespaces here; a host that no other namespace names would be accepted."
    )
    return Problem(ref, Reason.HOST_CONFLICT, field, message)
