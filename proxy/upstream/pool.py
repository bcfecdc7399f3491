# Compiled by mypyc: see setup.py.
"""Endpoints and the connections that are kept to them. Pools outlive changes of configuration; a retired one empties."""

import asyncio
import ssl
from collections.abc import Collection, Mapping
from typing import Final

from proxy.http.addresses import host_and_port, network_of
from proxy.model.config import Endpoint, LoadBalancing, Upstream
from proxy.observability.worker_stats import ServiceStats
from proxy.platform.tcp_keepalive import enable_tcp_keepalive
from proxy.shared_memory.counters import Counters, Reservation
from proxy.tls.stream import TlsStream
from proxy.transport.protocol_adapter import ProtocolAdapter
from proxy.transport.run_queue import RunQueue
from proxy.transport.timer_wheel import Deadline, TimerWheel
from proxy.upstream.balance import LoadBalancer
from proxy.upstream.errors import TlsHandshakeError, TlsHandshakeTimeoutError
from proxy.upstream.ewma import Ewma
from proxy.upstream.http1_connection import UpstreamConnection
from proxy.upstream.outlier_detection import OutlierDetection
from proxy.upstream.rendezvous import NO_KEY, highest_ranked, seed_of

IDLE_SECONDS: Final = 60.0
"""An idle connection is closed after this time; most backends keep theirs longer."""
MAX_IDLE: Final = 256
"""Idle connections kept per endpoint."""
PoolKey = tuple[str, int, bool]


