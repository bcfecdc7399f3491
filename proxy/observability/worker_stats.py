# Compiled by mypyc: see setup.py.
"""What a worker counts: plain integers in slots, sent to the supervisor as what was added since the last time.

No labels are looked up on the hot path. The supervisor's totals and their exposition are in pod_totals.py.
"""

from bisect import bisect_left

from proxy.observability.stats_delta import HistogramDelta, RouteDelta, ServiceDelta, StatsDelta
from proxy.shared_memory.counters import EndpointCounter

LATENCY = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bucket bounds in seconds of requests, first bytes, connects and handshakes."""
LIFETIME = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10800.0, 43200.0, 86400.0)
"""Bucket bounds in seconds of sockets: 1 s to 1 day."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
MAX_OTHER_CODES = 32
"""Close codes beyond 1000 to 1015 that a route counts by themselves (docs/metrics.md)."""


def code_label(code: int, others: set[int]) -> str:
    """Return the label of a close code; `others` holds the codes beyond 1000 to 1015 that have a label of their own already."""
    if not 1000 <= code <= 1015 and code not in others:
        if len(others) >= MAX_OTHER_CODES:
            return "other"
        others.add(code)
    return str(code)


class Histogram:
    """Observations in buckets."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = LATENCY) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation; bounds are inclusive."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def take(self) -> HistogramDelta | None:
        """Return and forget what was observed; None: nothing."""
        if not any(self.counts):
            return None
        delta = HistogramDelta(self.counts, self.total)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0
        return delta


_NOTHING = Histogram()
"""Stands for each histogram of a route that has no traffic; nobody observes anything in it."""
_NO_REQUESTS: dict[tuple[str, str, int], int] = {}
_NO_HISTOGRAMS: dict[str, Histogram] = {}
_NO_SOCKETS: dict[str, int] = {}
_NO_HANDSHAKES: dict[int, int] = {}
_NO_CLOSES: dict[tuple[str, str], int] = {}
_NO_CODES: set[int] = set()


class RouteStats:
    """What one route counts in this worker. Of thousands of routes most are silent: they share what is empty until they count."""

    __slots__ = (
        "_codes",
        "_in_flight_sent",
        "_touched",
        "closes",
        "duration",
        "first_bytes",
        "handshake_duration",
        "handshakes",
        "in_flight",
        "ping_rtt",
        "request_bytes",
        "requests",
        "response_bytes",
        "route_id",
        "socket_duration",
        "sockets",
        "unanswered",
        "ws_bytes_in",
        "ws_bytes_out",
        "ws_messages_in",
        "ws_messages_out",
    )

    def __init__(self, route_id: str) -> None:
        self.route_id = route_id
        self.requests = _NO_REQUESTS
        self.duration = _NOTHING
        self.first_bytes = _NO_HISTOGRAMS
        self.request_bytes = 0
        self.response_bytes = 0
        self.in_flight = 0
        self.sockets = _NO_SOCKETS
        self.handshakes = _NO_HANDSHAKES
        self.handshake_duration = _NOTHING
        self.socket_duration = _NOTHING
        self.ping_rtt = _NOTHING
        self.ws_messages_in = 0
        """From the client."""
        self.ws_messages_out = 0
        self.ws_bytes_in = 0
        self.ws_bytes_out = 0
        self.unanswered = 0
        self.closes = _NO_CLOSES
        self._codes = _NO_CODES
        self._touched = False
        self._in_flight_sent = 0

    def _touch(self) -> None:
        """Take note that something is counted, which nothing was since the last delta."""
        self._touched = True
        if self._codes is _NO_CODES:
            self.requests, self.first_bytes, self.sockets = {}, {}, {}
            self.handshakes, self.closes, self._codes = {}, {}, set()
            self.duration, self.handshake_duration, self.ping_rtt = Histogram(), Histogram(), Histogram()
            self.socket_duration = Histogram(LIFETIME)

    def request_done(self, service: str, method: str, status: int, seconds: float, request_bytes: int, response_bytes: int) -> None:
        """Count an answered request."""
        key = (service, method if method in METHODS else "other", status)
        if not self._touched:
            self._touch()
        self.requests[key] = self.requests.get(key, 0) + 1
        self.duration.observe(seconds)
        self.request_bytes += request_bytes
        self.response_bytes += response_bytes

    def first_byte(self, service: str, seconds: float) -> None:
        """Count the time until the backend's head."""
        if not self._touched:
            self._touch()
        histogram = self.first_bytes.get(service)
        if histogram is None:
            histogram = self.first_bytes[service] = Histogram()
        histogram.observe(seconds)

    def ws_handshake(self, status: int, seconds: float | None = None) -> None:
        """Count an upgrade by its answer; `seconds` for 101 only."""
        if not self._touched:
            self._touch()
        self.handshakes[status] = self.handshakes.get(status, 0) + 1
        if seconds is not None:
            self.handshake_duration.observe(seconds)

    def ws_opened(self, service: str) -> None:
        """Count a socket that is open from now on."""
        if not self._touched:
            self._touch()
        self.sockets[service] = self.sockets.get(service, 0) + 1

    def ws_left(self, service: str) -> None:
        """Count a socket elsewhere from now on: its route is gone, or another one serves it."""
        if not self._touched:
            self._touch()
        self.sockets[service] = self.sockets.get(service, 0) - 1

    def ws_closed(self, service: str, code: int, by: str, seconds: float) -> None:
        """Count a socket that is gone: its close code and who closed it (client, backend, proxy:CAUSE)."""
        if not self._touched:
            self._touch()
        self.sockets[service] = self.sockets.get(service, 0) - 1
        key = (code_label(code, self._codes), by)
        self.closes[key] = self.closes.get(key, 0) + 1
        self.socket_duration.observe(seconds)

    def ws_ping(self, seconds: float) -> None:
        """Count an answer to a ping of our own, which took that long."""
        if not self._touched:
            self._touch()
        self.ping_rtt.observe(seconds)

    def ws_unanswered(self) -> None:
        """Count a socket that was cut because an end did not answer our close frame in time."""
        if not self._touched:
            self._touch()
        self.unanswered += 1

    def changed(self) -> bool:
        """Tell whether the last delta is out of date: something was added, or a gauge moved."""
        return (
            self._touched
            or self.in_flight != self._in_flight_sent
            or self.ws_messages_in > 0
            or self.ws_messages_out > 0
            or self.ws_bytes_in > 0
            or self.ws_bytes_out > 0
        )

    def take(self) -> RouteDelta:
        """Return and forget what was added; gauges stay. A Service without open sockets is named once more, with its zero."""
        delta = RouteDelta(
            requests={f"{service or '-'} {method} {status}": count for (service, method, status), count in self.requests.items()},
            duration=self.duration.take(),
            first_byte={service: taken for service, histogram in self.first_bytes.items() if (taken := histogram.take())},
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            in_flight=self.in_flight,
            sockets=self.sockets,
            handshakes={str(status): count for status, count in self.handshakes.items()},
            handshake_duration=self.handshake_duration.take(),
            socket_duration=self.socket_duration.take(),
            messages_in=self.ws_messages_in,
            messages_out=self.ws_messages_out,
            bytes_in=self.ws_bytes_in,
            bytes_out=self.ws_bytes_out,
            closes={f"{code} {by}": count for (code, by), count in self.closes.items()},
            ping_rtt=self.ping_rtt.take(),
            unanswered=self.unanswered,
        )
        self._touched = False
        self._in_flight_sent = self.in_flight
        if self._codes is not _NO_CODES:
            self.requests = {}
            self.first_bytes = {}
            self.sockets = {service: count for service, count in self.sockets.items() if count}
            self.handshakes = {}
            self.closes = {}
        self.unanswered = 0
        self.request_bytes = self.response_bytes = 0
        self.ws_messages_in = self.ws_messages_out = self.ws_bytes_in = self.ws_bytes_out = 0
        return delta


