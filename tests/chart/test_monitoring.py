"""What Prometheus and Grafana read. The Prometheus operator's kinds are in no API server here: their documents stand in full."""

import json
from typing import Any

import pytest
import yaml
from chart.rendering import BUILD_SECONDS, CHART, objects, one

pytestmark = pytest.mark.timeout(BUILD_SECONDS)
SELECTOR = {"app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": "sluice"}
LABELS = {
    **SELECTOR,
    "app.kubernetes.io/version": "0.1.0",
    "app.kubernetes.io/part-of": "sluice",
    "app.kubernetes.io/managed-by": "Helm",
    "helm.sh/chart": "sluice-0.1.0",
}


def with_metrics(**more: Any) -> list[dict[str, Any]]:
    return objects({"metrics": {name: {"enabled": True, **more} for name in ("serviceMonitor", "prometheusRule", "dashboard")}})


def test_service_monitor_scrapes_the_service_for_metrics_and_keeps_our_labels() -> None:
    assert one(with_metrics(labels={"prometheus": "main"}), "ServiceMonitor", "sluice-metrics") == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "sluice-metrics", "namespace": "sluice-system", "labels": {**LABELS, "prometheus": "main"}},
        "spec": {
            "selector": {"matchLabels": {**SELECTOR, "app.kubernetes.io/component": "metrics"}},
            "namespaceSelector": {"matchNames": ["sluice-system"]},
            "endpoints": [{"port": "metrics", "path": "/metrics", "interval": "30s", "honorLabels": True}],
        },
    }


def test_service_monitor_elsewhere_still_scrapes_the_release_by_its_own_rules() -> None:
    drop = {"action": "labeldrop", "regex": "pod"}
    keep = {"action": "keep", "sourceLabels": ["__name__"], "regex": "sluice_ws_.*"}
    values = {
        "enabled": True,
        "namespace": "monitoring",
        "interval": "1m",
        "scrapeTimeout": "15s",
        "relabelings": [drop],
        "metricRelabelings": [keep],
    }
    monitor = one(objects({"metrics": {"serviceMonitor": values}}), "ServiceMonitor", "sluice-metrics")

    assert monitor["metadata"]["namespace"] == "monitoring"
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["sluice-system"]}
    assert monitor["spec"]["endpoints"] == [
        {
            "port": "metrics",
            "path": "/metrics",
            "interval": "1m",
            "scrapeTimeout": "15s",
            "honorLabels": True,
            "relabelings": [drop],
            "metricRelabelings": [keep],
        }
    ]


def test_service_monitor_selects_one_service_with_its_port() -> None:
    found = with_metrics()
    monitor = one(found, "ServiceMonitor", "sluice-metrics")["spec"]
    wanted = set(monitor["selector"]["matchLabels"].items())
    selected = [raw for raw in found if raw["kind"] == "Service" and wanted <= set(raw["metadata"]["labels"].items())]

    assert [raw["metadata"]["name"] for raw in selected] == ["sluice-metrics"]
    assert monitor["endpoints"][0]["port"] in [port["name"] for port in selected[0]["spec"]["ports"]]


def test_prometheus_rule_has_the_groups_of_the_file_unchanged() -> None:
    assert one(with_metrics(labels={"prometheus": "main"}), "PrometheusRule") == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "sluice", "namespace": "sluice-system", "labels": {**LABELS, "prometheus": "main"}},
        "spec": yaml.safe_load((CHART / "files" / "rules.yaml").read_text()),
    }


def test_dashboard_is_the_file_unchanged_and_labelled_for_the_sidecar() -> None:
    dashboard = one(with_metrics(), "ConfigMap", "sluice-dashboard")

    assert json.loads(dashboard["data"]["sluice.json"]) == json.loads((CHART / "files" / "dashboard.json").read_text())
    assert dashboard["metadata"]["labels"] == {**LABELS, "grafana_dashboard": "1"}


def test_metrics_have_a_service_of_their_own_and_are_in_no_other() -> None:
    ports = {
        raw["metadata"]["name"]: (raw["spec"].get("clusterIP"), [port["targetPort"] for port in raw["spec"]["ports"]])
        for raw in objects()
        if raw["kind"] == "Service"
    }

    assert ports == {"sluice": (None, ["http", "https"]), "sluice-metrics": ("None", ["admin"])}
