"""The table of metrics: a row alone is enough for a series of the page, and what names a metric names one of the table."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client import parser
from prometheus_client.exposition import generate_latest

from proxy.observability.metric_kinds import (
    HistogramMetric,
    LabelledHistogramMetric,
    LabelledMetric,
    Metric,
    ScalarMetric,
    Scope,
    Series,
)
from proxy.observability.metrics import METRICS, ROUTE, SERVICE, SUPERVISOR, WORKER
from proxy.observability.pod_totals import Totals
from proxy.observability.stats_delta import HistogramDelta, RecordDelta, ServiceDelta, StatsDelta
from proxy.observability.worker_record import Record

ROOT = Path(__file__).parents[3]
NAMING = (
    "charts/sluice/files/dashboard.json",
    "charts/sluice/files/rules.yaml",
    "tests/monitoring/rules.test.yaml",
    "tools/soak.py",
    "benchmarks",
    "docs",
    "README.md",
)
"""Who names metrics: files, and folders with all their texts."""


def counted(scope: Scope) -> tuple[dict[Series, int], dict[Series, float], dict[Series, HistogramDelta]]:
    """One of everything that records of a scope count, by nothing but the table; as `RecordDelta` takes it."""
    record = Record(scope)
    for scalar in scope.scalars:
        for place in range(len(scalar.series)):
            record.count(scalar, 2, place)
    for labelled in scope.labelled:
        record.count_labelled(labelled, tuple("1000" for _ in labelled.labels[bool(scope.label) :]), 2)
    for histogram in scope.histograms:
        record.observe(histogram, 0.2)
    for by_label in scope.labelled_histograms:
        record.observe_labelled(by_label, "a", 0.2)
    return record.take_counts()


def page(*workers: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample when these workers counted one of everything."""
    totals = Totals()
    for worker in workers:
        delta = StatsDelta(*counted(WORKER), {"r": RecordDelta(*counted(ROUTE))}, {"s": ServiceDelta(*counted(SERVICE))})
        totals.add(worker, msgspec.msgpack.decode(msgspec.msgpack.encode(delta), type=StatsDelta))
    for scalar in SUPERVISOR.scalars:
        totals.set(scalar, 2) if scalar.kind == "gauge" else totals.count(scalar)
    for histogram in SUPERVISOR.histograms:
        totals.observe(histogram, 0.2)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(generate_latest(totals.registry).decode())
        for sample in family.samples
    }


def of(found: dict[tuple[str, frozenset[tuple[str, str]]], float], metric: Metric) -> list[float]:
    """The values of a metric's series; of a histogram how often each observed."""
    name = metric.name + ("_count" if isinstance(metric, HistogramMetric) else "")
    return [value for (sample, _), value in found.items() if sample == name]


OF_WORKERS = [metric for metric in METRICS if metric.adds != "pod"]


@pytest.mark.parametrize("metric", OF_WORKERS, ids=[metric.name for metric in OF_WORKERS])
def test_row_of_the_table_is_all_that_a_series_needs(metric: Metric) -> None:
    """Slot, delta, total and page come of it: nothing beside the table and the place where it happens knows a metric."""
    one, two = of(page(1), metric), of(page(1, 2), metric)
    each = 1 if isinstance(metric, HistogramMetric) else 2
    number = len(metric.series) if isinstance(metric, ScalarMetric) else 1

    assert one == [each] * number
    assert two == [each * 2 if metric.adds == "sum" else each] * number


def test_metrics_of_the_supervisor_are_on_the_page_too() -> None:
    found = page()
    seen = {
        metric.name for metric in METRICS if metric.adds == "pod" and not isinstance(metric, LabelledMetric) and of(found, metric)
    }

    assert seen == {metric.name for metric in (*SUPERVISOR.scalars, *SUPERVISOR.histograms)}


def test_slots_of_a_scope_are_each_ones_own() -> None:
    for scope in (ROUTE, SERVICE, WORKER, SUPERVISOR):
        slots = [metric.slot + place for metric in scope.scalars for place in range(len(metric.series))]

        assert slots == list(range(len(scope.zeros)))
        for metrics in (scope.labelled, scope.histograms, scope.labelled_histograms):
            assert [metric.slot for metric in metrics] == list(range(len(metrics)))


def test_rows_are_named_as_prometheus_asks() -> None:
    wrong = [
        metric.name
        for number, metric in enumerate(METRICS)
        if metric.number != number
        or not re.fullmatch(r"sluice(_[a-z]+)+", metric.name)
        or metric.name.endswith("_total") != (metric.kind == "counter")
        or (metric.kind == "histogram" and not metric.name.endswith("_seconds"))
        or not metric.help.endswith(".")
        or (isinstance(metric, LabelledHistogramMetric) and len(metric.labels) != 2)
    ]

    assert wrong == []
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def texts() -> Iterator[tuple[str, str]]:
    for name in NAMING:
        place = ROOT / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.suffix in (".md", ".py", ".json", ".yaml"):
                yield str(path.relative_to(ROOT)), path.read_text()


def test_dashboard_alerts_and_pages_name_metrics_of_the_table_only() -> None:
    known = {metric.name for metric in METRICS}
    known |= {metric.name + end for metric in METRICS if metric.kind == "histogram" for end in ("_bucket", "_sum", "_count")}
    unknown = {(path, name) for path, text in texts() for name in re.findall(r"\bsluice_[a-z_]+\b", text) if name not in known}

    assert unknown == set()


def test_queries_select_by_labels_that_their_metric_has() -> None:
    labels = {metric.name: {*metric.labels, "namespace", "pod", "instance", "job"} for metric in METRICS}
    selectors = {
        (path, name, label)
        for path, text in texts()
        if path.startswith("charts/")
        for name, chosen in re.findall(r"\b(sluice_\w+)\{([^}]*)\}", text)
        for label in re.findall(r"(\w+)\s*[!=]~?\s*\\?\"", chosen)
    }

    assert selectors
    assert [one for one in selectors if one[2] not in labels[one[1].removesuffix("_bucket")]] == []
