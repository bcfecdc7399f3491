"""The totals as families of prometheus_client, which writes them out."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, UnknownMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from proxy.observability.metric_kinds import COUNTER, HISTOGRAM, Labels
from proxy.observability.metrics import METRICS
from proxy.observability.record_total import RecordTotal


def families(records: Iterable[tuple[Labels, RecordTotal]]) -> Iterator[Family]:
    """Yield the family of every metric of the table. Each record comes with the value of the label that says whose it is."""
    numbers: dict[int, CounterMetricFamily | GaugeMetricFamily] = {}
    histograms: dict[int, HistogramMetricFamily] = {}
    for metric in METRICS:
        if metric.kind == HISTOGRAM:
            histograms[metric.number] = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        else:
            family = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
            numbers[metric.number] = family(metric.name, metric.help, labels=metric.labels)
    for owner, record in records:
        for (number, labels), value in record.numbers():
            numbers[number].add_metric((*owner, *labels), value)
        for (number, labels), histogram in record.histograms.items():
            histograms[number].add_metric((*owner, *labels), histogram.buckets(), histogram.sum)
    for metric in METRICS:
        yield histograms[metric.number] if metric.kind == HISTOGRAM else numbers[metric.number]


class OpenMetrics(Collector):
    """A registry's families as OpenMetrics can carry them.

    There a counter's family is named without `_total`, so that the counter `sluice_connections_total` and the gauge
    `sluice_connections` would be one family of two types. The counter is given as an untyped family that has its whole name.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Family]:
        """Yield every family; none has another's name."""
        found = list(self._registry.collect())
        gauges = {family.name for family in found if family.type == "gauge"}
        for family in found:
            if family.type == "counter" and family.name in gauges:
                untyped = UnknownMetricFamily(family.name + "_total", family.documentation)
                untyped.samples = family.samples
                yield untyped
            else:
                yield family
