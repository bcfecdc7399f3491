"""What the supervisor adds up, and how Prometheus reads it."""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from prometheus_client import parser
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import UNDERSCORES
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from proxy.observability.families import OpenMetrics
from proxy.observability.metrics import (
    ACCESS_LOG_DROPPED,
    CONFIG_APPLIED,
    CONFIG_PROPAGATION,
    CONFIG_REJECTED,
    PROBLEMS,
    WORKER_RESTARTS,
    WORKER_TASKS,
    WORKERS,
)
from proxy.observability.pod_totals import Totals
from proxy.observability.worker_stats import WorkerStats
from proxy.shared_memory.counters import Counters, EndpointCounter

ROUTE = "wsroute/shop/chat/0"
SERVICE = "shop/chat:80"
PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"

Samples = dict[str, float]


def with_sockets(count: int) -> EndpointCounter:
    """An endpoint with open sockets."""
    counter = EndpointCounter(Counters(1), b"", -1)
    for _ in range(count):
        counter.acquire(0)
    return counter


def busy_worker(route_id: str = ROUTE, service_key: str = SERVICE) -> WorkerStats:
    """A worker that saw one of everything."""
    stats = WorkerStats()
    route = stats.route(route_id)
    route.begin_request()
    route.first_byte(service_key, 0.02)
    route.request_done(service_key, "GET", 200, 0.3, 10, 2000)
    route.ws_handshake(101, 0.01)
    for _ in range(2):
        route.ws_opened(service_key)
    route.ws_closed(service_key, 1000, "client", 70.0)
    route.ws_unanswered()
    route.ws_ping(0.03)
    route.ws_traffic(3, 30, 4, 40)
    route.local_reply("rate_exceeded")
    stats.service(service_key).set_endpoints(2, 1, ())
    service = stats.service(service_key)
    service.endpoint_counters = [with_sockets(3), with_sockets(1)]
    service.connected(0.004)
    service.connections = 5
    service.connect_failed()
    service.failed("malformed_head")
    stats.connection_opened("https")
    stats.tls_handshake("ok", 0.002)
    stats.loop_lag(0.001)
    stats.count(ACCESS_LOG_DROPPED, 7)
    stats.set(WORKER_TASKS, 3)
    return stats


def full() -> Totals:
    """Totals in which every family has a sample."""
    totals = Totals()
    totals.add(1, busy_worker().take_delta())
    totals.certificates = {("chat.example.com", "shop/tls"): 2e9}
    totals.set_labelled(PROBLEMS, {("BackendNotFound",): 2})
    for metric, value in ((CONFIG_APPLIED, 1.7e9), (WORKERS, 2), (CONFIG_REJECTED, 3)):
        totals.set(metric, value)
    totals.count(WORKER_RESTARTS)
    totals.observe(CONFIG_PROPAGATION, 0.2)
    return totals


def samples(totals: Totals) -> Samples:
    """Every sample of the text that Prometheus gets, by its name and its labels in alphabetical order."""
    found: Samples = {}
    for family in parser.text_string_to_metric_families(generate_latest(totals.registry).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}"
            assert key not in found
            found[key] = sample.value
    return found


def some(found: Samples, *names: str) -> Samples:
    """Those whose name is one of these."""
    return {key: value for key, value in found.items() if key.partition("{")[0] in names}


