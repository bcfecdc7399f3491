# Compiled by mypyc: see setup.py.
"""What a worker counts when, sent to the supervisor as what was added since the last time.

What there is to count is in metrics.py, how it is kept in worker_record.py; the pod's totals are in pod_totals.py.
"""

from typing import Final

from proxy.observability.metrics import (
    CONNECTIONS,
    CONNECTIONS_TOTAL,
    ENDPOINTS,
    HTTP_DURATION,
    HTTP_FIRST_BYTE,
    HTTP_IN_FLIGHT,
    HTTP_LOCAL_REPLIES,
    HTTP_REQUEST_BYTES,
    HTTP_REQUESTS,
    HTTP_RESPONSE_BYTES,
    LOOP_LAG,
    ROUTE,
    SERVICE,
    TLS_DURATION,
    TLS_HANDSHAKES,
    UPSTREAM_CONNECT_DURATION,
    UPSTREAM_CONNECT_FAILURES,
    UPSTREAM_CONNECTIONS,
    UPSTREAM_ERRORS,
    WORKER,
    WS_BYTES,
    WS_CLOSES,
    WS_CONNECTIONS,
    WS_DURATION,
    WS_HANDSHAKE_DURATION,
    WS_HANDSHAKES,
    WS_IMBALANCE,
    WS_MESSAGES,
    WS_PING_RTT,
    WS_UNANSWERED_CLOSES,
)
from proxy.observability.stats_delta import RecordDelta, ServiceDelta, StatsDelta
from proxy.observability.worker_record import Record
from proxy.shared_memory.counters import EndpointCounter

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
MAX_OTHER_CODES: Final = 32
"""Close codes beyond 1000 to 1015 that a route counts by themselves (docs/metrics.md)."""
_NO_CODES: Final[set[int]] = set()


def code_label(code: int, others: set[int]) -> str:
    """Return the label of a close code; `others` holds the codes beyond 1000 to 1015 that have a label of their own already."""
    if not 1000 <= code <= 1015 and code not in others:
        if len(others) >= MAX_OTHER_CODES:
            return "other"
        others.add(code)
    return str(code)


class RouteStats(Record):
    """What one route counts in this worker."""

    __slots__ = ("_codes", "route_id")

    def __init__(self, route_id: str) -> None:
        super().__init__(ROUTE)
        self.route_id = route_id
        self._codes = _NO_CODES

    @property
    def in_flight(self) -> int:
        """Requests that are being answered."""
        return self._scalars[HTTP_IN_FLIGHT.slot]

    def begin_request(self) -> None:
        """Count a request that is being answered from now on."""
        if not self.touched:
            self.touch()
        self._scalars[HTTP_IN_FLIGHT.slot] += 1

    def end_request(self) -> None:
        """Count it no more."""
        if not self.touched:
            self.touch()
        self._scalars[HTTP_IN_FLIGHT.slot] -= 1

    def request_done(self, service: str, method: str, status: int, seconds: float, request_bytes: int, response_bytes: int) -> None:
        """Count an answered request."""
        self.count_labelled(HTTP_REQUESTS, (service or "-", method if method in METHODS else "other", status))
        self.observe(HTTP_DURATION, seconds)
        scalars = self._scalars
        if request_bytes:
            scalars[HTTP_REQUEST_BYTES.slot] += request_bytes
        if response_bytes:
            scalars[HTTP_RESPONSE_BYTES.slot] += response_bytes

    def local_reply(self, cause: str) -> None:
        """Count an answer of the proxy's own, by a name of causes.py."""
        self.count_labelled(HTTP_LOCAL_REPLIES, cause)

    def first_byte(self, service: str, seconds: float) -> None:
        """Count the time until the backend's head."""
        self.observe_labelled(HTTP_FIRST_BYTE, service, seconds)

    def ws_handshake(self, status: int, seconds: float | None = None) -> None:
        """Count an upgrade by its answer; `seconds` for 101 only."""
        self.count_labelled(WS_HANDSHAKES, status)
        if seconds is not None:
            self.observe(WS_HANDSHAKE_DURATION, seconds)

    def ws_opened(self, service: str) -> None:
        """Count a socket that is open from now on."""
        self.count_labelled(WS_CONNECTIONS, service)

    def ws_left(self, service: str) -> None:
        """Count a socket elsewhere from now on: its route is gone, or another one serves it."""
        self.count_labelled(WS_CONNECTIONS, service, -1)

    def ws_traffic(self, messages_in: int, bytes_in: int, messages_out: int, bytes_out: int) -> None:
        """Count what passed through a socket since the last time; in: from the client."""
        if messages_in or bytes_in or messages_out or bytes_out:
            self.count(WS_MESSAGES, messages_in)
            self.count(WS_BYTES, bytes_in)
            self.count(WS_MESSAGES, messages_out, 1)
            self.count(WS_BYTES, bytes_out, 1)

    def ws_closed(self, service: str, code: int, by: str, seconds: float) -> None:
        """Count a socket that is gone: its close code and who closed it (client, backend, proxy:CAUSE)."""
        if self._codes is _NO_CODES and not 1000 <= code <= 1015:
            self._codes = set()
        self.count_labelled(WS_CONNECTIONS, service, -1)
        self.count_labelled(WS_CLOSES, (code_label(code, self._codes), by))
        self.observe(WS_DURATION, seconds)

    def ws_ping(self, seconds: float) -> None:
        """Count an answer to a ping of our own, which took that long."""
        self.observe(WS_PING_RTT, seconds)

    def ws_unanswered(self) -> None:
        """Count a socket that was cut because an end did not answer our close frame in time."""
        self.count(WS_UNANSWERED_CLOSES)

    def take_delta(self) -> RecordDelta:
        """Return and forget what was added; gauges stay. A Service without open sockets is named once more, with its zero."""
        counts, gauges, histograms = self.take_counts()
        return RecordDelta(counts, gauges, histograms)


