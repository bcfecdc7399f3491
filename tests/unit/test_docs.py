"""What users read agrees with what the programs do."""

from pathlib import Path

import yaml
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
