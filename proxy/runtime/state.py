# Compiled by mypyc: see setup.py.
"""One worker's state: the current table, its upstreams, what is open. `apply` compiles, swaps and retires; `handle` decides.

Open requests and sockets keep the objects that they started with; a swap touches none of them.
"""

import asyncio
import gc
import ipaddress
import os
import struct
from collections.abc import Awaitable, Iterable, Mapping
from typing import Protocol

import msgspec

from proxy.filters.connections import count_open_sockets
from proxy.filters.contract import AnswerFilter, Filter, Verdict
from proxy.filters.order import FilterSettings, compile_answer_filters, compile_filters
from proxy.http.addresses import Networks
from proxy.http.local_replies import (
    BAD_PATH,
    EXPRESSIONS_FAILED,
    FAULT,
    MISDIRECTED,
    NOT_FOUND,
    UPGRADE_REQUIRED,
    unreadable_target,
)
from proxy.http.message import Answer, Client, Request
from proxy.http1.head_scanner import FieldLines
from proxy.model.config import Certificate, Path, Route, Target, Upstream
from proxy.model.expression import BadExpressionError, check_expression
from proxy.model.policy import Connections
from proxy.model.wire import CertificateEntry, DefaultEntry, Entry, RouteEntry, TlsHostEntry, UpstreamEntry
from proxy.observability.access_log import AccessLog
from proxy.observability.worker_stats import WorkerStats
from proxy.routing.expressions import Automata
from proxy.routing.paths import path_problem
from proxy.routing.table import BadPatternError, NoMatch, Table, check_pattern, empty_table
from proxy.routing.table import Entry as TableEntry
from proxy.runtime.routes import ActiveRoute, ActiveTarget
from proxy.shared_memory.counters import Counters
from proxy.shared_memory.session_table import SessionTable
from proxy.transport.run_queue import RunQueue
from proxy.transport.timer_wheel import TimerWheel
from proxy.upstream.affinity import Affinity, needs_affinity
from proxy.upstream.balance import Shares
from proxy.upstream.errors import UpstreamErrors
from proxy.upstream.pool import LiveUpstream, make_upstream_context
from proxy.websocket.closer import Closer
from proxy.websocket.drain_schedule import DrainSchedule
from proxy.websocket.policy_check import policy_problem
from proxy.websocket.rebalance import Rebalancer
from proxy.websocket.tunnel import Tunnel


class OpenConnection(Protocol):
    """A client's connection, as far as draining is concerned."""

    def retire(self) -> None:
        """Make the next answer the last one."""

    def drain(self) -> None:
        """End when the request under way is answered."""

    def abort(self) -> None:
        """End at once."""


class Certificates(Protocol):
    """The store that TLS handshakes look into."""

    def apply(self, certificates: Mapping[str, Certificate], hosts: Mapping[str, str], default: str | None) -> None:
        """Hold these and no others."""

    def misdirected(self, client: Client, host: str) -> bool:
        """Tell whether a TLS connection is the wrong one for a request's host."""
        ...


