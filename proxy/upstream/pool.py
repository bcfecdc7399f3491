"""Endpoints and the connections that are kept to them. Pools outlive changes of configuration; a retired one empties."""

import asyncio
import ssl
from collections.abc import Collection, Mapping

from proxy.deadlines import Deadline, Wheel
from proxy.http1.client import UpstreamConnection
from proxy.metrics import ServiceStats
from proxy.model.config import Endpoint, LoadBalancing, Upstream
from proxy.scratch import Scratch
from proxy.shells import PlainShell, SecureShell
from proxy.upstream.balance import Chooser

IDLE_SECONDS = 60.0
"""An idle connection is closed after this time; most backends keep theirs longer."""
MAX_IDLE = 256
"""Idle connections kept per endpoint."""
ATTEMPT_SECONDS = 1.0
"""One attempt to connect, while other endpoints remain (spec/wsroute.md, `timeouts.connect`)."""

PoolKey = tuple[str, int, bool]


class UpstreamUnavailableError(Exception):
    """No endpoint could be reached. `status` is what the client is told: 502, 503 or 504."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def make_upstream_context() -> ssl.SSLContext:
    """Make the one context for TLS to backends; their certificates are not verified (spec/ingress.md)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


class EndpointPool:
    """The connections to one endpoint of one upstream."""

    __slots__ = (
        "_idle",
        "_loop",
        "_reaper",
        "_scratch",
        "_tls",
        "_wheel",
        "address",
        "in_flight",
        "port",
        "retired",
        "sockets",
        "stats",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        tls: ssl.SSLContext | None,
        stats: ServiceStats,
        wheel: Wheel,
        scratch: Scratch,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.address = endpoint.address
        self.port = endpoint.port
        self.in_flight = 0
        self.sockets = 0
        self.retired = False
        self.stats = stats
        self._tls = tls
        self._wheel = wheel
        self._scratch = scratch
        self._loop = loop
        self._idle: list[UpstreamConnection] = []
        self._reaper = Deadline(self._reap)

    @property
    def load(self) -> int:
        """Requests in flight and open sockets."""
        return self.in_flight + self.sockets

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
        connection.turn = None
        if self.retired or len(self._idle) >= MAX_IDLE:
            connection.close()
            return
        connection.idle_since = self._wheel.now
        self._idle.append(connection)
        if not self._reaper.at:
            self._wheel.file(self._reaper, IDLE_SECONDS)

    def forget(self, connection: UpstreamConnection) -> None:
        """Take note that a connection is gone."""
        self.stats.connections -= 1
        if connection.turn is None and connection in self._idle:
            self._idle.remove(connection)

    def _reap(self) -> None:
        limit = self._wheel.now - IDLE_SECONDS
        stale = [connection for connection in self._idle if connection.idle_since <= limit]
        self._idle = [connection for connection in self._idle if connection.idle_since > limit]
        for connection in stale:
            connection.close()
        if self._idle:
            self._wheel.file(self._reaper, self._idle[0].idle_since - limit + 0.1)

    def retire(self) -> None:
        """Let nothing new go to an endpoint that is gone; what is under way ends as it would."""
        self.retired = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    async def connect(self, timeout: float) -> UpstreamConnection:
        """Make a connection; raises OSError or TimeoutError."""
        connection = UpstreamConnection(self)
        start = self._loop.time()
        async with asyncio.timeout(timeout):
            if self._tls is None:
                await self._loop.create_connection(lambda: PlainShell(connection), self.address, self.port)
            else:
                await self._loop.create_connection(
                    lambda: SecureShell(connection, self._scratch),
                    self.address,
                    self.port,
                    ssl=self._tls,
                    server_hostname=self.address,
                    ssl_shutdown_timeout=2,
                )
        self.stats.connections += 1
        self.stats.connected(self._loop.time() - start)
        return connection


class LiveUpstream:
    """One upstream as it runs: its endpoints' pools and the state of its load balancing."""

    __slots__ = ("_chooser", "_loop", "_pools", "_scratch", "_wheel", "draining", "key", "ready", "stats")

    def __init__(self, key: str, stats: ServiceStats, wheel: Wheel, scratch: Scratch, loop: asyncio.AbstractEventLoop) -> None:
        self.key = key
        self.stats = stats
        self._wheel = wheel
        self._scratch = scratch
        self._loop = loop
        self._chooser = Chooser()
        self._pools: dict[PoolKey, EndpointPool] = {}
        self.ready: list[EndpointPool] = []
        self.draining: list[EndpointPool] = []

    def update(self, upstream: Upstream, tls: ssl.SSLContext) -> None:
        """Take the endpoints of a new configuration; pools of endpoints that stay are kept."""
        old: Mapping[PoolKey, EndpointPool] = self._pools
        pools: dict[PoolKey, EndpointPool] = {}
        self.ready, self.draining = [], []
        for endpoint in upstream.endpoints:
            key = (endpoint.address, endpoint.port, upstream.tls)
            pool = old.get(key)
            if pool is None:
                pool = EndpointPool(endpoint, tls if upstream.tls else None, self.stats, self._wheel, self._scratch, self._loop)
            pools[key] = pool
            (self.ready if endpoint.state == "ready" else self.draining).append(pool)
        self._pools = pools
        for key, pool in old.items():
            if key not in pools:
                pool.retire()

    def retire(self) -> None:
        """Retire every endpoint of an upstream that is gone."""
        for pool in self._pools.values():
            pool.retire()

    def choose(self, policy: LoadBalancing, tried: Collection[EndpointPool] = ()) -> EndpointPool | None:
        """Choose an endpoint that was not tried: a ready one, or while none is ready, a draining one; None: none is left."""
        candidates = self.ready or self.draining
        if tried:
            candidates = [pool for pool in candidates if pool not in tried]
        return self._chooser.choose(policy, candidates) if candidates else None

    @property
    def count(self) -> int:
        """How many endpoints could be tried."""
        return len(self.ready or self.draining)


async def dial(
    upstream: LiveUpstream, policy: LoadBalancing, timeout: float, first: EndpointPool | None = None
) -> UpstreamConnection:
    """Connect to an endpoint, one after the other within `timeout`; raises `UpstreamUnavailableError`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    tried: list[EndpointPool] = []
    timed_out = False
    pool = first or upstream.choose(policy)
    if pool is None:
        raise UpstreamUnavailableError(503)
    while pool is not None:
        tried.append(pool)
        left = deadline - loop.time()
        if left <= 0:
            timed_out = True
            break
        others = len(tried) < upstream.count
        try:
            return await pool.connect(min(ATTEMPT_SECONDS, timeout / 3, left) if others else left)
        except TimeoutError:
            timed_out = True
        except OSError:
            timed_out = False
        upstream.stats.connect_failed()
        pool = upstream.choose(policy, tried)
    raise UpstreamUnavailableError(504 if timed_out else 502)