def test_text_names_types_and_labels_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*) \|", PAGE.read_text(), re.MULTILINE)
    seen = set()
    for family in parser.text_string_to_metric_families(generate_latest(full().registry).decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert family.documentation
        for sample in family.samples:
            labels = [label for label in sample.labels if label != "le"]
            seen.add((name, family.type, frozenset(labels)))

    assert seen == {(name, kind, frozenset(labels.replace(",", "").split())) for name, kind, labels in rows}


def test_openmetrics_is_valid_and_has_the_same_samples() -> None:
    totals = full()
    text = generate_openmetrics(OpenMetrics(totals.registry), escaping=UNDERSCORES, version="1.0.0").decode()
    families = list(parse_openmetrics(text))
    found = {
        f"{sample.name}{{{','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}}}": sample.value
        for family in families
        for sample in family.samples
    }

    assert found == samples(totals)
    assert {(family.name, family.type) for family in families if family.name.startswith("sluice_connections")} == {
        ("sluice_connections", "gauge"),
        ("sluice_connections_total", "unknown"),
    }


def test_text_values_are_what_the_workers_counted() -> None:
    totals = full()
    totals.add(2, busy_worker().take_delta())
    found = samples(totals)
    expected: Mapping[str, float] = {
        f"sluice_http_requests_total{{code=200,method=GET,route={ROUTE},service={SERVICE}}}": 2,
        f"sluice_http_local_replies_total{{cause=rate_exceeded,route={ROUTE}}}": 2,
        f"sluice_http_request_duration_seconds_count{{route={ROUTE}}}": 2,
        f"sluice_http_request_duration_seconds_bucket{{le=0.25,route={ROUTE}}}": 0,
        f"sluice_http_request_duration_seconds_bucket{{le=0.5,route={ROUTE}}}": 2,
        f"sluice_http_request_duration_seconds_bucket{{le=+Inf,route={ROUTE}}}": 2,
        f"sluice_http_time_to_first_byte_seconds_count{{route={ROUTE},service={SERVICE}}}": 2,
        f"sluice_http_request_bytes_total{{route={ROUTE}}}": 20,
        f"sluice_http_response_bytes_total{{route={ROUTE}}}": 4000,
        f"sluice_http_requests_in_flight{{route={ROUTE}}}": 2,
        f"sluice_ws_connections{{route={ROUTE},service={SERVICE}}}": 2,
        f"sluice_ws_handshakes_total{{code=101,route={ROUTE}}}": 2,
        f"sluice_ws_connection_duration_seconds_bucket{{le=60.0,route={ROUTE}}}": 0,
        f"sluice_ws_connection_duration_seconds_bucket{{le=300.0,route={ROUTE}}}": 2,
        f"sluice_ws_ping_rtt_seconds_bucket{{le=0.025,route={ROUTE}}}": 0,
        f"sluice_ws_ping_rtt_seconds_bucket{{le=0.05,route={ROUTE}}}": 2,
        f"sluice_ws_messages_total{{direction=in,route={ROUTE}}}": 6,
        f"sluice_ws_messages_total{{direction=out,route={ROUTE}}}": 8,
        f"sluice_ws_bytes_total{{direction=in,route={ROUTE}}}": 60,
        f"sluice_ws_bytes_total{{direction=out,route={ROUTE}}}": 80,
        f"sluice_ws_closes_total{{by=client,code=1000,route={ROUTE}}}": 2,
        "sluice_connections{listener=https}": 2,
        "sluice_connections_total{listener=https}": 2,
        "sluice_tls_handshakes_total{result=ok}": 2,
        "sluice_tls_certificate_expiry_timestamp_seconds{host=chat.example.com,secret=shop/tls}": 2e9,
        f"sluice_upstream_connections{{service={SERVICE}}}": 10,
        f"sluice_upstream_connect_failures_total{{service={SERVICE}}}": 2,
        f"sluice_upstream_errors_total{{cause=malformed_head,service={SERVICE}}}": 2,
        f"sluice_endpoints{{service={SERVICE},state=ready}}": 2,
        f"sluice_endpoints{{service={SERVICE},state=draining}}": 1,
        f"sluice_ws_endpoint_imbalance_ratio{{service={SERVICE}}}": 1.5,
        "sluice_config_generation_applied_timestamp_seconds{}": 1.7e9,
        "sluice_config_propagation_seconds_count{}": 1,
        "sluice_config_rejected_routes{}": 3,
        "sluice_problems{reason=BackendNotFound}": 2,
        "sluice_worker_loop_lag_seconds_count{}": 2,
        "sluice_workers{}": 2,
        "sluice_worker_tasks{}": 6,
        "sluice_worker_restarts_total{}": 1,
        "sluice_access_log_dropped_total{}": 14,
    }

    assert {key: found.get(key) for key in expected} == expected


def test_gone_worker_takes_its_gauges_and_no_counter() -> None:
    totals = Totals()
    totals.add(1, busy_worker().take_delta())
    before = samples(totals)
    totals.worker_gone(1)
    after = samples(totals)
    gauges = {
        f"sluice_http_requests_in_flight{{route={ROUTE}}}",
        f"sluice_ws_connections{{route={ROUTE},service={SERVICE}}}",
        f"sluice_upstream_connections{{service={SERVICE}}}",
        f"sluice_endpoints{{service={SERVICE},state=ready}}",
        f"sluice_endpoints{{service={SERVICE},state=draining}}",
        "sluice_worker_tasks{}",
    }

    assert after == {
        key: 0 if key in gauges else value for key, value in before.items() if key != "sluice_connections{listener=https}"
    }


def test_sockets_of_a_worker_that_ended_without_a_word_are_counted_as_closed_by_that() -> None:
    totals = Totals()
    for worker in (1, 2):
        totals.add(worker, busy_worker().take_delta())
    before = samples(totals)
    lost = (totals.worker_lost(1), totals.worker_lost(3))
    totals.worker_gone(1)
    again = totals.worker_lost(1)
    after = samples(totals)
    line = f"sluice_ws_closes_total{{by=proxy:worker_lost,code=1006,route={ROUTE}}}"

    assert (lost, again) == ((1, 0), 0)
    assert (before.get(line), after[line]) == (None, 1)
    assert after[f"sluice_ws_connections{{route={ROUTE},service={SERVICE}}}"] == 1


def test_replaced_worker_goes_on_counting() -> None:
    totals = Totals()
    totals.add(1, busy_worker().take_delta())
    totals.worker_gone(1)
    totals.add(2, busy_worker().take_delta())
    names = ("sluice_http_requests_total", "sluice_ws_connections")

    assert list(some(samples(totals), *names).values()) == [2, 1]


def test_quiet_worker_keeps_its_gauges() -> None:
    totals, stats = Totals(), busy_worker()
    totals.add(1, stats.take_delta())
    before = samples(totals)
    totals.add(1, stats.take_delta())

    assert samples(totals) == before


def test_closed_socket_leaves_a_zero() -> None:
    totals, stats = Totals(), busy_worker()
    totals.add(1, stats.take_delta())
    stats.route(ROUTE).ws_closed(SERVICE, 1000, "client", 1.0)
    for _ in range(3):
        totals.add(1, stats.take_delta())

    assert some(samples(totals), "sluice_ws_connections") == {f"sluice_ws_connections{{route={ROUTE},service={SERVICE}}}": 0}


def test_series_go_with_their_route() -> None:
    totals = full()
    totals.add(1, busy_worker("ingress/shop/web/0").take_delta())
    totals.add(1, busy_worker("-").take_delta())
    totals.keep({"r/ingress/shop/web/0", f"u/{SERVICE}"})
    found = samples(totals)

    assert not [key for key in found if f"route={ROUTE}" in key]
    assert [key for key in found if "route=ingress/shop/web/0" in key]
    assert [key for key in found if "route=-" in key]


def test_series_go_with_their_service_but_open_sockets_stay() -> None:
    totals = Totals()
    stats = busy_worker()
    totals.add(1, stats.take_delta())
    totals.keep({f"r/{ROUTE}"})
    left = [key for key in samples(totals) if f"service={SERVICE}" in key]
    stats.route(ROUTE).ws_closed(SERVICE, 1000, "client", 1.0)
    totals.add(1, stats.take_delta())
    totals.keep({f"r/{ROUTE}"})

    assert left == [f"sluice_ws_connections{{route={ROUTE},service={SERVICE}}}"]
    assert totals.open_sockets() == {ROUTE: 0}


def test_close_codes_of_all_workers_are_at_most_32_others() -> None:
    totals = Totals()
    for worker in range(4):
        stats = WorkerStats()
        for number in range(40):
            stats.route(ROUTE).ws_closed(SERVICE, 3000 + 100 * worker + number, "client", 1.0)
        totals.add(worker, stats.take_delta())
    closes = some(samples(totals), "sluice_ws_closes_total")

    assert len(closes) == 33
    assert closes[f"sluice_ws_closes_total{{by=client,code=other,route={ROUTE}}}"] == 160 - 32
    assert sum(closes.values()) == 160


@pytest.mark.parametrize(("seconds", "bound"), [(0.0002, "0.0005"), (60.0, "60.0"), (61.0, "+Inf")])
def test_propagation_is_counted_in_its_bucket(seconds: float, bound: str) -> None:
    totals = Totals()
    totals.observe(CONFIG_PROPAGATION, seconds)
    buckets = some(samples(totals), "sluice_config_propagation_seconds_bucket")

    assert next(key for key, count in buckets.items() if count) == f"sluice_config_propagation_seconds_bucket{{le={bound}}}"


def test_expiry_is_that_of_what_workers_serve() -> None:
    """A certificate that OpenSSL does not take is none: the one before it stays, or the default is served."""
    totals = Totals()
    totals.certificates = {("a.test", "ns/a"): 9.0, ("b.test", "ns/b"): 9.0, ("c.test", "ns/c"): 9.0, ("*", "ns/c"): 9.0}
    first, second = WorkerStats(), WorkerStats()
    first.stand_ins = {"ns/a": 5.0, "ns/b": 0.0}
    second.stand_ins = {"ns/b": 4.0}
    totals.add(1, first.take_delta())
    totals.add(2, second.take_delta())
    name = "sluice_tls_certificate_expiry_timestamp_seconds"
    both = some(samples(totals), name)
    totals.worker_gone(1)
    totals.add(2, WorkerStats().take_delta())

    assert both == {
        f"{name}{{host=a.test,secret=ns/a}}": 5.0,
        f"{name}{{host=c.test,secret=ns/c}}": 9.0,
        f"{name}{{host=*,secret=ns/c}}": 9.0,
    }
    assert set(some(samples(totals), name).values()) == {9.0}


def test_label_values_of_a_hostile_controller_stay_in_their_quotes() -> None:
    totals = Totals()
    totals.certificates = {('a"} 1\nsluice_workers 99\n#', "a\\b/c"): 1.0}
    expiry = some(samples(totals), "sluice_tls_certificate_expiry_timestamp_seconds", "sluice_workers")

    assert list(expiry.values()) == [1.0, 0.0]


@pytest.mark.slow
def test_thousand_routes_are_rendered_in_bounded_time(record_property: Callable[[str, object], None]) -> None:
    totals = Totals()
    for number in range(1000):
        totals.add(1, busy_worker(f"wsroute/ns/name-{number}/0", f"ns/name-{number}:80").take_delta())
    start = time.perf_counter()
    lines = len(generate_latest(totals.registry).splitlines())
    seconds = time.perf_counter() - start
    record_property("seconds", round(seconds, 3))
    print(f"1,000 routes: {lines} lines in {seconds * 1000:.0f} ms")  # noqa: T201  read with pytest -s

    assert lines > 100_000
    assert seconds < 10
