"""What a worker counts, and what it says of it."""

import msgspec

from proxy.observability.metric_kinds import Metric, Series
from proxy.observability.metrics import (
    ACCESS_LOG_DROPPED,
    CONNECTIONS,
    CONNECTIONS_TOTAL,
    ENDPOINTS,
    HTTP_DURATION,
    HTTP_FIRST_BYTE,
    HTTP_IN_FLIGHT,
    HTTP_LOCAL_REPLIES,
    HTTP_REQUEST_BYTES,
    HTTP_REQUESTS,
    HTTP_RESPONSE_BYTES,
    LATENCY,
    LIFETIME,
    LOOP_LAG,
    TLS_DURATION,
    TLS_HANDSHAKES,
    UPSTREAM_CONNECT_DURATION,
    UPSTREAM_CONNECT_FAILURES,
    UPSTREAM_CONNECTIONS,
    UPSTREAM_ERRORS,
    WORKER_TASKS,
    WS_BYTES,
    WS_CLOSES,
    WS_CONNECTIONS,
    WS_DURATION,
    WS_HANDSHAKE_DURATION,
    WS_HANDSHAKES,
    WS_MESSAGES,
    WS_PING_RTT,
)
from proxy.observability.stats_delta import HistogramDelta, RecordDelta, ServiceDelta, StatsDelta
from proxy.observability.worker_record import Histogram
from proxy.observability.worker_stats import WorkerStats

ROUTE = "wsroute/shop/chat/0"
SERVICE = "shop/chat:80"


def at(seconds: float, bounds: tuple[float, ...] = LATENCY) -> HistogramDelta:
    """One observation, by a linear search."""
    counts = [0] * (len(bounds) + 1)
    counts[next((number for number, bound in enumerate(bounds) if seconds <= bound), len(bounds))] = 1
    return HistogramDelta(counts, seconds)


def of(metric: Metric, *labels: str) -> Series:
    """The series of a metric with these values of its labels."""
    return metric.number, labels


def test_histogram_bound_is_inclusive_and_the_last_bucket_takes_all_beyond() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1, 1e9):
        histogram.observe(value)

    assert (histogram.counts, histogram.sum) == ([2, 2, 2], 0.0 + 1.0 + 1.5 + 2.0 + 2.1 + 1e9)


def test_histogram_observes_alike_whatever_was_observed_before() -> None:
    values = (0.5, 1.0, 1.0000001, 2.0, 2.5, 0.0, 2.0, 1e9, 1.5, 0.5)
    for first in values:
        for second in values:
            histogram = Histogram((1.0, 2.0))
            histogram.observe(first)
            histogram.observe(second)
            alone = [0, 0, 0]
            for value in (first, second):
                alone[(value > 1.0) + (value > 2.0)] += 1

            assert (histogram.counts, histogram.sum) == (alone, first + second)


def test_delta_of_a_request_says_all_of_it_once() -> None:
    stats = WorkerStats()
    route = stats.route(ROUTE)
    route.first_byte(SERVICE, 0.02)
    route.request_done(SERVICE, "GET", 200, 0.3, 10, 2000)

    assert stats.take_delta() == StatsDelta(
        routes={
            ROUTE: RecordDelta(
                {
                    of(HTTP_REQUESTS, SERVICE, "GET", "200"): 1,
                    of(HTTP_REQUEST_BYTES): 10,
                    of(HTTP_RESPONSE_BYTES): 2000,
                },
                {},
                {of(HTTP_DURATION): at(0.3), of(HTTP_FIRST_BYTE, SERVICE): at(0.02)},
            )
        }
    )
    assert stats.take_delta() == StatsDelta()


def test_delta_of_unknown_methods_adds_them_up_as_other() -> None:
    stats = WorkerStats()
    for method in ("PROPFIND", "get", "GET", "X" * 8000):
        stats.unmatched.request_done("", method, 404, 0.0, 0, 0)

    assert stats.take_delta().routes["-"].counts == {
        of(HTTP_REQUESTS, "-", "other", "404"): 3,
        of(HTTP_REQUESTS, "-", "GET", "404"): 1,
    }


def test_unknown_methods_take_no_memory_between_deltas() -> None:
    stats = WorkerStats()
    for number in range(1000):
        stats.unmatched.request_done("", f"M{number}", 404, 0.0, 0, 0)

    assert stats.unmatched.labelled(HTTP_REQUESTS) == {("-", "other", 404): 1000}


