"""What all workers counted of one thing, by series. How each metric adds up is in the table, metrics.py."""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate
from operator import add
from typing import Final

from proxy.observability.metric_kinds import (
    ALWAYS,
    COUNTED,
    COUNTER,
    GAUGE,
    HIGHEST,
    LAST,
    POD,
    SOCKETS,
    Bounds,
    HistogramMetric,
    LabelledMetric,
    Labels,
    Metric,
    ScalarMetric,
    Scope,
    Series,
)
from proxy.observability.metrics import METRICS, WS_CLOSES, WS_CONNECTIONS, WS_HANDSHAKES
from proxy.observability.stats_delta import HistogramDelta, RecordDelta
from proxy.observability.worker_stats import code_label

_FIRST_OF_SOCKETS: Final = frozenset({WS_CONNECTIONS.number, WS_HANDSHAKES.number})
"""Counted before anything else of sockets: from then on a route has all series of sockets."""
_CLOSES: Final = WS_CLOSES.number
_KEEP_ZERO: Final = frozenset(
    metric.number
    for metric in METRICS
    if isinstance(metric, LabelledMetric) and metric.kind == GAUGE and metric.shown == COUNTED and metric.adds != POD
)
"""Gauges by labels of which each is shown with zero once it was not."""
_BOUNDS: Final = {metric.number: metric.bounds for metric in METRICS if isinstance(metric, HistogramMetric)}


class HistogramTotal:
    """A histogram that adds up deltas."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, delta: HistogramDelta) -> None:
        """Add what a worker observed."""
        self.counts = list(map(add, self.counts, delta.counts))
        self.sum += delta.sum

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return the upper bound of each bucket, with the number of observations up to it."""
        return list(zip((*map(str, self.bounds), "+Inf"), map(float, accumulate(self.counts)), strict=True))


class RecordTotal:
    """Counters and histograms of all workers that ever were, gauges of those that live."""

    __slots__ = ("_codes", "_gauges", "_last", "_named", "_scope", "_sockets", "_zeros", "counts", "histograms")

    def __init__(self, scope: Scope) -> None:
        self.counts: dict[Series, float] = {}
        self.histograms: dict[Series, HistogramTotal] = {}
        self._scope = scope
        self._gauges: dict[int, dict[Series, float]] = {}
        """By worker, as it was heard last; the supervisor is worker 0."""
        self._last: dict[Series, float] = {}
        self._named: set[Series] = set()
        """Gauges by labels that some worker had once: shown with zero when none has."""
        self._zeros: list[Series] = []
        """Other gauges that are shown with zero."""
        self._codes: set[int] = set()
        self._sockets = False
        self._show(ALWAYS)

    def add(self, worker: int, delta: RecordDelta) -> None:
        """Add what a worker counted."""
        if not self._sockets and not _FIRST_OF_SOCKETS.isdisjoint([number for number, _ in (*delta.counts, *delta.gauges)]):
            self._sockets = True
            self._show(SOCKETS)
        counts = self.counts
        for series, count in delta.counts.items():
            if series[0] == _CLOSES:
                self.count(self._bounded(series), count)
            else:
                counts[series] = counts.get(series, 0) + count
        for series, observed in delta.histograms.items():
            self.histogram(series).add(observed)
        self._gauges[worker] = delta.gauges
        for series in delta.gauges:
            if series[0] in _KEEP_ZERO:
                self._named.add(series)
        for metric in self._scope.scalars:
            if metric.adds == LAST:
                self._last.update({series: delta.gauges.get(series, 0.0) for series in metric.series})

    def count(self, series: Series, count: float = 1) -> None:
        """Add to a counter."""
        self.counts[series] = self.counts.get(series, 0) + count

    def histogram(self, series: Series) -> HistogramTotal:
        """Return the histogram of a series, made at its first use."""
        histogram = self.histograms.get(series)
        if histogram is None:
            histogram = self.histograms[series] = HistogramTotal(_BOUNDS[series[0]])
        return histogram

    def set(self, metric: ScalarMetric | LabelledMetric, values: Mapping[Labels, float]) -> None:
        """Set all series of a gauge of the supervisor's own."""
        own = {series: value for series, value in self._gauges.get(0, {}).items() if series[0] != metric.number}
        self._gauges[0] = own | {(metric.number, labels): value for labels, value in values.items()}

    def of_worker(self, worker: int, metric: Metric) -> float:
        """Return the sum of a gauge over its labels, as a worker was heard last."""
        return sum(value for (number, _), value in self._gauges.get(worker, {}).items() if number == metric.number)

    def worker_gone(self, worker: int) -> None:
        """Drop the gauges of a worker that ended."""
        self._gauges.pop(worker, None)

    def forget(self, services: Collection[str]) -> None:
        """Remove the series of Services that are gone; a gauge of one that is not 0 stays until it is."""
        self.counts = {series: count for series, count in self.counts.items() if _service(series) not in services}
        self.histograms = {series: found for series, found in self.histograms.items() if _service(series) not in services}
        self._named = {series for series in self._named if _service(series) not in services}

    def gauges(self) -> dict[Series, float]:
        """Return every gauge over the workers that live."""
        found = dict.fromkeys((*self._zeros, *sorted(self._named)), 0.0)
        for gauges in self._gauges.values():
            for series, value in gauges.items():
                metric = METRICS[series[0]]
                if metric.adds == HIGHEST:
                    found[series] = max(found.get(series, 0.0), value)
                elif metric.adds != LAST and (value or metric.shown != COUNTED):
                    found[series] = found.get(series, 0.0) + value
        return found | {series: value for series, value in self._last.items() if value}

    def numbers(self) -> Iterator[tuple[Series, float]]:
        """Yield every counter and gauge."""
        yield from self.counts.items()
        yield from self.gauges().items()

    def _show(self, shown: str) -> None:
        """Begin what is there with zero."""
        for metric in self._scope.scalars:
            if metric.shown == shown:
                if metric.kind == COUNTER:
                    self.counts.update(dict.fromkeys(metric.series, 0))
                else:
                    self._zeros.extend(metric.series)
        for histogram in self._scope.histograms:
            if histogram.shown == shown:
                self.histogram((histogram.number, ()))

    def _bounded(self, series: Series) -> Series:
        """Return the series of a close; each worker bounds its codes by itself, all of them together are bounded here."""
        number, (code, by) = series
        return number, (code if code == "other" else code_label(int(code), self._codes), by)


def _service(series: Series) -> str | None:
    """Return the Service that a series of a route names beside its route."""
    names = METRICS[series[0]].labels[1:]
    return series[1][names.index("service")] if "service" in names else None
