"""The supervisor: binds, forks, keeps the last configuration, owns the totals, answers on the admin port, drains on SIGTERM.

It handles no client's byte. Its loop is the standard library's: workers are forked in its callbacks and run loops of their own.
"""

import asyncio
import collections
import logging
import resource
import signal
import socket
import time
from collections.abc import Mapping, Sequence

import msgspec

from proxy.admin.http_port import AdminServer
from proxy.admin.metrics_endpoint import Exposition
from proxy.admin.unix_socket import AdminSocketServer
from proxy.model.config import Route, Target
from proxy.model.sockets import DrainOrder, SocketRow
from proxy.model.wire import Report, RouteEntry, UpstreamEntry
from proxy.observability.metric_kinds import Labels
from proxy.observability.metrics import CONFIG_APPLIED, CONFIG_PROPAGATION, CONFIG_REJECTED, PROBLEMS
from proxy.observability.pod_totals import Totals
from proxy.platform.malloc import MAPPED_BYTES, limit_free_memory
from proxy.platform.tcp_keepalive import enable_tcp_keepalive
from proxy.processes.config_sync import NO_CONFIG, HeldConfig, Sync
from proxy.processes.listening_sockets import bind_all, bound_address
from proxy.processes.worker import Inheritance, Slot
from proxy.processes.worker_pool import WorkerPool
from proxy.settings import Settings
from proxy.shared_memory.counters import Counters
from proxy.shared_memory.session_table import SessionTable
from proxy.tls.contexts import make_context
from proxy.tls.self_signed import self_signed_apart

GRACE_MARGIN = 1.0
"""The proxy ends this many seconds before --grace, which is when somebody else may kill it."""
SYNC_RESTART = 2.0
SAME_SIGNAL = 0.5
"""Seconds within which another signal to end is the first one once more: systemd signals each process of a unit, and a parent hands
its own on."""

_log = logging.getLogger("sluice.processes")


