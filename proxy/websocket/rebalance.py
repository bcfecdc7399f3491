"""After a scale-up: endpoints that hold too many sockets shed some, which come back to those that hold few.

An endpoint holds too many when it has more than `above` times the mean of its upstream's usable endpoints, over all workers, and
when another place is really better: not even rounding up makes the mean that large. Nothing is planned ahead: several times a
second the counts are looked at and the sockets that are due are closed, so that it ends at once when its reason does.

Sockets that were told to go are missing from the counts until their clients come back. If the mean sank with them, the rest would
be too many in turn, and go too. So the mean is that of the largest total of the last half minute.

Each worker sheds its own part of an endpoint's sockets at its own part of the rate: together they keep the rate, and need not talk.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from proxy.model.config import Route
from proxy.model.policy import Rebalance
from proxy.transport.timer_wheel import Deadline, TimerWheel
from proxy.websocket import close_causes
from proxy.websocket.closer import Socket, SocketEntry
from proxy.websocket.drain_schedule import CloseReason

LOOK_SECONDS = 1.0
"""How often the counts are looked at while no endpoint holds too many,"""
SHED_SECONDS = 0.2
"""and while one does."""
AWAY_SECONDS = 30.0
"""Within this time sockets that were shed are expected to be back."""


class SocketCount(Protocol):
    """Sockets of all workers at an endpoint."""

    @property
    def sockets(self) -> int:
        """Open sockets and handshakes under way."""
        ...


class Pool(Protocol):
    """An endpoint."""

    sockets: int
    """Open to it in this worker."""

    @property
    def counter(self) -> SocketCount:
        """Counts of all workers."""
        ...


class Upstream(Protocol):
    """An upstream as it runs."""

    @property
    def usable(self) -> Sequence[Pool]:
        """Endpoints that are ready and not left out."""
        ...


class _RebalancedRoute:
    """One route with the policy, and its credit."""

    __slots__ = ("_peaks", "_seen", "credit", "policy", "route")

    def __init__(self, route: Route, policy: Rebalance) -> None:
        self.route = route
        self.policy = policy
        self.credit = 0.0
        """Sockets that may be shed now."""
        self._peaks: dict[str, tuple[int, float]] = {}
        self._seen = 0.0

    def excess(self, key: str, pools: Sequence[Pool], now: float) -> list[tuple[Pool, int, float]]:
        """Return the endpoints that hold too many: how many of all workers they hold, and how many of those too many."""
        counts = [pool.counter.sockets for pool in pools]
        total = sum(counts)
        peak, seen = self._peaks.get(key, (0, 0.0))
        if total >= peak or now - seen > AWAY_SECONDS:
            peak, seen = total, now
            self._peaks[key] = (peak, seen)
        if len(pools) < 2:
            return []
        mean = peak / len(pools)
        limit = max(self.policy.above * mean, math.ceil(mean))
        return [(pool, count, count - limit) for pool, count in zip(pools, counts, strict=True) if count > limit]

    def add_credit(self, share: float, now: float) -> None:
        """Add what may be shed for the time since the last call; `share` of the overloaded endpoints' sockets is this worker's."""
        passed = min(now - self._seen, 2 * SHED_SECONDS) if self._seen else 0.0
        self._seen = now
        earned = self.policy.rate * share * passed
        self.credit = min(self.credit, 1.0) + earned

    def reset(self) -> None:
        """Drop the credit: no endpoint holds too many."""
        self.credit = self._seen = 0.0


class Rebalancer:
    """The shedding of one worker."""

    def __init__(
        self, wheel: TimerWheel, clock: Callable[[], float], sockets: Iterable[Socket], upstreams: Mapping[str, Upstream]
    ) -> None:
        """`sockets` and `upstreams` are the worker's own, and are looked at again each time."""
        self._wheel = wheel
        self._clock = clock
        self._sockets = sockets
        self._upstreams = upstreams
        self._rebalanced: dict[str, _RebalancedRoute] = {}
        self._next = Deadline(self._turn)

    def replace(self, route_id: str, route: Route | None) -> None:
        """Take a route as it is from now on; None: it is gone."""
        policy = (
            next((candidate for candidate in route.policies if isinstance(candidate, Rebalance)), None)
            if route is not None
            else None
        )
        if route is None or policy is None:
            self._rebalanced.pop(route_id, None)
            return
        known = self._rebalanced.get(route_id)
        if known is not None and known.policy == policy:
            known.route = route
            return
        self._rebalanced[route_id] = _RebalancedRoute(route, policy)
        if not self._next.at:
            self._wheel.schedule(self._next, LOOK_SECONDS)

    def _turn(self) -> None:
        if not self._rebalanced:
            return
        now = self._clock()
        busy = [self._look(rebalanced, now) for rebalanced in self._rebalanced.values()]
        self._wheel.schedule(self._next, SHED_SECONDS if any(busy) else LOOK_SECONDS)

    def _look(self, rebalanced: _RebalancedRoute, now: float) -> bool:
        """Shed what is due of one route; tell whether an endpoint holds too many."""
        target = rebalanced.route.websocket
        keys = dict.fromkeys(share.upstream for share in target.shares) if target is not None else {}
        overloaded: list[tuple[Pool, int, float]] = []
        for key in keys:
            upstream = self._upstreams.get(key) if key is not None else None
            if key is not None and upstream is not None:
                overloaded += rebalanced.excess(key, upstream.usable, now)
        if not overloaded:
            rebalanced.reset()
            return False
        rebalanced.add_credit(sum(pool.sockets for pool, _, _ in overloaded) / sum(count for _, count, _ in overloaded), now)
        if rebalanced.credit >= 1:
            self._shed(rebalanced, sorted(overloaded, key=lambda item: -item[2]))
        return True

    def _shed(self, rebalanced: _RebalancedRoute, overloaded: Sequence[tuple[Pool, int, float]]) -> None:
        staying: dict[int, list[SocketEntry]] = {id(pool): [] for pool, _, _ in overloaded}
        going = dict.fromkeys(staying, 0)
        for socket in self._sockets:
            entry = socket.entry
            endpoint = id(socket.stats.info.endpoint)
            if endpoint in staying:
                if socket.phase or entry is None or entry.scheduled is not None:
                    going[endpoint] += 1
                elif entry.active.route.id == rebalanced.route.id:
                    staying[endpoint].append(entry)
        drain = close_causes.close_of(rebalanced.route).drain
        close_reason = CloseReason("rebalance", drain.code, drain.reason.encode())
        for pool, count, excess in overloaded:
            due = math.ceil(excess * pool.sockets / count - going[id(pool)])
            entries = sorted(staying[id(pool)], key=lambda entry: entry.opened)
            for entry in entries[: max(0, min(due, int(rebalanced.credit)))]:
                rebalanced.credit -= 1
                entry.close(close_reason)
