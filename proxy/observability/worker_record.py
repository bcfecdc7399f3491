# Compiled by mypyc: see setup.py.
"""What one thing counts in this worker, by the slots of the table in metrics.py. What is counted when: worker_stats.py."""

from bisect import bisect_left
from typing import Final

from proxy.observability.metric_kinds import (
    GAUGE,
    LIVE,
    Bounds,
    HistogramMetric,
    LabelledHistogramMetric,
    LabelledMetric,
    Labels,
    ScalarMetric,
    Scope,
    Series,
)
from proxy.observability.stats_delta import HistogramDelta

INFINITY: Final = float("inf")


class Histogram:
    """Observations in buckets, since the last delta. Most fall into the bucket of the one before: only others are searched for."""

    __slots__ = ("_above", "_bucket", "_upto", "bounds", "counts", "sum")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self._bucket = 0
        """The last observation's bucket, with its bounds; none fits at first."""
        self._above = INFINITY
        self._upto = -INFINITY

    def observe(self, value: float) -> None:
        """Count one observation; bounds are inclusive."""
        if not self._above < value <= self._upto:
            bucket = self._bucket = bisect_left(self.bounds, value)
            self._above = self.bounds[bucket - 1] if bucket else -INFINITY
            self._upto = self.bounds[bucket] if bucket < len(self.bounds) else INFINITY
        self.counts[self._bucket] += 1
        self.sum += value


Counts = dict[object, int]
_NO_LABELLED: Final[list[Counts | None]] = []
_NO_HISTOGRAMS: Final[list[Histogram | None]] = []
_NO_LABELLED_HISTOGRAMS: Final[list[dict[object, Histogram] | None]] = []


class Record:
    """Counts by slot. Of thousands of routes most are silent: they share what is empty until they count, and when all is sent.

    A key of labels is a tuple of strings and numbers, or the one alone; it becomes text when it is sent.
    """

    __slots__ = ("_histograms", "_labelled", "_labelled_histograms", "_scalars", "_scope", "touched")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.touched = False
        """Something was counted, or a gauge moved, since the last delta."""
        self._scalars: list[int] = scope.zeros
        self._labelled: list[Counts | None] = _NO_LABELLED
        self._histograms: list[Histogram | None] = _NO_HISTOGRAMS
        self._labelled_histograms: list[dict[object, Histogram] | None] = _NO_LABELLED_HISTOGRAMS

    def touch(self) -> None:
        """Make room for counts, at the first one, and have them sent with the next delta."""
        self.touched = True
        scope = self._scope
        if self._scalars is scope.zeros:
            self._scalars = scope.zeros.copy()
            self._labelled = [None] * len(scope.labelled)
            self._histograms = [None] * len(scope.histograms)
            self._labelled_histograms = [None] * len(scope.labelled_histograms)

    def count(self, metric: ScalarMetric, amount: int = 1, offset: int = 0) -> None:
        """Add to a counter or a gauge; `offset`: of the label's value in the table."""
        if not self.touched:
            self.touch()
        self._scalars[metric.slot + offset] += amount

    def set(self, metric: ScalarMetric, amount: int, offset: int = 0) -> None:
        """Set a gauge; `offset`: of the label's value in the table."""
        slot = metric.slot + offset
        if self._scalars[slot] != amount:
            if not self.touched:
                self.touch()
            self._scalars[slot] = amount

    def count_labelled(self, metric: LabelledMetric, key: object, amount: int = 1) -> None:
        """Add to the counter or gauge that has these labels."""
        if not self.touched:
            self.touch()
        counts = self._labelled[metric.slot]
        if counts is None:
            counts = self._labelled[metric.slot] = {}
        counts[key] = counts.get(key, 0) + amount

    def observe(self, metric: HistogramMetric, seconds: float) -> None:
        """Count an observation."""
        if not self.touched:
            self.touch()
        histogram = self._histograms[metric.slot]
        if histogram is None:
            histogram = self._histograms[metric.slot] = Histogram(metric.bounds)
        histogram.observe(seconds)

    def observe_labelled(self, metric: LabelledHistogramMetric, key: object, seconds: float) -> None:
        """Count an observation by its labels."""
        if not self.touched:
            self.touch()
        histograms = self._labelled_histograms[metric.slot]
        if histograms is None:
            histograms = self._labelled_histograms[metric.slot] = {}
        histogram = histograms.get(key)
        if histogram is None:
            histogram = histograms[key] = Histogram(metric.bounds)
        histogram.observe(seconds)

    def value(self, metric: ScalarMetric, offset: int = 0) -> int:
        """Return a gauge, or what a counter was counted since the last delta."""
        return self._scalars[metric.slot + offset]

    def labelled(self, metric: LabelledMetric) -> Counts:
        """Return the gauge, or what the counter was counted since the last delta, by labels."""
        return (self._labelled[metric.slot] if self._labelled else None) or {}

    def take_counts(self) -> tuple[dict[Series, int], dict[Series, float], dict[Series, HistogramDelta]]:
        """Return what was added, which is forgotten, and gauges; none of them is 0 but what was not the last time."""
        self.touched = False
        counts: dict[Series, int] = {}
        gauges: dict[Series, float] = {}
        if self._scalars is self._scope.zeros:
            return counts, gauges, {}
        self._take_scalars(counts, gauges)
        self._take_labelled(counts, gauges)
        histograms = self._take_histograms()
        if not gauges:
            self._scalars = self._scope.zeros
            self._labelled, self._histograms = _NO_LABELLED, _NO_HISTOGRAMS
            self._labelled_histograms = _NO_LABELLED_HISTOGRAMS
        return counts, gauges, histograms

    def _take_scalars(self, counts: dict[Series, int], gauges: dict[Series, float]) -> None:
        scalars = self._scalars
        for metric in self._scope.scalars:
            slot = metric.slot
            for series in metric.series:
                number = scalars[slot]
                if number:
                    if metric.kind == GAUGE:
                        gauges[series] = float(number)
                    else:
                        counts[series] = number
                        scalars[slot] = 0
                slot += 1

    def _take_labelled(self, counts: dict[Series, int], gauges: dict[Series, float]) -> None:
        for metric in self._scope.labelled:
            found = self._labelled[metric.slot]
            if found is None:
                continue
            if metric.kind == GAUGE:
                for key, number in found.items():
                    gauges[metric.number, _labels_of(key)] = float(number)
                if metric.shown != LIVE:
                    self._labelled[metric.slot] = {key: number for key, number in found.items() if number} or None
            else:
                for key, number in found.items():
                    counts[metric.number, _labels_of(key)] = number
                self._labelled[metric.slot] = None

    def _take_histograms(self) -> dict[Series, HistogramDelta]:
        taken: dict[Series, HistogramDelta] = {}
        for metric in self._scope.histograms:
            histogram = self._histograms[metric.slot]
            if histogram is not None:
                taken[metric.number, ()] = HistogramDelta(histogram.counts, histogram.sum)
                self._histograms[metric.slot] = None
        for labelled in self._scope.labelled_histograms:
            histograms = self._labelled_histograms[labelled.slot]
            if histograms is not None:
                for key, observed in histograms.items():
                    taken[labelled.number, _labels_of(key)] = HistogramDelta(observed.counts, observed.sum)
                self._labelled_histograms[labelled.slot] = None
        return taken


def _labels_of(key: object) -> Labels:
    return tuple([str(value) for value in key]) if isinstance(key, tuple) else (str(key),)
