"""What users read agrees with what the programs do."""

import re
from pathlib import Path

import annotations_table
import bench_table
import causes_table
import chart_values_table
import cluster_node
import pytest
import rights_table
import sizing_table
import yaml
from docs_wsroute import with_tables
from metrics_page import page
from settings_table import with_table

from controller.cli import controller_command, drain_command, sockets_command, standalone
from controller.resources import WsRoute, parse_object
from controller.resources.reading.problems import Reason
from controller.status.conditions import NO_READY_ENDPOINTS, NOT_ACCEPTED, PENDING, SERVED, rejected, unready_sentence
from controller.translate.verdicts import ACCEPTED, RESOLVED
from proxy.__main__ import main as proxy_main

ROOT = Path(__file__).parents[2]


def test_table_of_settings_in_the_readme_is_that_of_the_programs() -> None:
    text = (ROOT / "README.md").read_text()

    assert text == with_table(text)
    assert "| `--drain-time` | `SLUICE_DRAIN_TIME` |" in text


def test_first_route_of_the_readme_is_accepted_and_has_at_most_fifteen_lines() -> None:
    text = (ROOT / "README.md").read_text()
    example = text.split("```yaml\n", 1)[1].split("```", 1)[0]

    assert isinstance(parse_object(yaml.safe_load(example)), WsRoute)
    assert example.count("\n") <= 15


def test_node_of_make_cluster_names_the_install_of_the_readme() -> None:
    assert f"helm {cluster_node.INSTALL}\n" in (ROOT / "README.md").read_text()


def test_page_of_metrics_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == page()


def test_reference_of_wsroute_is_that_of_the_crd() -> None:
    text = (ROOT / "docs" / "wsroute.md").read_text()

    assert text == with_tables(text)
    assert "| `spec.rules[].timeouts.idle` | string |" in text


def test_table_of_annotations_is_what_objects_are_told() -> None:
    text = (ROOT / "docs" / "ingress.md").read_text()

    assert text == annotations_table.with_table(text)
    assert "`configuration-snippet`" in text


def test_table_of_sizes_is_what_was_measured() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()

    assert text == sizing_table.with_table(text)


def test_table_of_the_benchmarks_is_what_was_measured() -> None:
    text = (ROOT / "README.md").read_text()

    assert text == bench_table.with_table(text)
    assert "| WSS echo 64 B, µs | " in text
    assert "| memory per idle WSS, KB |" in text


def test_tables_of_causes_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()

    assert text == causes_table.with_tables(text)
    assert "| `connect_refused` | " in text


def test_table_of_the_values_of_ingress_nginx_is_that_of_the_chart() -> None:
    page = chart_values_table.PAGE.read_text()

    assert page == chart_values_table.with_table(page)


def test_table_of_rights_is_what_the_manifest_grants() -> None:
    text = (ROOT / "docs" / "security.md").read_text()

    assert text == rights_table.with_table(text)
    assert "`secrets`" in text


def examples() -> list[tuple[str, str]]:
    """Reason and example message of every row of the page's tables."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    return re.findall(r"^\| `([A-Z]\w+)` \|(?: \w+ \|)? `([^`|]+)` \|", text, re.MULTILINE)


def said() -> set[tuple[str, str]]:
    """Reason and message of everything that objects are told: by the golden pairs, and by the conditions that never differ."""
    found = {
        (reason, message)
        for case in (ROOT / "tests" / "translate" / "cases").glob("*.out.yaml")
        for problem in list(yaml.load_all(case.read_text(), yaml.CSafeLoader))[1]["problems"]
        for _, reason, message in [problem.split(": ", 2)]
    }
    broken = rejected({"wsroute/shop/chat/live": "spec path '(': missing ): ("})
    unready = unready_sentence(("spec.rules[0].websocket.backends[0]", "shop/chat:8080"))
    always = {(one.reason, one.message) for one in (ACCEPTED, RESOLVED, SERVED, PENDING, NOT_ACCEPTED, broken)}
    return found | always | {(NO_READY_ENDPOINTS, unready)}


def test_every_reason_has_its_cure() -> None:
    reasons = {str(reason) for reason in Reason} | {
        "Accepted",
        "ResolvedRefs",
        "Programmed",
        "Pending",
        "Rejected",
        NO_READY_ENDPOINTS,
    }

    assert {reason for reason, _ in examples()} == reasons


@pytest.mark.slow
def test_examples_of_reasons_are_what_objects_are_told() -> None:
    of_objects = [(reason, message) for reason, message in examples() if not reason.startswith("Kind")]

    assert [one for one in of_objects if one not in said()] == []


def test_values_of_the_chart_that_the_pages_name_exist() -> None:
    values = yaml.safe_load((ROOT / "charts" / "sluice" / "values.yaml").read_text())
    # The table of ingress-nginx's values has its names too.
    pages = [chart_values_table.without_table(page.read_text()) for page in (ROOT / "docs").glob("*.md")]
    named = {
        name
        for page in pages
        for name in re.findall(
            r"`((?:autoscaling|controller|hostPorts|ingressClass|metrics|networkPolicy|proxy|service)\.[A-Za-z.]+)", page
        )
    }

    assert "proxy.drainTime" in named
    assert [name for name in sorted(named) if not _has(values, name.split("."))] == []


def _has(values: object, path: list[str]) -> bool:
    return not path or (isinstance(values, dict) and path[0] in values and _has(values[path[0]], path[1:]))


def test_flags_that_the_pages_name_exist() -> None:
    commands = (standalone, controller_command, sockets_command, drain_command, proxy_main)
    known = {flag for command in commands for one in command.params for flag in one.opts}
    pages = [page for page in (ROOT / "docs").glob("*.md") if page.name != "migration.md"]  # its left column is another program's
    named = {flag for page in pages for flag in re.findall(r"`(--[a-z-]+)", page.read_text())}

    assert "--host-ownership" in named
    assert named - known == set()


def test_yaml_of_the_pages_is_accepted_by_the_programs() -> None:
    blocks = [
        (path.name, document)
        for path in sorted((ROOT / "docs").glob("*.md"))
        for block in path.read_text().split("```yaml\n")[1:]
        for document in yaml.safe_load_all(block.split("```", 1)[0])
    ]
    records = [(name, parse_object(document)) for name, document in blocks if "kind" in document]

    assert any(isinstance(record, WsRoute) for _, record in records)
    assert [(name, record.problems) for name, record in records if getattr(record, "problems", ())] == []


PROMISED = """
sluice_http_requests_total sluice_http_request_duration_seconds sluice_http_time_to_first_byte_seconds
sluice_http_request_bytes_total sluice_http_response_bytes_total sluice_http_requests_in_flight
sluice_ws_connections sluice_ws_handshakes_total sluice_ws_handshake_duration_seconds
sluice_ws_connection_duration_seconds sluice_ws_messages_total sluice_ws_bytes_total sluice_ws_closes_total
sluice_connections sluice_connections_total sluice_tls_handshakes_total sluice_tls_handshake_duration_seconds
sluice_tls_certificate_expiry_timestamp_seconds sluice_upstream_connect_duration_seconds
sluice_upstream_connect_failures_total sluice_upstream_errors_total sluice_upstream_connections sluice_endpoints
sluice_config_generation_applied_timestamp_seconds sluice_config_propagation_seconds
sluice_config_rejected_routes sluice_problems sluice_worker_loop_lag_seconds sluice_workers
sluice_worker_restarts_total
"""


def test_every_metric_that_was_promised_is_exposed() -> None:
    text = page()

    assert [name for name in PROMISED.split() if f"| `{name}` |" not in text] == []
