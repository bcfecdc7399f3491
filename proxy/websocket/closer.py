"""Closing of open sockets: after a change of configuration, at their age, by command, at the worker's end.

Whether a socket may stay is close_causes.py's, when exactly it goes is the drain schedule's, how it goes is the tunnel's.
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
from proxy.websocket.close_causes import CloseCause, EndpointAddress
from proxy.websocket.drain_schedule import Closable, CloseReason, DrainSchedule, ScheduledClose
from proxy.websocket.socket_stats import SocketInfo, SocketStats, TunnelEndpoint

MARGIN = 2.0
"""Seconds before an endpoint is killed by which its sockets are closed (docs/closing.md)."""
JITTER = 0.1
"""Share of the maximum age by which sockets that were opened together are closed apart."""
SIGTERM = CloseReason("sigterm", 1001)
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

_log = logging.getLogger("sluice.websocket")


class Socket(Protocol):
    """An open tunnel."""

    phase: int
    """0 while nobody closes it."""
    opened: float
    entry: "SocketEntry | None"
    stats: SocketStats

    def close(self, code: int, reason: bytes, cause: str) -> None:
        """Send a close frame to both sides."""


class ActiveRoute(Protocol):
    """A route as it runs."""

    route: Route
    stats: RouteStats


class LiveUpstream(Protocol):
    """An upstream as it runs."""

    endpoints: dict[EndpointAddress, Endpoint]

    def pool_at(self, address: EndpointAddress) -> TunnelEndpoint | None:
        """Return an endpoint by its address and port."""
        ...


class SocketEntry:
    """The route that one socket was opened with, who might open it then, and when it is to be closed."""

    __slots__ = ("active", "admission", "age", "opened", "route_id", "scheduled", "service", "socket", "unaffected")

    def __init__(self, socket: Socket, active: ActiveRoute) -> None:
        self.socket: Socket | None = socket
        self.opened = socket.opened
        self.active = active
        """The socket's rule as it was known last."""
        self.route_id = active.route.id
        self.service = socket.stats.info.service
        self.unaffected = False
        """The last review found no cause, not even an ignored one: only a change of its own route or Service concerns it."""
        self.admission = close_causes.admission_of(active.route)
        self.scheduled: ScheduledClose | None = None
        self.age: Deadline | None = None

    def close(self, close_reason: CloseReason) -> None:
        """Close the socket now."""
        if self.socket is not None:
            self.socket.close(close_reason.code, close_reason.reason, close_reason.cause)

    def end(self, wheel: TimerWheel) -> None:
        """Drop the references to a socket that is gone, and its deadlines."""
        self.socket = None
        if self.scheduled is not None:
            self.scheduled.cancel()
        if self.age is not None:
            wheel.cancel(self.age)
            self.age = None