def test_delta_of_a_socket_says_its_gauge_until_it_is_zero() -> None:
    stats = WorkerStats()
    route = stats.route(ROUTE)
    route.ws_handshake(101, 0.01)
    route.ws_opened(SERVICE)
    opened = stats.take_delta()
    quiet = stats.take_delta()
    route.ws_traffic(3, 30, 1, 5)
    talked = stats.take_delta()
    route.ws_closed(SERVICE, 1001, "proxy:drain", 7.0)
    closed = stats.take_delta()

    one = {of(WS_CONNECTIONS, SERVICE): 1.0}
    assert opened.routes == {ROUTE: RecordDelta({of(WS_HANDSHAKES, "101"): 1}, one, {of(WS_HANDSHAKE_DURATION): at(0.01)})}
    assert quiet == StatsDelta()
    assert talked.routes == {
        ROUTE: RecordDelta(
            {of(WS_MESSAGES, "in"): 3, of(WS_BYTES, "in"): 30, of(WS_MESSAGES, "out"): 1, of(WS_BYTES, "out"): 5}, one
        )
    }
    assert closed.routes == {
        ROUTE: RecordDelta(
            {of(WS_CLOSES, "1001", "proxy:drain"): 1}, {of(WS_CONNECTIONS, SERVICE): 0.0}, {of(WS_DURATION): at(7.0, LIFETIME)}
        )
    }
    assert stats.take_delta() == StatsDelta()


def test_delta_first_byte_of_an_answer_that_goes_on_is_said_at_once() -> None:
    stats = WorkerStats()
    stats.route(ROUTE).first_byte(SERVICE, 0.5)

    assert stats.take_delta().routes == {ROUTE: RecordDelta(histograms={of(HTTP_FIRST_BYTE, SERVICE): at(0.5)})}


def test_delta_in_flight_is_said_when_it_moves_and_not_otherwise() -> None:
    stats = WorkerStats()
    route = stats.route(ROUTE)
    said = []
    for act in (route.begin_request, None, route.end_request, None):
        if act is not None:
            act()
        said.append({key: delta.gauges.get(of(HTTP_IN_FLIGHT), 0) for key, delta in stats.take_delta().routes.items()})

    assert said == [{ROUTE: 1}, {}, {ROUTE: 0}, {}]


def test_refused_handshake_has_no_duration() -> None:
    stats = WorkerStats()
    stats.route(ROUTE).ws_handshake(503)

    assert stats.take_delta().routes == {ROUTE: RecordDelta({of(WS_HANDSHAKES, "503"): 1})}


def test_close_codes_beyond_32_others_are_other_for_good() -> None:
    stats = WorkerStats()
    route = stats.route(ROUTE)
    for code in (*range(1000, 1016), *range(3000, 3040)):
        route.ws_closed(SERVICE, code, "client", 1.0)
    first = stats.take_delta().routes[ROUTE].counts
    route.ws_closed(SERVICE, 3031, "client", 1.0)
    route.ws_closed(SERVICE, 4999, "client", 1.0)

    known = {of(WS_CLOSES, str(code), "client"): 1 for code in (*range(1000, 1016), *range(3000, 3032))}
    assert first == known | {of(WS_CLOSES, "other", "client"): 8}
    assert stats.take_delta().routes[ROUTE].counts == {of(WS_CLOSES, "3031", "client"): 1, of(WS_CLOSES, "other", "client"): 1}


def test_delta_of_a_service_is_said_when_it_changes_and_not_otherwise() -> None:
    stats = WorkerStats()
    stats.service(SERVICE).set_endpoints(2, 1, ())
    service = stats.service(SERVICE)
    service.connected(0.004)
    service.connections += 1
    service.connect_failed()

    open_ = {of(UPSTREAM_CONNECTIONS): 1.0}
    ready, draining = ({of(ENDPOINTS, state): number} for state, number in (("ready", 2.0), ("draining", 1.0)))
    assert stats.take_delta().services == {
        SERVICE: ServiceDelta(
            {of(UPSTREAM_CONNECT_FAILURES): 1}, open_ | ready | draining, {of(UPSTREAM_CONNECT_DURATION): at(0.004)}
        )
    }
    assert stats.take_delta().services == {}
    for cause in ("truncated", "connect_refused", "truncated"):
        service.failed(cause)
    assert stats.take_delta().services == {
        SERVICE: ServiceDelta(
            {of(UPSTREAM_ERRORS, "truncated"): 2, of(UPSTREAM_ERRORS, "connect_refused"): 1}, open_ | ready | draining
        )
    }
    stats.service(SERVICE).set_endpoints(0, 0, ())
    assert stats.take_delta().services == {SERVICE: ServiceDelta({}, open_)}
    for ejected in ((("10.0.0.1", 80),), (("10.0.0.2", 80),)):  # as many, but another one
        service.set_endpoints(1, 0, ejected)
        assert stats.take_delta().services == {
            SERVICE: ServiceDelta({}, open_ | dict.fromkeys((of(ENDPOINTS, "ready"), of(ENDPOINTS, "unhealthy")), 1.0), {}, ejected)
        }


