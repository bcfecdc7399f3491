# Compiled by mypyc: see setup.py.
"""What a metric is, and where a record has it. The table of all metrics is metrics.py.

A scope is what records are kept for: one route, one Service, one worker, the pod. It gives each of its metrics a slot, so that to
count is to add to an item of a list: labels are named by nobody but who writes the page.
"""

from typing import Final

Labels = tuple[str, ...]
Series = tuple[int, Labels]
"""One series of a record: the number of its metric and the values of its labels, without that of the record itself."""

Bounds = tuple[float, ...]
"""Upper bounds of buckets, inclusive; one more bucket has what is beyond."""

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"

ADDED: Final = "sum"
"""A counter or histogram: of all workers that ever were. A gauge: of those that live."""
HIGHEST: Final = "highest"
"""A gauge of which each worker has all: the highest of the workers that live."""
LAST: Final = "last"
"""A gauge of which each worker has all: that of the worker that was heard last, dead or alive."""
POD: Final = "pod"
"""Of the supervisor, which no worker adds to."""

ALWAYS: Final = "always"
"""There from the record's first delta on, with zero."""
SOCKETS: Final = "sockets"
"""There, with zero, from the first upgrade or socket of the record on."""
COUNTED: Final = "counted"
"""There from its own first count on, with the values of labels that were counted."""
LIVE: Final = "live"
"""A gauge that is there while a worker that lives has named its labels once."""


class Metric:
    """A row of the table."""

    __slots__ = ("adds", "help", "kind", "labels", "name", "number", "shown")

    def __init__(self, number: int, kind: str, name: str, text: str, labels: Labels, shown: str, adds: str) -> None:
        self.number: Final = number
        """Its place in the table."""
        self.kind: Final = kind
        self.name: Final = name
        """As Prometheus shows it; of a histogram without `_bucket`."""
        self.help: Final = text
        self.labels: Final = labels
        """All of them, that of its scope first."""
        self.shown: Final = shown
        self.adds: Final = adds


class ScalarMetric(Metric):
    """Integers in slots: one, or one for each value of a label whose values are known."""

    __slots__ = ("series", "slot")

    def __init__(
        self, number: int, kind: str, name: str, text: str, labels: Labels, shown: str, adds: str, slot: int, values: Labels
    ) -> None:
        super().__init__(number, kind, name, text, labels, shown, adds)
        self.slot: Final = slot
        """Of the first value; the others follow."""
        series: list[Series] = [(number, (value,)) for value in values] or [(number, ())]
        self.series: Final = series


class LabelledMetric(Metric):
    """Integers by the values of labels, which turn up as they are counted."""

    __slots__ = ("slot",)

    def __init__(self, number: int, kind: str, name: str, text: str, labels: Labels, shown: str, adds: str, slot: int) -> None:
        super().__init__(number, kind, name, text, labels, shown, adds)
        self.slot: Final = slot


class HistogramMetric(Metric):
    """Observations in buckets."""

    __slots__ = ("bounds", "slot")

    def __init__(self, number: int, name: str, text: str, labels: Labels, shown: str, adds: str, slot: int, bounds: Bounds) -> None:
        super().__init__(number, HISTOGRAM, name, text, labels, shown, adds)
        self.slot: Final = slot
        self.bounds: Final = bounds


class LabelledHistogramMetric(HistogramMetric):
    """Observations in buckets, by the values of labels."""

    __slots__ = ()


class Scope:
    """What records are kept for, with its metrics in the order of their slots."""

    __slots__ = (
        "_adds",
        "_table",
        "histograms",
        "label",
        "labelled",
        "labelled_histograms",
        "scalars",
        "zeros",
    )

    def __init__(self, table: list[Metric], label: str = "", adds: str = ADDED) -> None:
        self.label: Final = label
        """Label that says whose a record is; empty: there is one."""
        self.scalars: Final[list[ScalarMetric]] = []
        self.labelled: Final[list[LabelledMetric]] = []
        self.histograms: Final[list[HistogramMetric]] = []
        self.labelled_histograms: Final[list[LabelledHistogramMetric]] = []
        self.zeros: Final[list[int]] = []
        """The slots of all scalars in a record that counted nothing yet."""
        self._table = table
        self._adds = adds

    def counter(self, name: str, text: str, *, each: str = "", values: Labels = (), shown: str = ALWAYS) -> ScalarMetric:
        """Add what only grows. `each`: a label of its own, whose values are all there are."""
        return self._scalar(COUNTER, name, text, each, values, shown, self._adds)

    def gauge(
        self, name: str, text: str, *, each: str = "", values: Labels = (), shown: str = ALWAYS, adds: str = ""
    ) -> ScalarMetric:
        """Add what goes up and down."""
        return self._scalar(GAUGE, name, text, each, values, shown, adds or self._adds)

    def labelled_counter(self, name: str, labels: Labels, text: str) -> LabelledMetric:
        """Add what only grows, by labels. Who counts has to bound their values."""
        return self._labelled(COUNTER, name, text, labels, COUNTED)

    def labelled_gauge(self, name: str, labels: Labels, text: str, *, shown: str = COUNTED) -> LabelledMetric:
        """Add what goes up and down, by labels."""
        return self._labelled(GAUGE, name, text, labels, shown)

    def histogram(self, name: str, bounds: Bounds, text: str, *, shown: str = ALWAYS) -> HistogramMetric:
        """Add durations in buckets; `bounds`, inclusive, in seconds."""
        slot = len(self.histograms)
        metric = HistogramMetric(len(self._table), name, text, self._own(()), shown, self._adds, slot, bounds)
        self._table.append(metric)
        self.histograms.append(metric)
        return metric

    def labelled_histogram(self, name: str, labels: Labels, bounds: Bounds, text: str) -> LabelledHistogramMetric:
        """Add durations in buckets, by labels."""
        slot = len(self.labelled_histograms)
        metric = LabelledHistogramMetric(len(self._table), name, text, self._own(labels), COUNTED, self._adds, slot, bounds)
        self._table.append(metric)
        self.labelled_histograms.append(metric)
        return metric

    def _scalar(self, kind: str, name: str, text: str, each: str, values: Labels, shown: str, adds: str) -> ScalarMetric:
        labels = self._own((each,) if each else ())
        metric = ScalarMetric(len(self._table), kind, name, text, labels, shown, adds, len(self.zeros), values)
        self._table.append(metric)
        self.scalars.append(metric)
        self.zeros.extend([0] * len(metric.series))
        return metric

    def _labelled(self, kind: str, name: str, text: str, labels: Labels, shown: str) -> LabelledMetric:
        slot = len(self.labelled)
        metric = LabelledMetric(len(self._table), kind, name, text, self._own(labels), shown, self._adds, slot)
        self._table.append(metric)
        self.labelled.append(metric)
        return metric

    def _own(self, labels: Labels) -> Labels:
        return (self.label, *labels) if self.label else labels
