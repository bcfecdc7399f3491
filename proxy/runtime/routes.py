# Compiled by mypyc: see setup.py.
"""A route as it runs, and where its traffic goes: what a configuration compiles to."""

from collections.abc import Mapping
from typing import Final

from proxy.filters.contract import AnswerFilter, Filter
from proxy.filters.hsts import hsts_value
from proxy.model.config import LoadBalancing, Route
from proxy.model.policy import BodySize, Connections, Hsts, Keepalive, MessageLimits, Timeouts
from proxy.observability.worker_stats import RouteStats
from proxy.upstream.affinity import Affinity
from proxy.upstream.balance import Shares
from proxy.upstream.pool import LiveUpstream

ANY_SIZE: Final = 1 << 60


class ActiveTarget:
    """Where one kind of a route's traffic goes."""

    __slots__ = ("_upstreams", "affinity", "load_balancing", "shares")

    def __init__(
        self, shares: Shares, load_balancing: LoadBalancing, upstreams: Mapping[str, LiveUpstream], affinity: Affinity | None = None
    ) -> None:
        self.shares = shares
        self.load_balancing = load_balancing
        self.affinity = affinity
        """Has a say in which endpoint serves a request; None: only load balancing has."""
        self._upstreams = upstreams

    def pick(self) -> LiveUpstream | None:
        """Choose the upstream of the next request; None: a share that cannot be resolved."""
        share = self.shares.choose()
        return self._upstreams.get(share.upstream) if share is not None and share.upstream is not None else None


class ActiveRoute:
    """A route as it runs."""

    __slots__ = (
        "answer_filters",
        "body_limit",
        "fault",
        "filters",
        "hsts",
        "http",
        "id",
        "keepalive",
        "message_limits",
        "route",
        "sockets_per_endpoint",
        "stats",
        "timeouts",
        "websocket",
    )

    def __init__(
        self,
        route: Route,
        stats: RouteStats,
        filters: tuple[Filter, ...],
        answer_filters: tuple[AnswerFilter, ...],
        http: ActiveTarget | None,
        websocket: ActiveTarget | None,
    ) -> None:
        self.id = route.id
        self.route = route
        self.stats = stats
        self.filters = filters
        self.answer_filters = answer_filters
        self.fault = bool(route.fault)
        self.timeouts = next((policy for policy in route.policies if isinstance(policy, Timeouts)), Timeouts())
        self.keepalive = next((policy for policy in route.policies if isinstance(policy, Keepalive)), None)
        self.message_limits = next((policy for policy in route.policies if isinstance(policy, MessageLimits)), None)
        self.body_limit = next((policy.most for policy in route.policies if isinstance(policy, BodySize)), ANY_SIZE)
        """Bytes that the body of a request may have."""
        self.sockets_per_endpoint = max(
            (policy.per_endpoint for policy in route.policies if isinstance(policy, Connections)), default=0
        )
        """Sockets that an endpoint may have; 0: any number."""
        self.hsts = next((hsts_value(policy) for policy in route.policies if isinstance(policy, Hsts)), "")
        """Strict-Transport-Security of answers of ours over https; empty: none."""
        self.http = http
        self.websocket = websocket
