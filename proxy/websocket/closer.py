"""Which open sockets have to go, and when: after a change of configuration, at their age, by command, at the worker's end.

Whether a socket may stay is close_causes.py's, when exactly it goes is the pacer's, how it goes is the tunnel's.
"""

import logging
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from proxy.model.config import Endpoint, Route
from proxy.model.policy import Drain, Timeouts
from proxy.observability.worker_stats import RouteStats, WorkerStats
from proxy.transport.timer_wheel import Deadline, TimerWheel
from proxy.websocket import close_causes
from proxy.websocket.close_causes import Fault, Place
from proxy.websocket.drain_schedule import DrainSchedule, Farewell, Paced, ScheduledClose
from proxy.websocket.socket_stats import SocketInfo, SocketStats, TunnelEndpoint

MARGIN = 2.0
"""Seconds before an endpoint is killed by which its sockets are closed (docs/closing.md)."""
JITTER = 0.1
"""Share of the maximum age by which sockets that were opened together are closed apart."""
SIGTERM = Farewell("sigterm", 1001)
_CONFIGURED = frozenset(
    {
        *(
            close_causes.ROUTE_DELETED,
            close_causes.RULE_GONE,
            close_causes.CLASS_GONE,
            close_causes.BACKENDS_CHANGED,
            close_causes.SERVICE_DELETED,
        ),
        *(close_causes.POLICY_CHANGED, close_causes.ENDPOINT_TERMINATING, close_causes.ENDPOINT_GONE),
    }
)
"""Causes that a configuration can take back."""

_log = logging.getLogger("sluice.closings")


class Socket(Protocol):
    """An open tunnel."""

    phase: int
    """0 while nobody closes it."""
    opened: float
    lease: "SocketEntry | None"
    account: SocketStats

    def close(self, code: int, reason: bytes, cause: str) -> None:
        """Send a close frame to both sides."""


class ActiveRoute(Protocol):
    """A route as it runs."""

    route: Route
    stats: RouteStats


class LiveUpstream(Protocol):
    """An upstream as it runs."""

    endpoints: dict[Place, Endpoint]

    def pool_at(self, place: Place) -> TunnelEndpoint | None:
        """Return an endpoint by its address and port."""
        ...


class SocketEntry:
    """What one socket was opened with, and when it has to go; ended with it."""

    __slots__ = ("active", "age", "guards", "opened", "route_id", "service", "slot", "socket", "sound")

    def __init__(self, socket: Socket, active: ActiveRoute) -> None:
        self.socket: Socket | None = socket
        self.opened = socket.opened
        self.active = active
        """The socket's rule as it was known last."""
        self.route_id = active.route.id
        self.service = socket.account.facts.service
        self.sound = False
        """Nothing was wrong when it was judged last, nor kept although it was: only a change of its own concerns it."""
        self.guards = close_causes.guards_of(active.route)
        self.slot: ScheduledClose | None = None
        self.age: Deadline | None = None

    def close(self, farewell: Farewell) -> None:
        """Close the socket now."""
        if self.socket is not None:
            self.socket.close(farewell.code, farewell.reason, farewell.cause)

    def end(self, wheel: TimerWheel) -> None:
        """Let go of the socket, which is gone."""
        self.socket = None
        if self.slot is not None:
            self.slot.leave()
        if self.age is not None:
            wheel.cancel(self.age)
            self.age = None