def make_upstream_context() -> ssl.SSLContext:
    """Make the one context for TLS to backends; their certificates are not verified (docs/security.md)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    # Between a backend's wish to begin anew and the end of that, nothing could be written.
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


class EndpointPool:
    """The connections to one endpoint of one upstream."""

    __slots__ = (
        "_idle",
        "_loop",
        "_owner",
        "_readmission",
        "_reaper",
        "_run_queue",
        "_tcp_keepalive",
        "_tls",
        "_wheel",
        "address",
        "counter",
        "draining",
        "ewma",
        "in_flight",
        "name",
        "outlier_detection",
        "pod",
        "port",
        "retired",
        "seed",
        "sockets",
        "stats",
    )

    def __init__(
        self,
        owner: "LiveUpstream",
        endpoint: Endpoint,
        tls: ssl.SSLContext | None,
        wheel: TimerWheel,
        run_queue: RunQueue,
        loop: asyncio.AbstractEventLoop,
        counters: Counters,
    ) -> None:
        self.counter = counters.endpoint_counter(
            counters.key(b"endpoint", owner.key.encode(), f"{endpoint.address}|{endpoint.port}".encode())
        )
        self.counter.ref()
        self._owner: LiveUpstream | None = owner
        """None: the endpoint is gone, and waits for no collector."""
        self._tcp_keepalive = owner.tcp_keepalive
        self.outlier_detection = OutlierDetection()
        self.ewma = Ewma()
        self.address = endpoint.address
        self.port = endpoint.port
        self.name = host_and_port(endpoint.address, endpoint.port)
        """As logs have it."""
        self.pod = endpoint.pod
        self.draining = False
        self.seed = seed_of(endpoint.address, endpoint.port)
        """Its rank in rendezvous.py."""
        self.in_flight = 0
        self.sockets = 0
        self.retired = False
        self.stats = owner.stats
        self._tls = tls
        self._wheel = wheel
        self._run_queue = run_queue
        self._loop = loop
        self._idle: list[UpstreamConnection] = []
        self._reaper = Deadline(self._reap)
        self._readmission = Deadline(self._readmit)

    @property
    def load(self) -> int:
        """Requests in flight and open sockets, of all workers."""
        return self.counter.load

    @property
    def cost(self) -> float:
        """How long one more request would wait for its answer, in seconds or so (ewma.py)."""
        return self.ewma.cost(self.load, self._wheel.now)

    def take(self) -> UpstreamConnection | None:
        """Return the connection that was idle for the shortest time; None: there is none."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.alive and not connection.transport.is_closing():
                connection.reused = True
                return connection
        return None

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next exchange."""
        connection.codec = None
        if self.retired or len(self._idle) >= MAX_IDLE:
            connection.close()
            return
        connection.idle_since = self._wheel.now
        self._idle.append(connection)
        if not self._reaper.at:
            self._wheel.schedule(self._reaper, IDLE_SECONDS)

    def connection_lost(self, connection: UpstreamConnection) -> None:
        """Count a connection as gone; drop it if it was idle."""
        self.stats.connections -= 1
        if connection.codec is None and connection in self._idle:
            self._idle.remove(connection)

    def _reap(self) -> None:
        limit = self._wheel.now - IDLE_SECONDS
        stale = [connection for connection in self._idle if connection.idle_since <= limit]
        self._idle = [connection for connection in self._idle if connection.idle_since > limit]
        for connection in stale:
            connection.close()
        if self._idle:
            self._wheel.schedule(self._reaper, self._idle[0].idle_since - limit + 0.1)

    def retire(self) -> None:
        """Close idle connections of an endpoint that is gone; requests under way end as they would."""
        if not self.retired:
            self.counter.unref()
        self.retired = True
        self._owner = None
        self._wheel.cancel(self._reaper)
        self._wheel.cancel(self._readmission)
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def record_connect_failure(self) -> None:
        """Record an attempt to connect that failed."""
        self.stats.connect_failed()
        if self.outlier_detection.record_connect_failure():
            self._eject()

    def record_status(self, status: int, client: str) -> None:
        """Record the outcome of a client's request: 502 and 504 stand for no answer, 101 is a socket.

        Needed for all from 500 on, and for the others from `outlier_detection.successes_from` on.
        """
        network, now = network_of(client), self._wheel.now
        if status < 500:
            self.outlier_detection.record_success(network, now)
        elif self.outlier_detection.record_error(network, now):
            self._eject()

    def _eject(self) -> None:
        owner = self._owner
        if owner is not None and owner.may_eject(self):
            self._wheel.schedule(self._readmission, self.outlier_detection.eject())
            owner.refresh_usable()

    def _readmit(self) -> None:
        self.outlier_detection.readmit(self._wheel.now)
        if self._owner is not None:
            self._owner.refresh_usable()

    async def connect(self, timeout: float) -> UpstreamConnection:
        """Make a connection; raises OSError or TimeoutError."""
        connection = UpstreamConnection(self)
        start = self._loop.time()
        try:
            async with asyncio.timeout(timeout):
                if self._tls is None:
                    await self._loop.create_connection(lambda: ProtocolAdapter(connection), self.address, self.port)
                    self.stats.connections += 1
                else:
                    await self._connect_securely(connection, self._tls)
        except TimeoutError:
            if connection.reached:
                raise TlsHandshakeTimeoutError from None
            raise
        enable_tcp_keepalive(connection.transport.get_extra_info("socket"), self._tcp_keepalive)
        self.stats.connected(self._loop.time() - start)
        return connection

    async def _connect_securely(self, connection: UpstreamConnection, tls: ssl.SSLContext) -> None:
        # Not the error itself: the frame that raised it would hold it, and it the frame.
        handshake: asyncio.Future[str] = self._loop.create_future()

        def finished(error: Exception | None) -> None:
            if error is None:
                # Here, since from now on the connection tells when it is gone, even if nobody waits for it any more.
                self.stats.connections += 1
            if not handshake.done():
                handshake.set_result(str(error) if error is not None else "")

        stream = TlsStream(connection, tls, self._run_queue, finished, server_side=False, server_name=self.address)
        transport, _ = await self._loop.create_connection(lambda: ProtocolAdapter(stream), self.address, self.port)
        connection.reached = True
        problem = "the handshake was given up"
        try:
            problem = await handshake
        finally:
            if problem:
                transport.abort()
        if problem:
            raise TlsHandshakeError(problem)


class LiveUpstream:
    """One upstream as it runs: its endpoints' pools and the state of its load balancing."""

    __slots__ = (
        "_counters",
        "_load_balancer",
        "_loop",
        "_pools",
        "_run_queue",
        "_wheel",
        "draining",
        "endpoints",
        "key",
        "ready",
        "stats",
        "tcp_keepalive",
        "usable",
        "version",
    )

    def __init__(
        self,
        key: str,
        stats: ServiceStats,
        wheel: TimerWheel,
        run_queue: RunQueue,
        loop: asyncio.AbstractEventLoop,
        counters: Counters,
        *,
        tcp_keepalive: float = 0.0,
    ) -> None:
        self.key = key
        self._counters = counters
        self.stats = stats
        self._wheel = wheel
        self._run_queue = run_queue
        self._loop = loop
        self.tcp_keepalive = tcp_keepalive
        """Seconds of silence after which the kernel asks an endpoint; 0: never."""
        self._load_balancer = LoadBalancer()
        self._pools: dict[PoolKey, EndpointPool] = {}
        self.ready: list[EndpointPool] = []
        self.usable: list[EndpointPool] = []
        """The ready ones that are not left out for failing."""
        self.draining: list[EndpointPool] = []
        self.version = 0
        """Grows with every change of the endpoints."""
        self.endpoints: dict[tuple[str, int], Endpoint] = {}
        """All of them by address and port, as the configuration has them."""

    def may_eject(self, pool: EndpointPool) -> bool:
        """Tell whether a ready endpoint may be left out: at most half of them are at once."""
        return pool in self.usable and 2 * (len(self.ready) - len(self.usable) + 1) <= len(self.ready)

    def refresh_usable(self) -> None:
        """Sort the ready endpoints anew, after one was left out or comes back."""
        self.usable = [pool for pool in self.ready if not pool.outlier_detection.ejected]
        ejected = tuple([(pool.address, pool.port) for pool in self.ready if pool.outlier_detection.ejected])
        self.stats.set_endpoints(len(self.usable), len(self.draining), ejected)
        self.stats.endpoint_counters = [pool.counter for pool in self.usable]

    def update(self, upstream: Upstream, tls: ssl.SSLContext) -> None:
        """Take the endpoints of a new configuration; pools of endpoints that stay are kept."""
        old: Mapping[PoolKey, EndpointPool] = self._pools
        pools: dict[PoolKey, EndpointPool] = {}
        self.ready, self.draining = [], []
        self.endpoints = {(endpoint.address, endpoint.port): endpoint for endpoint in upstream.endpoints}
        for endpoint in upstream.endpoints:
            key = (endpoint.address, endpoint.port, upstream.tls)
            pool = old.get(key)
            if pool is None:
                pool = EndpointPool(
                    self, endpoint, tls if upstream.tls else None, self._wheel, self._run_queue, self._loop, self._counters
                )
            pool.pod, pool.draining = endpoint.pod, endpoint.state != "ready"
            pools[key] = pool
            if endpoint.state == "ready":
                self.ready.append(pool)
            elif endpoint.state == "draining":
                self.draining.append(pool)
        self._pools = pools
        self.version += 1
        for key, pool in old.items():
            if key not in pools:
                pool.retire()
        self.refresh_usable()

    def pool_at(self, address: tuple[str, int]) -> EndpointPool | None:
        """Return an endpoint by its address and port."""
        return self._pools.get((*address, False)) or self._pools.get((*address, True))

    def retire(self) -> None:
        """Retire every endpoint of an upstream that is gone."""
        for pool in self._pools.values():
            pool.retire()

    def choose(self, policy: LoadBalancing, tried: Collection[EndpointPool] = (), key: int = NO_KEY) -> EndpointPool | None:
        """Choose an endpoint that was not tried: a usable one, else any ready one, else a draining one; None: none is left.

        `key` chooses, where there is one (rendezvous.py).
        """
        candidates = self.usable or self.ready or self.draining
        if tried:
            candidates = [pool for pool in candidates if pool not in tried] or [
                pool for pool in self.ready or self.draining if pool not in tried
            ]
        if not candidates:
            return None
        return self._load_balancer.choose(policy, candidates) if key == NO_KEY else highest_ranked(key, candidates)

    def reserve(
        self, policy: LoadBalancing, limit: int, reservation: Reservation, tried: Collection[EndpointPool] = (), key: int = NO_KEY
    ) -> EndpointPool | None:
        """Choose an endpoint for an upgrade, as `choose`, and have it count there instead of where it did before.

        Endpoints with `limit` sockets and handshakes, of all workers, are left out; 0: no limit.
        """
        reservation.release_endpoint()
        if limit:
            tried = [*tried, *(pool for pool in (*self.ready, *self.draining) if pool.counter.sockets >= limit)]
        while True:
            pool = self.choose(policy, tried, key)
            if pool is None:
                return None
            if pool.counter.acquire(limit):
                reservation.endpoint_counter = pool.counter
                return pool
            tried = [*tried, pool]  # another worker was faster

    @property
    def endpoint_count(self) -> int:
        """How many endpoints could be tried."""
        return len(self.ready or self.draining)