class Supervisor:
    """The state of the pod's proxy; also what the admin port shows (`AdminView`)."""

    def __init__(self, settings: Settings, worker_pool: WorkerPool, totals: Totals) -> None:
        self.exposition = Exposition(totals.registry)
        self._settings = settings
        self._worker_pool = worker_pool
        self._totals = totals
        self._held: HeldConfig = NO_CONFIG
        self._report = Report()
        self._ending = asyncio.Event()
        self._second_signal = asyncio.Event()
        self._signalled_at = 0.0

    def alive(self) -> bool:
        """Tell whether at least one worker runs."""
        return self._worker_pool.alive > 0

    def ready(self) -> bool:
        """Tell whether every worker has the first configuration, and the pod does not drain."""
        return self._worker_pool.serving and not self._ending.is_set()

    async def gather(self) -> None:
        """Bring the workers' counts up to date."""
        await self._worker_pool.gather()

    def owners(self) -> int:
        """Return how many routes and Services have series."""
        return self._totals.owners

    def routes(self) -> Sequence[Mapping[str, object]]:
        """Return every route with what it matches, its upstreams and endpoints, and its open sockets."""
        sockets = self._totals.open_sockets()
        entries = (self._held.entry(key) for key in sorted(self._held.encoded.entries) if key.startswith("r/"))
        return [self._describe(entry.value, sockets.get(entry.value.id, 0)) for entry in entries if isinstance(entry, RouteEntry)]

    def problems(self) -> Sequence[Mapping[str, object]]:
        """Return every problem with a user's object, notes after them."""
        return [msgspec.structs.asdict(problem) for problem in self._report.problems]

    async def sockets(self) -> Sequence[SocketRow]:
        """Return every open socket, those of a route together, the oldest first."""
        return sorted(await self._worker_pool.sockets(), key=lambda row: (row.route, -row.age))

    async def drain_sockets(self, order: DrainOrder) -> int:
        """Close the sockets that an order names, in every worker."""
        return await self._worker_pool.drain_sockets(order)

    async def run(self, admin: socket.socket, announcement: str) -> int:
        """Supervise until a signal ends it; return the exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._worker_pool.reap)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        self._worker_pool.start()
        server = AdminServer(self, details_open=self._settings.admin_details)
        await server.start(admin)
        admin_socket = AdminSocketServer(self, self._settings.admin_socket) if self._settings.admin_socket else None
        if admin_socket is not None:
            await admin_socket.start()
        print(announcement, flush=True)  # noqa: T201  the one line that programs read to learn the ports
        sync = loop.create_task(self._sync())
        try:
            await self._ending.wait()
            await self._drain()
        finally:
            sync.cancel()
            self._worker_pool.kill()
            await asyncio.gather(sync, return_exceptions=True)
            if admin_socket is not None:
                await admin_socket.stop()
            await server.stop()
        return 1 if self._second_signal.is_set() else 0

    def _signalled(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._ending.is_set():
            self._signalled_at = now
        elif now - self._signalled_at > SAME_SIGNAL:
            _log.warning("second signal: ending at once")
            self._second_signal.set()
            self._worker_pool.kill()
        self._ending.set()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.grace - GRACE_MARGIN
        if self._worker_pool.serving and self._settings.drain_delay:
            _log.info("ending: not ready any more, accepting for %g s", self._settings.drain_delay)
            # Twice: some connections come while load balancers notice, and those of the first half would be cut as they idle.
            for _ in range(2):
                self._worker_pool.retire()
                try:
                    async with asyncio.timeout(self._settings.drain_delay / 2):
                        await self._second_signal.wait()
                except TimeoutError:
                    continue
                return
        _log.info("ending: requests finish, WebSockets are closed over %g s", self._settings.drain_time)
        await self._worker_pool.drain(max(0.0, deadline - loop.time()))

    async def _sync(self) -> None:
        while True:
            try:
                await Sync(self._settings.control_socket, self._apply, self._reported, self._settings.controller_uid).run()
            except Exception:  # noqa: BLE001  whatever it is, what is held is served on
                _log.exception("what is held stays; asking the controller again in %g s", SYNC_RESTART)
            await asyncio.sleep(SYNC_RESTART)

    async def _apply(self, held: HeldConfig, report: Report) -> Mapping[str, str]:
        rejected = await self._worker_pool.configure(held.encoded, report)
        self._held = held
        totals = self._totals
        totals.set(CONFIG_APPLIED, time.time())
        if report.observed_at:
            totals.observe(CONFIG_PROPAGATION, max(0.0, time.monotonic() - report.observed_at))
        totals.set(CONFIG_REJECTED, len(rejected))
        totals.keep(held.encoded.entries)
        hosts = {**held.tls_hosts, "*": held.default}
        totals.certificates = {(host, key): held.expiries[key] for host, key in hosts.items() if key in held.expiries}
        for route_id, reason in rejected.items():
            _log.error("route=%s error=%r it answers 500", route_id, reason)
        return rejected

    def _reported(self, report: Report) -> None:
        self._report = report
        problems: collections.Counter[Labels] = collections.Counter(
            (problem.reason,) for problem in report.problems if not problem.note
        )
        self._totals.set_labelled(PROBLEMS, problems)

    def _describe(self, route: Route, sockets: int) -> Mapping[str, object]:
        return {
            "id": route.id,
            "hosts": [host or "*" for host in route.hosts],
            "path": msgspec.to_builtins(route.path),
            "conditions": msgspec.to_builtins(route.conditions),
            "websocket": self._backends(route.websocket),
            "http": self._backends(route.http),
            "policies": msgspec.to_builtins(route.policies),
            "fallback": route.fallback,
            "fault": route.fault,
            "open_sockets": sockets,
        }

    def _backends(self, target: Target | None) -> object:
        if target is None:
            return None
        backends = []
        for share in target.shares:
            entry = self._held.entry(f"u/{share.upstream}")
            endpoints = entry.value.endpoints if isinstance(entry, UpstreamEntry) else ()
            ejections = self._totals.ejections(share.upstream or "")
            described = [
                {**msgspec.structs.asdict(endpoint), "ejected_by": ejections.get((endpoint.address, endpoint.port), 0)}
                for endpoint in endpoints
            ]
            backends.append({"service": share.upstream, "weight": share.weight, "endpoints": described})
        return {"load_balancing": target.load_balancing, "backends": backends}


def supervise(settings: Settings) -> int:
    """Run the proxy; return the exit status. Raises `BindError` if an address cannot be had."""
    limit_free_memory(MAPPED_BYTES)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        # The soft limit is low for programs that use select(2), which none of ours does.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    https = bind_all(settings.https, "--https", settings.workers)
    http = bind_all(settings.http, "--http", settings.workers)
    (admin,) = bind_all(settings.admin, "--admin", 1)
    for sock in (*https, *http):
        enable_tcp_keepalive(sock, settings.tcp_keepalive)
    inheritance = Inheritance(
        settings=settings,
        tls_context=make_context(self_signed_apart(time.time())),
        slots=tuple(Slot(*pair) for pair in zip(http, https, strict=True)),
        http_port=settings.public_http_port or bound_address(http[0]).port,
        https_port=settings.public_https_port or bound_address(https[0]).port,
        session_table=SessionTable(settings.workers),
        counters=Counters(settings.workers),
    )
    announcement = f"listening http={bound_address(http[0])} https={bound_address(https[0])} admin={bound_address(admin)}"
    return asyncio.run(_run(settings, inheritance, admin, announcement))


async def _run(settings: Settings, inheritance: Inheritance, admin: socket.socket, announcement: str) -> int:
    totals = Totals()
    return await Supervisor(settings, WorkerPool(inheritance, totals), totals).run(admin, announcement)
