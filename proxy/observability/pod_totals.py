"""The supervisor's totals of what the workers counted, and their exposition for Prometheus (docs/metrics.md).

A worker that dies takes its gauges with it and nothing else. Series of a route or a Service go away with it.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from proxy.observability.stats_delta import HistogramDelta, RouteDelta, ServiceDelta, StatsDelta
from proxy.observability.worker_stats import LATENCY, LIFETIME, code_label


@dataclass(slots=True)
class _Sum:
    """A histogram that adds up deltas."""

    bounds: tuple[float, ...] = LATENCY
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def add(self, delta: HistogramDelta | None) -> None:
        if delta is None:
            return
        if not self.counts:
            self.counts = [0] * (len(self.bounds) + 1)
        for number, count in enumerate(delta.counts):
            self.counts[number] += count
        self.total += delta.total

    def buckets(self) -> list[tuple[str, float]]:
        running, found = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts or [0] * (len(self.bounds) + 1), strict=True):
            running += count
            found.append(("+Inf" if bound == float("inf") else str(bound), float(running)))
        return found


@dataclass(slots=True)
class _Route:
    requests: dict[str, int] = field(default_factory=dict)
    duration: _Sum = field(default_factory=_Sum)
    first_byte: dict[str, _Sum] = field(default_factory=dict)
    request_bytes: int = 0
    response_bytes: int = 0
    handshakes: dict[str, int] = field(default_factory=dict)
    handshake_duration: _Sum = field(default_factory=_Sum)
    socket_duration: _Sum = field(default_factory=lambda: _Sum(LIFETIME))
    messages: list[int] = field(default_factory=lambda: [0, 0])
    bytes: list[int] = field(default_factory=lambda: [0, 0])
    closes: dict[str, int] = field(default_factory=dict)
    unanswered: int = 0
    in_flight: dict[int, int] = field(default_factory=dict)
    """Per worker."""
    sockets: dict[int, Mapping[str, int]] = field(default_factory=dict)
    """Per worker, per Service."""
    led_to: set[str] = field(default_factory=set)
    """Services that had a socket: they are shown with zero when they have none."""
    codes: set[int] = field(default_factory=set)
    ping_rtt: _Sum = field(default_factory=_Sum)

    def add(self, worker: int, delta: RouteDelta) -> None:
        _add(self.requests, delta.requests)
        self.duration.add(delta.duration)
        for service, histogram in delta.first_byte.items():
            self.first_byte.setdefault(service, _Sum()).add(histogram)
        self.request_bytes += delta.request_bytes
        self.response_bytes += delta.response_bytes
        _add(self.handshakes, delta.handshakes)
        self.handshake_duration.add(delta.handshake_duration)
        self.socket_duration.add(delta.socket_duration)
        self.ping_rtt.add(delta.ping_rtt)
        self.messages[0] += delta.messages_in
        self.messages[1] += delta.messages_out
        self.bytes[0] += delta.bytes_in
        self.bytes[1] += delta.bytes_out
        for key, count in delta.closes.items():
            code, _, by = key.partition(" ")
            # Each worker bounds its codes by itself; all of them together are bounded here.
            label = code_label(int(code), self.codes) if code != "other" else code
            _add(self.closes, {f"{label} {by}": count})
        self.unanswered += delta.unanswered
        self.in_flight[worker] = delta.in_flight
        self.sockets[worker] = delta.sockets
        self.led_to.update(delta.sockets)

    def forget(self, services: set[str]) -> None:
        """Remove the series of Services that are gone; sockets that are still open to one keep theirs."""
        self.requests = {key: count for key, count in self.requests.items() if key.partition(" ")[0] not in services}
        self.first_byte = {key: histogram for key, histogram in self.first_byte.items() if key not in services}
        self.led_to -= services

    def open_sockets(self) -> dict[str, int]:
        found = dict.fromkeys(sorted(self.led_to), 0)
        for sockets in self.sockets.values():
            _add(found, {service: count for service, count in sockets.items() if count})
        return found


@dataclass(slots=True)
class _Service:
    connect: _Sum = field(default_factory=_Sum)
    failures: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    connections: dict[int, int] = field(default_factory=dict)
    endpoints: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    ejected: dict[int, Sequence[tuple[str, int]]] = field(default_factory=dict)
    imbalance: float = 0.0
    """As the worker saw it that was heard last: each sees the sockets of all."""

    def add(self, worker: int, delta: ServiceDelta) -> None:
        self.connect.add(delta.connect_duration)
        self.failures += delta.connect_failures
        _add(self.errors, delta.errors)
        self.connections[worker] = delta.connections
        self.endpoints[worker] = (delta.ready, delta.draining, len(delta.ejected))
        self.ejected[worker] = delta.ejected
        self.imbalance = delta.imbalance


WORKER_LOST = "1006 proxy:worker_lost"
"""Code and initiator of sockets whose worker ended without a word: no close frame was sent (RFC 6455, 7.4.1)."""


def _add(totals: dict[str, int], added: Mapping[str, int]) -> None:
    for key, count in added.items():
        totals[key] = totals.get(key, 0) + count


class Totals:
    """Everything that was counted since the supervisor started."""

    def __init__(self) -> None:
        self._routes: dict[str, _Route] = {}
        self._services: dict[str, _Service] = {}
        self._connections: dict[int, Mapping[str, int]] = {}
        self._connections_total: dict[str, int] = {}
        self._tls: dict[str, int] = {}
        self._tls_duration = _Sum()
        self._lag = _Sum()
        self._log_dropped = 0
        self._tasks: dict[int, int] = {}
        self._stand_ins: dict[int, Mapping[str, float]] = {}
        self._propagation = _Sum()
        self.applied_at = 0.0
        """Unix time at which every worker had applied the configuration; 0: never."""
        self.rejected_routes = 0
        self.problems: Mapping[str, int] = {}
        """Reason to number."""
        self.workers = 0
        self.restarts = 0
        self.certificates: Mapping[tuple[str, str], float] = {}
        """Host and Secret to the certificate's expiry in Unix time, as it is configured; the host of the default one is `*`."""
        self.registry = CollectorRegistry()
        self.registry.register(_Exposition(self))

    def add(self, worker: int, delta: StatsDelta) -> None:
        """Add what a worker counted. Late counts of routes that are gone are dropped by `keep`."""
        for route_id, route in delta.routes.items():
            self._routes.setdefault(route_id, _Route()).add(worker, route)
        for key, service in delta.services.items():
            self._services.setdefault(key, _Service()).add(worker, service)
        self._connections[worker] = delta.connections
        _add(self._connections_total, delta.connections_total)
        _add(self._tls, delta.tls_handshakes)
        self._tls_duration.add(delta.tls_duration)
        self._lag.add(delta.loop_lag)
        self._log_dropped += delta.log_dropped
        self._tasks[worker] = delta.tasks
        self._stand_ins[worker] = delta.stand_ins

    def worker_lost(self, worker: int) -> int:
        """Count the sockets that a worker had when it was heard last as closed by its end; return how many."""
        total = 0
        for route in self._routes.values():
            if lost := sum(route.sockets.get(worker, {}).values()):
                _add(route.closes, {WORKER_LOST: lost})
                total += lost
        return total

    def worker_gone(self, worker: int) -> None:
        """Drop the gauges of a worker that ended."""
        self._connections.pop(worker, None)
        self._tasks.pop(worker, None)
        self._stand_ins.pop(worker, None)
        for route in self._routes.values():
            route.in_flight.pop(worker, None)
            route.sockets.pop(worker, None)
        for service in self._services.values():
            service.connections.pop(worker, None)
            service.endpoints.pop(worker, None)
            service.ejected.pop(worker, None)

    def keep(self, entries: Container[str]) -> None:
        """Remove the series of every route and Service but those whose wire keys are in `entries`."""
        for key in [key for key in self._routes if key != "-" and f"r/{key}" not in entries]:
            del self._routes[key]
        gone = {key for key in self._services if f"u/{key}" not in entries}
        for key in gone:
            del self._services[key]
        if gone:
            for route in self._routes.values():
                route.forget(gone)

    def propagated(self, seconds: float) -> None:
        """Count the time from the newest object event to applied by all workers."""
        self._propagation.add(_one(seconds))

    def open_sockets(self) -> Mapping[str, int]:
        """Return how many sockets each route has."""
        return {key: sum(route.open_sockets().values()) for key, route in self._routes.items()}

    def ejections(self, service: str) -> Mapping[tuple[str, int], int]:
        """Return which endpoints of a Service are left out for failing, by address and port, and by how many workers."""
        found = self._services.get(service)
        return Counter(endpoint for endpoints in found.ejected.values() for endpoint in endpoints) if found is not None else {}

    @property
    def owners(self) -> int:
        """How many routes and Services have series."""
        return len(self._routes) + len(self._services)

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._http()
        yield from self._websocket()
        yield from self._upstream()
        yield from self._process()

    def _http(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "sluice_http_requests",
            "Answered requests; upgrades that became sockets are not among them.",
            labels=["route", "service", "method", "code"],
        )
        duration = HistogramMetricFamily(
            "sluice_http_request_duration_seconds", "First byte of the request to last byte of the answer.", labels=["route"]
        )
        first = HistogramMetricFamily(
            "sluice_http_time_to_first_byte_seconds", "Request to the backend's head.", labels=["route", "service"]
        )
        incoming = CounterMetricFamily("sluice_http_request_bytes", "Bytes of request bodies.", labels=["route"])
        outgoing = CounterMetricFamily("sluice_http_response_bytes", "Bytes of answers' bodies.", labels=["route"])
        flying = GaugeMetricFamily("sluice_http_requests_in_flight", "Requests being answered.", labels=["route"])
        for route_id, route in self._routes.items():
            for key, count in route.requests.items():
                requests.add_metric([route_id, *key.split(" ")], count)
            duration.add_metric([route_id], route.duration.buckets(), route.duration.total)
            for service, histogram in route.first_byte.items():
                first.add_metric([route_id, service], histogram.buckets(), histogram.total)
            incoming.add_metric([route_id], route.request_bytes)
            outgoing.add_metric([route_id], route.response_bytes)
            flying.add_metric([route_id], sum(route.in_flight.values()))
        yield from (requests, duration, first, incoming, outgoing, flying)

    def _websocket(self) -> Iterator[Metric]:
        sockets = GaugeMetricFamily("sluice_ws_connections", "Open WebSockets.", labels=["route", "service"])
        handshakes = CounterMetricFamily("sluice_ws_handshakes", "Upgrades by answer.", labels=["route", "code"])
        shaking = HistogramMetricFamily("sluice_ws_handshake_duration_seconds", "Upgrade request to 101.", labels=["route"])
        lifetime = HistogramMetricFamily(
            "sluice_ws_connection_duration_seconds", "Lifetime of WebSockets, at their close.", labels=["route"]
        )
        messages = CounterMetricFamily("sluice_ws_messages", "Whole messages; in: from the client.", labels=["route", "direction"])
        payload = CounterMetricFamily("sluice_ws_bytes", "Payload bytes; in: from the client.", labels=["route", "direction"])
        pings = HistogramMetricFamily(
            "sluice_ws_ping_rtt_seconds", "Ping of the proxy's own (keepalive) to its answer.", labels=["route"]
        )
        closes = CounterMetricFamily("sluice_ws_closes", "Closed WebSockets by code and initiator.", labels=["route", "code", "by"])
        unanswered = CounterMetricFamily(
            "sluice_ws_unanswered_closes", "WebSockets cut because an end did not answer our close frame in time.", labels=["route"]
        )
        for route_id, route in self._routes.items():
            for service, count in route.open_sockets().items():
                sockets.add_metric([route_id, service], count)
            for code, count in route.handshakes.items():
                handshakes.add_metric([route_id, code], count)
            if route.handshakes or route.led_to:
                shaking.add_metric([route_id], route.handshake_duration.buckets(), route.handshake_duration.total)
                unanswered.add_metric([route_id], route.unanswered)
                lifetime.add_metric([route_id], route.socket_duration.buckets(), route.socket_duration.total)
                for number, direction in enumerate(("in", "out")):
                    messages.add_metric([route_id, direction], route.messages[number])
                    payload.add_metric([route_id, direction], route.bytes[number])
            if route.ping_rtt.counts:
                pings.add_metric([route_id], route.ping_rtt.buckets(), route.ping_rtt.total)
            for key, count in route.closes.items():
                closes.add_metric([route_id, *key.split(" ", 1)], count)
        yield from (sockets, handshakes, shaking, lifetime, messages, payload, pings, closes, unanswered)

    def _upstream(self) -> Iterator[Metric]:
        connect = HistogramMetricFamily("sluice_upstream_connect_duration_seconds", "Connecting to endpoints.", labels=["service"])
        failures = CounterMetricFamily("sluice_upstream_connect_failures", "Attempts to connect that failed.", labels=["service"])
        errors = CounterMetricFamily(
            "sluice_upstream_errors",
            "Requests that were not answered whole for a backend's sake, by cause.",
            labels=["service", "cause"],
        )
        connections = GaugeMetricFamily("sluice_upstream_connections", "Open connections to endpoints.", labels=["service"])
        endpoints = GaugeMetricFamily("sluice_endpoints", "Endpoints by state.", labels=["service", "state"])
        imbalance = GaugeMetricFamily(
            "sluice_ws_endpoint_imbalance_ratio",
            "Open WebSockets of the fullest usable endpoint over the mean of them; absent: there are none.",
            labels=["service"],
        )
        for key, service in self._services.items():
            connect.add_metric([key], service.connect.buckets(), service.connect.total)
            failures.add_metric([key], service.failures)
            for cause, count in service.errors.items():
                errors.add_metric([key, cause], count)
            connections.add_metric([key], sum(service.connections.values()))
            for number, state in enumerate(("ready", "draining", "unhealthy")):
                endpoints.add_metric([key, state], max((found[number] for found in service.endpoints.values()), default=0))
            if service.imbalance:
                imbalance.add_metric([key], service.imbalance)
        yield from (connect, failures, errors, connections, endpoints, imbalance)

    def _process(self) -> Iterator[Metric]:
        current: dict[str, int] = {}
        for found in self._connections.values():
            _add(current, found)
        yield _labelled(GaugeMetricFamily("sluice_connections", "Open client connections.", labels=["listener"]), current)
        yield _labelled(
            CounterMetricFamily("sluice_connections", "Accepted client connections.", labels=["listener"]), self._connections_total
        )
        yield _labelled(CounterMetricFamily("sluice_tls_handshakes", "TLS handshakes by result.", labels=["result"]), self._tls)
        for name, text, histogram in (
            ("sluice_tls_handshake_duration_seconds", "TLS handshakes that succeeded.", self._tls_duration),
            ("sluice_worker_loop_lag_seconds", "How late a worker's loop was, looked at ten times a second.", self._lag),
            ("sluice_config_propagation_seconds", "Newest object event to applied by all workers.", self._propagation),
        ):
            family = HistogramMetricFamily(name, text)
            family.add_metric([], histogram.buckets(), histogram.total)
            yield family
        expiry = GaugeMetricFamily(
            "sluice_tls_certificate_expiry_timestamp_seconds",
            "When a certificate that is served ends, in Unix time; host *: the default one.",
            labels=["host", "secret"],
        )
        for (host, secret), not_after in self._served_certificates():
            expiry.add_metric([host, secret], not_after)
        yield expiry
        yield _labelled(GaugeMetricFamily("sluice_problems", "Problems with objects by reason.", labels=["reason"]), self.problems)
        for name, text, value in (
            (
                "sluice_config_generation_applied_timestamp_seconds",
                "When all workers had the configuration, in Unix time.",
                self.applied_at,
            ),
            ("sluice_config_rejected_routes", "Routes that could not be compiled and answer 500.", self.rejected_routes),
            ("sluice_workers", "Workers that are running.", self.workers),
            ("sluice_worker_tasks", "Tasks of all workers' loops, such as handshakes and connects.", sum(self._tasks.values())),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        yield CounterMetricFamily("sluice_worker_restarts", "Workers that ended and were replaced.", value=self.restarts)
        yield CounterMetricFamily("sluice_access_log_dropped", "Lines of the access log that were lost.", value=self._log_dropped)

    def _served_certificates(self) -> Iterator[tuple[tuple[str, str], float]]:
        """Yield what is served: in place of a certificate that OpenSSL does not take the one before it, if there is one."""
        stand_ins: dict[str, float] = {}
        for found in self._stand_ins.values():
            for key, not_after in found.items():
                stand_ins[key] = min(not_after, stand_ins.get(key, not_after))
        for place, not_after in self.certificates.items():
            ends = stand_ins.get(place[1], not_after)
            if ends:
                yield place, ends


def _one(seconds: float) -> HistogramDelta:
    counts = [0] * (len(LATENCY) + 1)
    counts[next((number for number, bound in enumerate(LATENCY) if seconds <= bound), len(LATENCY))] = 1
    return HistogramDelta(counts, seconds)


def _labelled(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, float]) -> Metric:
    for label, value in values.items():
        family.add_metric([label], value)
    return family


class _Exposition(Collector):
    """What prometheus_client asks."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        return self._totals.collect()

    def describe(self) -> Iterable[Metric]:
        return ()


class OpenMetrics(Collector):
    """A registry's families as OpenMetrics can carry them.

    There a counter's family is named without `_total`, so that the counter `sluice_connections_total` and the gauge
    `sluice_connections` would be one family of two types. The counter is given as an untyped family that has its whole name.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yield every family; none has another's name."""
        families = list(self._registry.collect())
        gauges = {family.name for family in families if family.type == "gauge"}
        for family in families:
            if family.type == "counter" and family.name in gauges:
                untyped = UnknownMetricFamily(family.name + "_total", family.documentation)
                untyped.samples = family.samples
                yield untyped
            else:
                yield family