class ServiceStats(Record):
    """What one upstream counts in this worker."""

    __slots__ = ("_imbalance", "ejected", "endpoint_counters", "key")

    def __init__(self, key: str) -> None:
        super().__init__(SERVICE)
        self.key = key
        self.ejected: tuple[tuple[str, int], ...] = ()
        """Address and port of the endpoints that are left out for failing."""
        self.endpoint_counters: list[EndpointCounter] = []
        """What its usable endpoints have open, of all workers."""
        self._imbalance = 0.0

    @property
    def connections(self) -> int:
        """Open connections to its endpoints, idle ones too."""
        return self._scalars[UPSTREAM_CONNECTIONS.slot]

    @connections.setter
    def connections(self, number: int) -> None:
        self.set(UPSTREAM_CONNECTIONS, number)

    def set_endpoints(self, ready: int, draining: int, ejected: tuple[tuple[str, int], ...]) -> None:
        """Set how many endpoints there are, by state; `ready` is without those of `ejected`."""
        for place, number in enumerate((ready, draining, len(ejected))):
            self.set(ENDPOINTS, number, place)
        if ejected != self.ejected:
            self.ejected = ejected
            self.touch()

    def connected(self, seconds: float) -> None:
        """Count a connection that was made."""
        self.observe(UPSTREAM_CONNECT_DURATION, seconds)

    def connect_failed(self) -> None:
        """Count an attempt that was refused or timed out."""
        self.count(UPSTREAM_CONNECT_FAILURES)

    def failed(self, cause: str) -> None:
        """Count a request that was not answered whole, by a cause of `causes.UPSTREAM`."""
        self.count_labelled(UPSTREAM_ERRORS, cause)

    def changed(self) -> bool:
        """Tell whether the last delta is out of date: something was added, or a gauge moved."""
        # Not only when a connection comes or goes: a socket may take one that was idle, and those of other workers count too.
        return self.touched or ((self.connections > 0 or self._imbalance > 0.0) and self._imbalance != self._imbalance_now())

    def take_delta(self) -> ServiceDelta:
        """Return and forget what was added; gauges stay."""
        counts, gauges, histograms = self.take_counts()
        self._imbalance = self._imbalance_now()
        if self._imbalance:
            gauges[WS_IMBALANCE.series[0]] = self._imbalance
        return ServiceDelta(counts, gauges, histograms, self.ejected)

    def _imbalance_now(self) -> float:
        sockets = [counter.sockets for counter in self.endpoint_counters]
        total = sum(sockets)
        return max(sockets) * len(sockets) / total if total else 0.0


class WorkerStats(Record):
    """Everything that one worker counts."""

    __slots__ = ("routes", "services", "stand_ins", "unmatched")

    def __init__(self) -> None:
        super().__init__(WORKER)
        self.unmatched = RouteStats("-")
        """Requests that match nothing."""
        self.routes: dict[str, RouteStats] = {}
        self.services: dict[str, ServiceStats] = {}
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
        self.count_labelled(CONNECTIONS, listener)
        self.count_labelled(CONNECTIONS_TOTAL, listener)

    def connection_closed(self, listener: str) -> None:
        """Count a connection that is gone."""
        self.count_labelled(CONNECTIONS, listener, -1)

    def tls_handshake(self, result: str, seconds: float) -> None:
        """Count a handshake: ok, failed, timeout or refused."""
        self.count_labelled(TLS_HANDSHAKES, result)
        if result == "ok":
            self.observe(TLS_DURATION, seconds)

    def loop_lag(self, seconds: float) -> None:
        """Count how late the loop was."""
        self.observe(LOOP_LAG, seconds)

    def take_delta(self) -> StatsDelta:
        """Return and forget what was added since the last call.

        Routes and upstreams of which there is nothing new are left out, gauges included: asking 5,000 of them takes a millisecond,
        and is done each second.
        """
        routes = {stats.route_id: stats.take_delta() for stats in (self.unmatched, *self.routes.values()) if stats.touched}
        services = {key: service.take_delta() for key, service in self.services.items() if service.changed()}
        counts, gauges, histograms = self.take_counts()
        return StatsDelta(counts, gauges, histograms, routes, services, self.stand_ins)