class Closer:
    """The closer's decisions in one worker."""

    def __init__(
        self,
        pacer: DrainSchedule,
        clock: Callable[[], float],
        wheel: TimerWheel,
        stats: WorkerStats,
        sockets: Iterable[Socket],
        routes: Mapping[str, ActiveRoute],
        upstreams: Mapping[str, LiveUpstream],
    ) -> None:
        """`sockets`, `routes` and `upstreams` are the worker's own, and are looked at again at each call."""
        self._pacer = pacer
        self._clock = clock
        self._wheel = wheel
        self._stats = stats
        self._sockets = sockets
        self._routes = routes
        self._upstreams = upstreams
        self._waves: dict[tuple[Fault, str], float] = {}
        """Until when the sockets of a fault are closed; late ones of it get what is left of that time."""
        self._until = 0.0
        """The worker ends, and closes every socket until then; 0: it does not."""
        self.classless: frozenset[str] = frozenset()
        """Objects that are not served because their class is gone, as their routes' ids begin."""

    def opened(self, socket: Socket, active: ActiveRoute) -> None:
        """Take note of a new socket. What it needs may have gone while the backend answered."""
        lease = socket.lease = SocketEntry(socket, active)
        timeouts = next((policy for policy in active.route.policies if isinstance(policy, Timeouts)), None)
        if timeouts is not None and timeouts.max_age:
            lease.age = Deadline(lambda: self._aged(lease))
            self._wheel.schedule(lease.age, timeouts.max_age * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311  no secret
        if self._until:
            self._pacer.spread([lease], self._until, SIGTERM)
        else:
            self._review([lease])

    def review(self, routes: Collection[str], services: Collection[str]) -> None:
        """Look again at whom a change of these routes and upstreams may concern."""
        now = self._clock()
        self._waves = {key: until for key, until in self._waves.items() if until >= now}
        if not self._until and (routes or services):
            self._review(
                [
                    lease
                    for lease in self._leases(self._sockets)
                    if not lease.sound or lease.route_id in routes or lease.service in services
                ]
            )

    def end(self, over: float) -> int:
        """Close everything over some seconds, and whatever is opened meanwhile; returns how many are open."""
        self._until = self._clock() + over
        leases = self._leases(self._sockets)
        self._pacer.spread(leases, self._until, SIGTERM)
        return len(leases)

    def drain(self, target: str, drain: Drain) -> int:
        """Close the sockets of a route, object, Service or endpoint by command; returns how many get a time to close."""
        chosen = [lease for lease in self._leases(self._sockets) if _is_of(lease, target)]
        farewell = Farewell("command", drain.code, drain.reason.encode())
        return self._pacer.spread(chosen, self._clock() + drain.over, farewell)

    def _leases(self, sockets: Iterable[Socket]) -> list[SocketEntry]:
        return [lease for socket in sockets if not socket.phase and (lease := socket.lease) is not None]

    def _aged(self, lease: SocketEntry) -> None:
        drain = close_causes.close_of(lease.active.route).drain
        lease.close(Farewell("max_age", drain.code, drain.reason.encode()))

    def _review(self, leases: Iterable[SocketEntry]) -> None:
        present = _Present(self._routes)
        faulty: dict[tuple[Fault, str], list[Paced]] = {}
        for lease in leases:
            fault = self._judge(lease, present)
            lease.sound = fault is None and self._routes.get(lease.route_id) is lease.active
            if fault is None or fault.mode == "keep":
                if lease.slot is not None and lease.slot.farewell.cause in _CONFIGURED:
                    lease.slot.leave()
            else:
                faulty.setdefault((fault, lease.active.route.id), []).append(lease)
        for key, group in faulty.items():
            self._carry_out(key, group)

    def _carry_out(self, key: tuple[Fault, str], leases: list[Paced]) -> None:
        fault, route_id = key
        drain = fault.drain
        farewell = Farewell(fault.cause, drain.code, drain.reason.encode())
        if fault.mode == "now":
            for lease in leases:
                lease.close(farewell)
            _log.info("cause=%s route=%s subject=%s sockets=%d closed at once", fault.cause, route_id, fault.subject, len(leases))
            return
        now = self._clock()
        until = self._waves.get(key, 0.0)
        if not until:
            over = drain.over if not fault.deadline else max(0.0, fault.deadline - MARGIN - time.time())
            until = self._waves[key] = now + over
        count = self._pacer.spread(leases, until, farewell)
        if count:
            _log.info(
                "cause=%s route=%s subject=%s sockets=%d closed over %.1f s",
                fault.cause,
                route_id,
                fault.subject,
                count,
                until - now,
            )

    def _judge(self, lease: SocketEntry, present: "_Present") -> Fault | None:
        """Say what is wrong with a socket; what its route keeps open is judged on."""
        socket = lease.socket
        assert socket is not None  # noqa: S101  it is open
        facts = socket.account.facts
        known = lease.active.route
        fault = None
        if self._routes.get(known.id) is not lease.active:
            fault = self._judge_route(lease, facts, present)
        close = close_causes.close_of(lease.active.route)
        if fault is not None and fault.mode != "keep":
            return fault
        place = (facts.endpoint.address, facts.endpoint.port)
        if fault is None and place not in self._endpoints(lease.service):
            self._move(lease, lease.active.route, facts)
        upstream = self._upstreams.get(lease.service)
        if upstream is None:
            return None
        return close_causes.endpoint_fault(close, upstream.endpoints.get(place), f"{place[0]}:{place[1]}")

    def _endpoints(self, service: str) -> Mapping[Place, Endpoint]:
        upstream = self._upstreams.get(service)
        return upstream.endpoints if upstream is not None else {}

    def _move(self, lease: SocketEntry, rule: Route, facts: SocketInfo) -> bool:
        """Let a socket stay where its rule names its endpoint by another port of the same Service now; False: it does not."""
        place = (facts.endpoint.address, facts.endpoint.port)
        home = close_causes.home_of(rule, facts.service, place, self._endpoints)
        endpoint = self._upstreams[home].pool_at(place) if home else None
        if endpoint is None or lease.socket is None:
            return False
        lease.socket.account.move_to(home, endpoint)
        lease.service = home
        return True

    def _judge_route(self, lease: SocketEntry, facts: SocketInfo, present: "_Present") -> Fault | None:
        known = lease.active.route
        owner = close_causes.object_of(known)
        siblings = present.siblings(owner)
        rule = close_causes.find_rule(known, facts.request.host, present.routes, siblings)
        if rule is None:
            self._count_on(lease, self._stats.unmatched)
            gone = (
                close_causes.RULE_GONE
                if siblings
                else close_causes.CLASS_GONE
                if owner in self.classless
                else close_causes.ROUTE_DELETED
            )
            close = close_causes.close_of(known)
            return Fault(gone, known.id if siblings else owner, close.on_route_removed, close.drain)
        active = self._routes[rule.id]
        self._count_on(lease, active.stats)
        close = close_causes.close_of(rule)
        moved = close_causes.backend_fault(known, rule, facts.service)
        if moved and not self._move(lease, rule, facts):
            return Fault(moved, rule.id, close.on_route_removed, close.drain)
        if close_causes.guards_of(rule) != lease.guards:
            if close.on_policy_changed == "keep":
                lease.guards = close_causes.guards_of(rule)
            else:
                return Fault(close_causes.POLICY_CHANGED, rule.id, close.on_policy_changed, close.drain)
        lease.active, lease.route_id = active, rule.id
        return None

    def _count_on(self, lease: SocketEntry, stats: RouteStats) -> None:
        socket = lease.socket
        if socket is not None and socket.account.facts.stats is not stats:
            socket.account.move(stats)


class _Present:
    """The routes of the present configuration, by id and by object."""

    def __init__(self, active: Mapping[str, ActiveRoute]) -> None:
        self._active = active
        self._routes: dict[str, Route] | None = None
        self._objects: dict[str, list[Route]] = {}

    @property
    def routes(self) -> Mapping[str, Route]:
        """Return all routes; made at the first use."""
        if self._routes is None:
            self._routes = {key: one.route for key, one in self._active.items()}
            for route in self._routes.values():
                self._objects.setdefault(close_causes.object_of(route), []).append(route)
        return self._routes

    def siblings(self, owner: str) -> list[Route]:
        """Return the routes of one object."""
        _ = self.routes
        return self._objects.get(owner, [])


def _is_of(lease: SocketEntry, target: str) -> bool:
    """Tell whether a socket is of a route, object, Service or endpoint (address, or address and port)."""
    if lease.socket is None:
        return False
    facts, route = lease.socket.account.facts, lease.active.route
    address = facts.endpoint.address
    names = (route.id, close_causes.object_of(route), facts.service, address, f"{address}:{facts.endpoint.port}")
    return target in (*names, f"[{address}]:{facts.endpoint.port}")