def test_dropped_route_and_service_are_not_said_and_begin_anew() -> None:
    stats = WorkerStats()
    old, old_service = stats.route(ROUTE), stats.service(SERVICE)
    stats.drop_route(ROUTE)
    stats.drop_service(SERVICE)
    old.ws_closed(SERVICE, 1000, "client", 1.0)
    old_service.connect_failed()

    assert stats.take_delta() == StatsDelta()
    assert stats.route(ROUTE) is not old
    assert stats.service(SERVICE) is not old_service


def test_delta_of_connections_handshakes_lag_and_log() -> None:
    stats = WorkerStats()
    stats.connection_opened("https")
    stats.connection_opened("https")
    stats.connection_closed("https")
    stats.tls_handshake("ok", 0.002)
    stats.tls_handshake("timeout", 15.0)
    stats.loop_lag(0.001)
    stats.count(ACCESS_LOG_DROPPED, 4)
    stats.set(WORKER_TASKS, 2)

    gauges = {of(CONNECTIONS, "https"): 1.0, of(WORKER_TASKS): 2.0}
    assert stats.take_delta() == StatsDelta(
        {
            of(CONNECTIONS_TOTAL, "https"): 2,
            of(TLS_HANDSHAKES, "ok"): 1,
            of(TLS_HANDSHAKES, "timeout"): 1,
            of(ACCESS_LOG_DROPPED): 4,
        },
        gauges,
        {of(TLS_DURATION): at(0.002), of(LOOP_LAG): at(0.001)},
    )
    assert stats.take_delta() == StatsDelta({}, gauges)
    stats.connection_closed("https")
    assert stats.take_delta().gauges == gauges | {of(CONNECTIONS, "https"): 0.0}
    assert stats.take_delta().gauges == gauges | {of(CONNECTIONS, "https"): 0.0}


def test_delta_survives_the_line_to_the_supervisor() -> None:
    stats = WorkerStats()
    stats.route(ROUTE).request_done(SERVICE, "GET", 200, 0.3, 10, 2000)
    stats.service(SERVICE).connected(0.1)
    delta = stats.take_delta()

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(delta), type=StatsDelta) == delta


def test_routes_that_were_silent_do_not_count_for_each_other() -> None:
    stats = WorkerStats()
    first, second = stats.route("a"), stats.route("b")
    first.request_done(SERVICE, "GET", 200, 0.004, 0, 0)
    first.ws_closed(SERVICE, 1000, "client", 7.0)

    assert set(stats.take_delta().routes) == {"a"}
    second.ws_ping(0.01)
    second.ws_traffic(1, 0, 0, 0)
    assert stats.take_delta().routes == {"b": RecordDelta({of(WS_MESSAGES, "in"): 1}, {}, {of(WS_PING_RTT): at(0.01)})}
    assert stats.route("c").take_delta() == RecordDelta()


def test_round_trips_of_pings_are_told_once() -> None:
    stats = WorkerStats()
    stats.route(ROUTE).ws_ping(0.03)

    assert stats.take_delta() == StatsDelta(routes={ROUTE: RecordDelta(histograms={of(WS_PING_RTT): at(0.03)})})
    assert stats.take_delta() == StatsDelta()


def test_answers_of_our_own_are_counted_by_cause() -> None:
    stats = WorkerStats()
    for cause in ("no_route", "misdirected", "no_route"):
        stats.unmatched.local_reply(cause)

    assert stats.take_delta().routes["-"].counts == {
        of(HTTP_LOCAL_REPLIES, "no_route"): 2,
        of(HTTP_LOCAL_REPLIES, "misdirected"): 1,
    }
    assert stats.take_delta() == StatsDelta()