class Closer:
    """The closer of one worker."""

    def __init__(
        self,
        schedule: DrainSchedule,
        clock: Callable[[], float],
        wheel: TimerWheel,
        stats: WorkerStats,
        sockets: Iterable[Socket],
        routes: Mapping[str, ActiveRoute],
        upstreams: Mapping[str, LiveUpstream],
    ) -> None:
        """`sockets`, `routes` and `upstreams` are the worker's own, and are looked at again at each call."""
        self._schedule = schedule
        self._clock = clock
        self._wheel = wheel
        self._stats = stats
        self._sockets = sockets
        self._routes = routes
        self._upstreams = upstreams
        self._drains: dict[tuple[CloseCause, str], float] = {}
        """Until when the sockets of a fault are closed; late ones of it get what is left of that time."""
        self._until = 0.0
        """The worker ends, and closes every socket until then; 0: it does not."""
        self.classless: frozenset[str] = frozenset()
        """Objects that are not served because their class is gone, as their routes' ids begin."""

    def opened(self, socket: Socket, active: ActiveRoute) -> None:
        """Make the entry of a new socket. Its route or endpoint may have gone while the backend answered."""
        entry = socket.entry = SocketEntry(socket, active)
        timeouts = next((policy for policy in active.route.policies if isinstance(policy, Timeouts)), None)
        if timeouts is not None and timeouts.max_age:
            entry.age = Deadline(lambda: self._aged(entry))
            self._wheel.schedule(entry.age, timeouts.max_age * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311  no secret
        if self._until:
            self._schedule.spread([entry], self._until, SIGTERM)
        else:
            self._review([entry])

    def review(self, routes: Collection[str], services: Collection[str]) -> None:
        """Review the sockets that a change of these routes and upstreams may concern."""
        now = self._clock()
        self._drains = {key: until for key, until in self._drains.items() if until >= now}
        if not self._until and (routes or services):
            self._review(
                [
                    entry
                    for entry in self._entries(self._sockets)
                    if not entry.unaffected or entry.route_id in routes or entry.service in services
                ]
            )

    def end(self, over: float) -> int:
        """Close all sockets over some seconds, those opened meanwhile too; returns how many are open."""
        self._until = self._clock() + over
        entries = self._entries(self._sockets)
        self._schedule.spread(entries, self._until, SIGTERM)
        return len(entries)

    def drain(self, target: str, drain: Drain) -> int:
        """Close the sockets of a route, object, Service or endpoint by command; returns how many get a time to close."""
        chosen = [entry for entry in self._entries(self._sockets) if _is_of(entry, target)]
        close_reason = CloseReason("command", drain.code, drain.reason.encode())
        return self._schedule.spread(chosen, self._clock() + drain.over, close_reason)

    def _entries(self, sockets: Iterable[Socket]) -> list[SocketEntry]:
        return [entry for socket in sockets if not socket.phase and (entry := socket.entry) is not None]

    def _aged(self, entry: SocketEntry) -> None:
        drain = close_causes.close_of(entry.active.route).drain
        entry.close(CloseReason("max_age", drain.code, drain.reason.encode()))

    def _review(self, entries: Iterable[SocketEntry]) -> None:
        index = _RouteIndex(self._routes)
        causes: dict[tuple[CloseCause, str], list[Closable]] = {}
        for entry in entries:
            cause = self._find_cause(entry, index)
            entry.unaffected = cause is None and self._routes.get(entry.route_id) is entry.active
            if cause is None or cause.mode == "keep":
                if entry.scheduled is not None and entry.scheduled.close_reason.cause in _CONFIGURED:
                    entry.scheduled.cancel()
            else:
                causes.setdefault((cause, entry.active.route.id), []).append(entry)
        for key, group in causes.items():
            self._apply_cause(key, group)

    def _apply_cause(self, key: tuple[CloseCause, str], entries: list[Closable]) -> None:
        cause, route_id = key
        drain = cause.drain
        close_reason = CloseReason(cause.name, drain.code, drain.reason.encode())
        if cause.mode == "now":
            for entry in entries:
                entry.close(close_reason)
            _log.info("cause=%s route=%s subject=%s sockets=%d closed at once", cause.name, route_id, cause.subject, len(entries))
            return
        now = self._clock()
        until = self._drains.get(key, 0.0)
        if not until:
            over = drain.over if not cause.deadline else max(0.0, cause.deadline - MARGIN - time.time())
            until = self._drains[key] = now + over
        count = self._schedule.spread(entries, until, close_reason)
        if count:
            _log.info(
                "cause=%s route=%s subject=%s sockets=%d closed over %.1f s",
                cause.name,
                route_id,
                cause.subject,
                count,
                until - now,
            )

    def _find_cause(self, entry: SocketEntry, index: "_RouteIndex") -> CloseCause | None:
        """Return the cause to close a socket; None: there is none. A cause that its route ignores hides no other."""
        socket = entry.socket
        assert socket is not None  # noqa: S101  it is open
        info = socket.stats.info
        known = entry.active.route
        cause = None
        if self._routes.get(known.id) is not entry.active:
            cause = self._route_cause(entry, info, index)
        close = close_causes.close_of(entry.active.route)
        if cause is not None and cause.mode != "keep":
            return cause
        address = (info.endpoint.address, info.endpoint.port)
        if cause is None and address not in self._endpoints(entry.service):
            self._move_to_port(entry, entry.active.route, info)
        upstream = self._upstreams.get(entry.service)
        if upstream is None:
            return None
        return close_causes.endpoint_cause(close, upstream.endpoints.get(address), f"{address[0]}:{address[1]}")

    def _endpoints(self, service: str) -> Mapping[EndpointAddress, Endpoint]:
        upstream = self._upstreams.get(service)
        return upstream.endpoints if upstream is not None else {}

    def _move_to_port(self, entry: SocketEntry, rule: Route, info: SocketInfo) -> bool:
        """Count a socket on the port of its Service by which its rule reaches its endpoint now; False: there is none."""
        address = (info.endpoint.address, info.endpoint.port)
        service_port = close_causes.service_port_of(rule, info.service, address, self._endpoints)
        endpoint = self._upstreams[service_port].pool_at(address) if service_port else None
        if endpoint is None or entry.socket is None:
            return False
        entry.socket.stats.move_to_service(service_port, endpoint)
        entry.service = service_port
        return True

    def _route_cause(self, entry: SocketEntry, info: SocketInfo, index: "_RouteIndex") -> CloseCause | None:
        known = entry.active.route
        owner = close_causes.object_of(known)
        siblings = index.siblings(owner)
        rule = close_causes.find_rule(known, info.request.host, index.routes, siblings)
        if rule is None:
            self._count_on(entry, self._stats.unmatched)
            gone = (
                close_causes.RULE_GONE
                if siblings
                else close_causes.CLASS_GONE
                if owner in self.classless
                else close_causes.ROUTE_DELETED
            )
            close = close_causes.close_of(known)
            return CloseCause(gone, known.id if siblings else owner, close.on_route_removed, close.drain)
        active = self._routes[rule.id]
        self._count_on(entry, active.stats)
        close = close_causes.close_of(rule)
        moved = close_causes.backend_cause(known, rule, info.service)
        if moved and not self._move_to_port(entry, rule, info):
            return CloseCause(moved, rule.id, close.on_route_removed, close.drain)
        if close_causes.admission_of(rule) != entry.admission:
            if close.on_policy_changed == "keep":
                entry.admission = close_causes.admission_of(rule)
            else:
                return CloseCause(close_causes.POLICY_CHANGED, rule.id, close.on_policy_changed, close.drain)
        entry.active, entry.route_id = active, rule.id
        return None

    def _count_on(self, entry: SocketEntry, stats: RouteStats) -> None:
        socket = entry.socket
        if socket is not None and socket.stats.info.stats is not stats:
            socket.stats.move_to_route(stats)


class _RouteIndex:
    """The routes of the present configuration, by id and by object."""

    def __init__(self, active: Mapping[str, ActiveRoute]) -> None:
        self._active = active
        self._routes: dict[str, Route] | None = None
        self._objects: dict[str, list[Route]] = {}

    @property
    def routes(self) -> Mapping[str, Route]:
        """Return all routes; made at the first use."""
        if self._routes is None:
            self._routes = {key: route.route for key, route in self._active.items()}
            for route in self._routes.values():
                self._objects.setdefault(close_causes.object_of(route), []).append(route)
        return self._routes

    def siblings(self, owner: str) -> list[Route]:
        """Return the routes of one object."""
        _ = self.routes
        return self._objects.get(owner, [])


def _is_of(entry: SocketEntry, target: str) -> bool:
    """Tell whether a socket is of a route, object, Service or endpoint (address, or address and port)."""
    if entry.socket is None:
        return False
    info, route = entry.socket.stats.info, entry.active.route
    address = info.endpoint.address
    names = (route.id, close_causes.object_of(route), info.service, address, f"{address}:{info.endpoint.port}")
    return target in (*names, f"[{address}]:{info.endpoint.port}")