class RuntimeSettings(Protocol):
    """The settings that the runtime needs."""

    @property
    def close_wait(self) -> float:
        """Seconds that a peer has to answer a close frame."""
        ...

    @property
    def trusted_proxies(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """Networks whose forwarding fields are believed."""
        ...

    @property
    def forwarded(self) -> bool:
        """Add the Forwarded field."""
        ...

    @property
    def min_body_rate(self) -> int:
        """Bytes per second below which a request body is given up; 0: never."""
        ...

    @property
    def header_timeout(self) -> float:
        """Seconds for a request head."""
        ...

    @property
    def tcp_keepalive(self) -> float:
        """Seconds of silence after which the kernel asks a peer; 0: never."""
        ...

    @property
    def keepalive_timeout(self) -> float:
        """Seconds that a kept-alive connection may be silent."""
        ...

    @property
    def max_connections(self) -> int:
        """WebSockets that may be open, of all routes and workers; 0: any number."""
        ...

    @property
    def max_connections_per_client(self) -> int:
        """The same of one client: an IPv4 address or an IPv6 /64."""
        ...


def _connections_of(route: Route) -> Connections | None:
    return next((policy for policy in route.policies if isinstance(policy, Connections)), None)


class Runtime:
    """Everything that one worker holds."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: RuntimeSettings,
        *,
        accesslog: AccessLog,
        certificates: Certificates,
        public_https_port: int,
        counters: Counters | None = None,
        session_table: SessionTable | None = None,
        phase: float = 0.0,
    ) -> None:
        """Hold nothing yet. `counters`, `session_table`: what the workers of the pod share; None: this one is alone.

        `phase`: see `DrainSchedule`.
        """
        self.loop = loop
        self.settings = settings
        self.stats = WorkerStats()
        self.wheel = TimerWheel(loop, self.stats.loop_lag)
        self.run_queue = RunQueue(loop)
        self.upstream_errors = UpstreamErrors(self.wheel)
        self.request_lines = FieldLines(request=True)
        self.response_lines = FieldLines(request=False)
        self.accesslog = accesslog
        self.certificates = certificates
        self.close_wait = settings.close_wait
        self._automata = Automata()
        self.table: Table[ActiveRoute] = empty_table(self._automata)
        self.routes: dict[str, ActiveRoute] = {}
        self.upstreams: dict[str, LiveUpstream] = {}
        self.rejected: dict[str, str] = {}
        """Route id to the reason why it answers 500."""
        self.draining = False
        self.connections: set[OpenConnection] = set()
        self.tunnels: set[Tunnel] = set()
        self.unflushed: list[Tunnel] = []
        self.closer = Closer(
            DrainSchedule(loop, phase), loop.time, self.wheel, self.stats, self.tunnels, self.routes, self.upstreams
        )
        self._rebalancer = Rebalancer(self.wheel, loop.time, self.tunnels, self.upstreams)
        self._session_table = session_table or SessionTable(1)
        self.counters = counters or Counters(1)
        self._filter_settings = FilterSettings(
            public_https_port,
            self.counters,
            settings.max_connections,
            settings.max_connections_per_client,
            automata=self._automata,
        )
        self._upstream_tls = make_upstream_context()
        self._trusted = Networks(map(str, settings.trusted_proxies)) if settings.trusted_proxies else None
        self._certificates: dict[str, Certificate] = {}
        self._tls_hosts: dict[str, str] = {}
        self._default_certificate: str | None = None
        self._id_prefix = os.urandom(8).hex()
        self._id_count = struct.unpack("<I", os.urandom(4))[0]

    def make_id(self) -> str:
        """Make a request id: 128 bits in hexadecimal, unique to this worker and request."""
        self._id_count += 1
        return f"{self._id_prefix}{self._id_count:016x}"

    def trusts(self, address: bytes) -> bool:
        """Tell whether an address, as `addresses.packed` gives it, is in --trusted-proxies."""
        return self._trusted is not None and self._trusted.covers(address)

    def flush_tunnel_stats(self) -> None:
        """Bring the counts of tunnels that had traffic into the metrics."""
        unflushed, self.unflushed[:] = self.unflushed[:], []
        for tunnel in unflushed:
            tunnel.flush_stats()

    def handle(self, request: Request) -> "tuple[ActiveRoute, Verdict] | Answer":
        """Find the route of a request and ask its filters; an answer alone: no route serves it."""
        client = request.client
        if client.secure and self.certificates.misdirected(client, request.host):
            return MISDIRECTED
        route = self.table.match(request.host, request.path, request.upgrade, request)
        if isinstance(route, NoMatch):
            if route is NoMatch.NOT_FOUND:
                return NOT_FOUND
            if route is NoMatch.UPGRADE_REQUIRED:
                return UPGRADE_REQUIRED
            if route is NoMatch.FAILED:
                return EXPRESSIONS_FAILED
            problem = path_problem(request.path)
            return unreadable_target(problem) if problem else BAD_PATH
        if route.fault:
            return route, FAULT
        for route_filter in route.filters:
            verdict = route_filter(request)
            if verdict is not None:
                if isinstance(verdict, Answer):
                    return route, verdict
                return route, _ask_behind(verdict, request, route.filters[route.filters.index(route_filter) + 1 :])
        return route, None

    def apply(self, changed: Mapping[str, Entry], removed: Iterable[str]) -> None:
        """Take a change of configuration: entries under their wire keys, and keys that are gone. Synchronous and whole."""
        routes: dict[str, Route | None] = {}
        gone_upstreams: list[str] = []
        tls = False
        for key in removed:
            kind, name = key[:2], key[2:]
            if kind == "r/":
                routes[name] = None
            elif kind == "u/":
                gone_upstreams.append(name)
            else:
                tls = True
                if kind == "c/":
                    self._certificates.pop(name, None)
                elif kind == "h/":
                    self._tls_hosts.pop(name, None)
                else:
                    self._default_certificate = None
        for key, entry in changed.items():
            name = key[2:]
            match entry:
                case RouteEntry(route):
                    routes[name] = route
                case UpstreamEntry(upstream):
                    self._apply_upstream(name, upstream)
                case CertificateEntry(certificate):
                    tls = True
                    self._certificates[name] = certificate
                case TlsHostEntry(certificate_key):
                    tls = True
                    self._tls_hosts[name] = certificate_key
                case DefaultEntry(certificate_key):
                    tls = True
                    self._default_certificate = certificate_key
        if tls:
            self.certificates.apply(self._certificates, self._tls_hosts, self._default_certificate)
        self._apply_routes(routes)
        for name in gone_upstreams:
            self.upstreams.pop(name).retire()
            self.stats.drop_service(name)
        services = {key[2:] for key in changed if key[:2] == "u/"}
        self.closer.review(routes, services.union(gone_upstreams))
        gc.freeze()

    def _apply_upstream(self, name: str, upstream: Upstream) -> None:
        live = self.upstreams.get(name)
        if live is None:
            live = self.upstreams[name] = LiveUpstream(
                *(name, self.stats.service(name), self.wheel, self.run_queue, self.loop, self.counters),
                tcp_keepalive=self.settings.tcp_keepalive,
            )
        live.update(upstream, self._upstream_tls)

    def _apply_routes(self, routes: Mapping[str, Route | None]) -> None:
        changed_hosts: dict[str, dict[str, TableEntry[ActiveRoute]]] = {}
        targets: dict[Target, ActiveTarget] = {}
        limited: dict[str, Connections] = {}
        for route_id, route in routes.items():
            old = self.routes.get(route_id)
            if old is not None:
                for host in old.route.hosts:
                    changed_hosts.setdefault(host, {})
            self.rejected.pop(route_id, None)
            if route is None:
                if old is not None:
                    self._rebalancer.replace(route_id, None)
                    del self.routes[route_id]
                    self.stats.drop_route(route_id)
                continue
            active = self._compile(route, targets)
            self.routes[route_id] = active
            self._rebalancer.replace(route_id, active.route)
            entry = TableEntry(active.route, active)
            for host in active.route.hosts:
                changed_hosts.setdefault(host, {})[route_id] = entry
            limits = _connections_of(active.route)
            if limits is not None and (old is None or _connections_of(old.route) != limits):
                limited[route_id] = limits
        if limited:
            self._count_open_sockets(limited)
        if changed_hosts:
            entries = {
                host: [*[kept for kept in self.table.routes(host) if kept.route.id not in routes], *replaced.values()]
                for host, replaced in changed_hosts.items()
            }
            self.table = self.table.with_changes(changed_hosts, entries)

    def _count_open_sockets(self, limited: Mapping[str, Connections]) -> None:
        """Count sockets of routes that have new limits: they were opened without them."""
        sockets: dict[str, list[Request]] = {}
        for tunnel in self.tunnels:
            info = tunnel.stats.info
            if info.stats.route_id in limited:
                sockets.setdefault(info.stats.route_id, []).append(info.request)
        for route_id, requests in sockets.items():
            count_open_sockets(limited[route_id], route_id, self.counters, requests)

    def _compile(self, route: Route, targets: dict[Target, ActiveTarget]) -> ActiveRoute:
        if route.path.kind in ("regex", "expression"):
            try:
                (check_pattern if route.path.kind == "regex" else check_expression)(route.path.value)
            except (BadPatternError, BadExpressionError) as error:
                # What the pattern would match cannot be known: the whole host answers 500 where nothing more specific does,
                # so that no request falls through to a less protected route.
                self.rejected[route.id] = f"spec path {route.path.value!r}: {error}"
                route = _rejected(route)
        problem = next(filter(None, map(policy_problem, route.policies)), "")
        if problem:
            self.rejected[route.id] = problem
            route = msgspec.structs.replace(route, fault=problem)
        filters: tuple[Filter, ...] = ()
        answer_filters: tuple[AnswerFilter, ...] = ()
        try:
            filters = compile_filters(route.policies, self._filter_settings, route.id)
            answer_filters = compile_answer_filters(route.policies)
        except ValueError as unusable:  # another name than above: compiled, a variable has one type
            # A guard that cannot be carried out is not left out: its route answers 500.
            self.rejected[route.id] = f"policies: {unusable}"
            route = msgspec.structs.replace(route, fault="a policy of the route does not compile")
        return ActiveRoute(
            route,
            self.stats.route(route.id),
            filters,
            answer_filters,
            self._target(route, route.http, targets, websocket=False),
            self._target(route, route.websocket, targets, websocket=True),
        )

    def _target(
        self, route: Route, target: Target | None, shared: dict[Target, ActiveTarget], *, websocket: bool
    ) -> ActiveTarget | None:
        """Compile a target. `shared`: those of this change that have no state, and serve every route that leads to the same."""
        if target is None:
            return None
        if any(needs_affinity(policy, websocket=websocket) for policy in route.policies):
            shares = Shares(target.shares)
            affinity = Affinity(route.policies, shares, target.load_balancing, self.upstreams, self._session_table, self.wheel)
            return ActiveTarget(shares, target.load_balancing, self.upstreams, affinity)
        active = shared.get(target)
        if active is None:
            active = ActiveTarget(Shares(target.shares), target.load_balancing, self.upstreams)
            if active.shares.single:
                shared[target] = active
        return active


def _rejected(route: Route) -> Route:
    return msgspec.structs.replace(route, path=Path("prefix", "/"), fault="the path's pattern does not compile")


async def _ask_behind(verdict: Awaitable[Answer | None], request: Request, filters: tuple[Filter, ...]) -> Answer | None:
    """Wait for a filter that needs time, and ask those behind it: a guard is not passed over because another one thinks."""
    answer = await verdict
    for route_filter in filters:
        if answer is not None:
            break
        found = route_filter(request)
        answer = found if found is None or isinstance(found, Answer) else await found
    return answer
