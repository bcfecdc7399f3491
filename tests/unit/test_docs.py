"""What users read agrees with what the programs do."""

from pathlib import Path

import annotations_table
import yaml
from docs_wsroute import with_tables
from metrics_page import page
from settings_table import with_table

from controller.resources import WsRoute, parse_object

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
sluice_upstream_connect_failures_total sluice_upstream_connections sluice_endpoints
sluice_config_generation_applied_timestamp_seconds sluice_config_propagation_seconds
sluice_config_rejected_routes sluice_problems sluice_worker_loop_lag_seconds sluice_workers
sluice_worker_restarts_total
"""


def test_every_metric_that_the_specification_promises_is_exposed() -> None:
    text = page()

    assert [name for name in PROMISED.split() if f"| `{name}` |" not in text] == []