class ServiceStats:
    """What one upstream counts in this worker."""

    __slots__ = (
        "_imbalance",
        "_sent",
        "_touched",
        "connect_duration",
        "connect_failures",
        "connections",
        "draining",
        "ejected",
        "endpoint_counters",
        "errors",
        "key",
        "ready",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.connect_duration = Histogram()
        self.connect_failures = 0
        self.errors: dict[str, int] = {}
        self.connections = 0
        """Open connections to its endpoints, idle ones too."""
        self.ready = 0
        self.draining = 0
        self.ejected: tuple[tuple[str, int], ...] = ()
        self.endpoint_counters: list[EndpointCounter] = []
        """What its usable endpoints have open, of all workers."""
        self._imbalance = 0.0
        self._touched = False
        self._sent: tuple[int, int, int, tuple[tuple[str, int], ...]] = (0, 0, 0, ())

    def set_endpoints(self, ready: int, draining: int, ejected: tuple[tuple[str, int], ...]) -> None:
        """Set how many endpoints there are, by state; `ejected`: address and port of those that are left out for failing."""
        self.ready, self.draining, self.ejected = ready, draining, ejected

    def connected(self, seconds: float) -> None:
        """Count a connection that was made."""
        self._touched = True
        self.connect_duration.observe(seconds)

    def connect_failed(self) -> None:
        """Count an attempt that was refused or timed out."""
        self._touched = True
        self.connect_failures += 1

    def failed(self, cause: str) -> None:
        """Count a request that was not answered whole, by a cause of `causes.UPSTREAM`."""
        self._touched = True
        self.errors[cause] = self.errors.get(cause, 0) + 1

    def changed(self) -> bool:
        """Tell whether the last delta is out of date: something was added, or a gauge moved."""
        if self._touched or self._sent != (self.connections, self.ready, self.draining, self.ejected):
            return True
        # Not only when a connection comes or goes: a socket may take one that was idle, and those of other workers count too.
        return (self.connections > 0 or self._imbalance > 0.0) and self._imbalance != self._imbalance_now()

    def take(self) -> ServiceDelta:
        """Return and forget what was added; gauges stay."""
        failures, self.connect_failures = self.connect_failures, 0
        errors, self.errors = self.errors, {}
        self._touched = False
        self._sent = (self.connections, self.ready, self.draining, self.ejected)
        self._imbalance = self._imbalance_now()
        return ServiceDelta(
            self.connect_duration.take(),
            failures,
            self.connections,
            self.ready,
            self.draining,
            self.ejected,
            self._imbalance,
            errors,
        )

    def _imbalance_now(self) -> float:
        sockets = [counter.sockets for counter in self.endpoint_counters]
        total = sum(sockets)
        return max(sockets) * len(sockets) / total if total else 0.0


class WorkerStats:
    """Everything that one worker counts."""

    __slots__ = (
        "connections",
        "connections_total",
        "log_dropped",
        "loop_lag",
        "routes",
        "services",
        "stand_ins",
        "tasks",
        "tls_duration",
        "tls_handshakes",
        "unmatched",
    )

    def __init__(self) -> None:
        self.unmatched = RouteStats("-")
        """Requests that match nothing."""
        self.routes: dict[str, RouteStats] = {}
        self.services: dict[str, ServiceStats] = {}
        self.connections: dict[str, int] = {}
        self.connections_total: dict[str, int] = {}
        self.tls_handshakes: dict[str, int] = {}
        self.tls_duration = Histogram()
        self.loop_lag = Histogram()
        self.log_dropped = 0
        self.tasks = 0
        """Of the worker's loop, when it was looked last."""
        self.stand_ins: dict[str, float] = {}
        """Certificates that OpenSSL does not take, as `CertificateStore` has them, when it was looked last."""

    def route(self, route_id: str) -> RouteStats:
        """Return the counts of a route, made at its first use."""
        stats = self.routes.get(route_id)
        if stats is None:
            stats = self.routes[route_id] = RouteStats(route_id)
        return stats

    def drop_route(self, route_id: str) -> None:
        """Forget a route that is gone; sockets that it leaves behind count on its old object."""
        self.routes.pop(route_id, None)

    def service(self, key: str) -> ServiceStats:
        """Return the counts of an upstream, made at its first use."""
        stats = self.services.get(key)
        if stats is None:
            stats = self.services[key] = ServiceStats(key)
        return stats

    def drop_service(self, key: str) -> None:
        """Forget an upstream that is gone."""
        self.services.pop(key, None)

    def connection_opened(self, listener: str) -> None:
        """Count an accepted connection."""
        self.connections[listener] = self.connections.get(listener, 0) + 1
        self.connections_total[listener] = self.connections_total.get(listener, 0) + 1

    def connection_closed(self, listener: str) -> None:
        """Count a connection that is gone."""
        self.connections[listener] = self.connections.get(listener, 0) - 1

    def tls_handshake(self, result: str, seconds: float) -> None:
        """Count a handshake: ok, failed, timeout or refused."""
        self.tls_handshakes[result] = self.tls_handshakes.get(result, 0) + 1
        if result == "ok":
            self.tls_duration.observe(seconds)

    def delta(self) -> StatsDelta:
        """Return what was added since the last call.

        Routes and upstreams of which there is nothing new are left out, gauges included: asking 5,000 of them takes a millisecond,
        and is done each second.
        """
        routes = {stats.route_id: stats.take() for stats in (self.unmatched, *self.routes.values()) if stats.changed()}
        services = {key: service.take() for key, service in self.services.items() if service.changed()}
        totals, self.connections_total = self.connections_total, {}
        handshakes, self.tls_handshakes = self.tls_handshakes, {}
        dropped, self.log_dropped = self.log_dropped, 0
        return StatsDelta(
            routes,
            services,
            dict(self.connections),
            totals,
            handshakes,
            self.tls_duration.take(),
            self.loop_lag.take(),
            dropped,
            self.tasks,
            self.stand_ins,
        )
