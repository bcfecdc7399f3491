"""The supervisor's totals of what the workers counted, and of what it knows itself (docs/metrics.md).

A worker that dies takes its gauges with it and nothing else. Series of a route or a Service go away with it. How each metric adds
up is said in metrics.py and done in record_total.py.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from proxy.observability.families import families
from proxy.observability.metric_kinds import HistogramMetric, LabelledMetric, Labels, ScalarMetric
from proxy.observability.metrics import CERTIFICATE_EXPIRY, ROUTE, SERVICE, SUPERVISOR, WORKER, WS_CLOSES, WS_CONNECTIONS
from proxy.observability.record_total import RecordTotal
from proxy.observability.stats_delta import StatsDelta

WORKER_LOST = (WS_CLOSES.number, ("1006", "proxy:worker_lost"))
"""Closes of sockets whose worker ended without a word: no close frame was sent (RFC 6455, 7.4.1)."""


class Totals(Collector):
    """Everything that was counted since the supervisor started."""

    def __init__(self) -> None:
        self._routes: dict[str, RecordTotal] = {}
        self._services: dict[str, RecordTotal] = {}
        self._workers = RecordTotal(WORKER)
        self._own = RecordTotal(SUPERVISOR)
        self._ejected: dict[str, dict[int, Sequence[tuple[str, int]]]] = {}
        """By Service and worker."""
        self._stand_ins: dict[int, Mapping[str, float]] = {}
        self.certificates: Mapping[tuple[str, str], float] = {}
        """Host and Secret to the certificate's expiry in Unix time, as it is configured; the host of the default one is `*`."""
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def add(self, worker: int, delta: StatsDelta) -> None:
        """Add what a worker counted. Late counts of routes that are gone are dropped by `keep`."""
        for route_id, route in delta.routes.items():
            if route_id not in self._routes:
                self._routes[route_id] = RecordTotal(ROUTE)
            self._routes[route_id].add(worker, route)
        for key, service in delta.services.items():
            if key not in self._services:
                self._services[key] = RecordTotal(SERVICE)
            self._services[key].add(worker, service)
            self._ejected.setdefault(key, {})[worker] = service.ejected
        self._workers.add(worker, delta)
        self._stand_ins[worker] = delta.stand_ins

    def worker_lost(self, worker: int) -> int:
        """Count the sockets that a worker had when it was heard last as closed by its end; return how many."""
        total = 0
        for route in self._routes.values():
            if lost := int(route.of_worker(worker, WS_CONNECTIONS)):
                route.count(WORKER_LOST, lost)
                total += lost
        return total

    def worker_gone(self, worker: int) -> None:
        """Drop the gauges of a worker that ended."""
        for record in (self._workers, *self._routes.values(), *self._services.values()):
            record.worker_gone(worker)
        self._stand_ins.pop(worker, None)
        for ejected in self._ejected.values():
            ejected.pop(worker, None)

    def keep(self, entries: Container[str]) -> None:
        """Remove the series of every route and Service but those whose wire keys are in `entries`."""
        for key in [key for key in self._routes if key != "-" and f"r/{key}" not in entries]:
            del self._routes[key]
        gone = {key for key in self._services if f"u/{key}" not in entries}
        for key in gone:
            del self._services[key], self._ejected[key]
        if gone:
            for route in self._routes.values():
                route.forget(gone)

    def set(self, metric: ScalarMetric, value: float) -> None:
        """Set a gauge of the supervisor's own."""
        self._own.set(metric, {(): value})

    def set_labelled(self, metric: LabelledMetric, values: Mapping[Labels, float]) -> None:
        """Set a gauge of the supervisor's own by its labels; others that it had are gone."""
        self._own.set(metric, values)

    def count(self, metric: ScalarMetric) -> None:
        """Add one to a counter of the supervisor's own."""
        self._own.count(metric.series[0])

    def observe(self, metric: HistogramMetric, seconds: float) -> None:
        """Count an observation of the supervisor's own."""
        self._own.histogram((metric.number, ())).observe(seconds)

    def open_sockets(self) -> Mapping[str, int]:
        """Return how many sockets each route has."""
        return {
            key: int(sum(value for (number, _), value in route.gauges().items() if number == WS_CONNECTIONS.number))
            for key, route in self._routes.items()
        }

    def ejections(self, service: str) -> Mapping[tuple[str, int], int]:
        """Return which endpoints of a Service are left out for failing, by address and port, and by how many workers."""
        return Counter(endpoint for endpoints in self._ejected.get(service, {}).values() for endpoint in endpoints)

    @property
    def owners(self) -> int:
        """How many routes and Services have series."""
        return len(self._routes) + len(self._services)

    def collect(self) -> Iterator[Family]:
        """Yield every family; prometheus_client asks."""
        self.set_labelled(CERTIFICATE_EXPIRY, dict(self._served_certificates()))
        routes = [((key,), record) for key, record in self._routes.items()]
        services = [((key,), record) for key, record in self._services.items()]
        return families([*routes, *services, ((), self._workers), ((), self._own)])

    def describe(self) -> Iterable[Family]:
        """Name nothing before it is asked for; prometheus_client asks."""
        return ()

    def _served_certificates(self) -> Iterator[tuple[Labels, float]]:
        """Yield what is served: in place of a certificate that OpenSSL does not take the one before it, if there is one."""
        stand_ins: dict[str, float] = {}
        for found in self._stand_ins.values():
            for key, not_after in found.items():
                stand_ins[key] = min(not_after, stand_ins.get(key, not_after))
        for place, not_after in self.certificates.items():
            ends = stand_ins.get(place[1], not_after)
            if ends:
                yield place, ends
