"""What a worker counts, and what it says of it."""

import msgspec

from proxy.observability.stats_delta import HistogramDelta, RouteDelta, ServiceDelta, StatsDelta
from proxy.observability.worker_stats import LATENCY, LIFETIME, Histogram, WorkerStats

ROUTE = "wsroute/shop/chat/0"
SERVICE = "shop/chat:80"


def at(seconds: float, bounds: tuple[float, ...] = LATENCY) -> HistogramDelta:
    """One observation, by a linear search."""
    counts = [0] * (len(bounds) + 1)
    counts[next((number for number, bound in enumerate(bounds) if seconds <= bound), len(bounds))] = 1
    return HistogramDelta(counts, seconds)


def test_histogram_bound_is_inclusive_and_the_last_bucket_takes_all_beyond() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1, 1e9):
        histogram.observe(value)

    assert histogram.take() == HistogramDelta([2, 2, 2], 0.0 + 1.0 + 1.5 + 2.0 + 2.1 + 1e9)
    assert histogram.take() is None


def test_delta_of_a_request_says_all_of_it_once() -> None:
    stats = WorkerStats()
    route = stats.route(ROUTE)
    route.first_byte(SERVICE, 0.02)
    route.request_done(SERVICE, "GET", 200, 0.3, 10, 2000)

    assert stats.delta() == StatsDelta(
        routes={
            ROUTE: RouteDelta(
                requests={f"{SERVICE} GET 200": 1},
                duration=at(0.3),
                first_byte={SERVICE: at(0.02)},
                request_bytes=10,
                response_bytes=2000,
            )
        }
    )
    assert stats.delta() == StatsDelta()


def test_delta_of_unknown_methods_adds_them_up_as_other() -> None:
    stats = WorkerStats()
    for method in ("PROPFIND", "get", "GET", "X" * 8000):
        stats.unmatched.request_done("", method, 404, 0.0, 0, 0)

    assert stats.delta().routes["-"].requests == {"- other 404": 3, "- GET 404": 1}


def test_unknown_methods_take_no_memory_between_deltas() -> None:
    stats = WorkerStats()
    for number in range(1000):
        stats.unmatched.request_done("", f"M{number}", 404, 0.0, 0, 0)

    assert stats.unmatched.requests == {("", "other", 404): 1000}


def test_delta_of_a_socket_says_its_gauge_until_it_is_zero() -> None:
    stats = WorkerStats()
    route = stats.route(ROUTE)
    route.ws_handshake(101, 0.01)
    route.ws_opened(SERVICE)
    opened = stats.delta()
    quiet = stats.delta()
    route.ws_messages_in += 3
    route.ws_bytes_in += 30
    route.ws_messages_out += 1
    route.ws_bytes_out += 5
    talked = stats.delta()
    route.ws_closed(SERVICE, 1001, "proxy:drain", 7.0)
    closed = stats.delta()

    assert opened.routes == {ROUTE: RouteDelta(handshakes={"101": 1}, handshake_duration=at(0.01), sockets={SERVICE: 1})}
    assert quiet == StatsDelta()
    assert talked.routes == {ROUTE: RouteDelta(sockets={SERVICE: 1}, messages_in=3, bytes_in=30, messages_out=1, bytes_out=5)}
    assert closed.routes == {
        ROUTE: RouteDelta(sockets={SERVICE: 0}, socket_duration=at(7.0, LIFETIME), closes={"1001 proxy:drain": 1})
    }
    assert stats.delta() == StatsDelta()


def test_delta_first_byte_of_an_answer_that_goes_on_is_said_at_once() -> None:
    stats = WorkerStats()
    stats.route(ROUTE).first_byte(SERVICE, 0.5)

    assert stats.delta().routes == {ROUTE: RouteDelta(first_byte={SERVICE: at(0.5)})}


def test_delta_in_flight_is_said_when_it_moves_and_not_otherwise() -> None:
    stats = WorkerStats()
    route = stats.route(ROUTE)
    said = []
    for step in (+1, 0, -1, 0):
        route.in_flight += step
        said.append({key: delta.in_flight for key, delta in stats.delta().routes.items()})

    assert said == [{ROUTE: 1}, {}, {ROUTE: 0}, {}]


def test_refused_handshake_has_no_duration() -> None:
    stats = WorkerStats()
    stats.route(ROUTE).ws_handshake(503)

    assert stats.delta().routes == {ROUTE: RouteDelta(handshakes={"503": 1})}


def test_close_codes_beyond_32_others_are_other_for_good() -> None:
    stats = WorkerStats()
    route = stats.route(ROUTE)
    for code in (*range(1000, 1016), *range(3000, 3040)):
        route.ws_closed(SERVICE, code, "client", 1.0)
    first = stats.delta().routes[ROUTE].closes
    route.ws_closed(SERVICE, 3031, "client", 1.0)
    route.ws_closed(SERVICE, 4999, "client", 1.0)

    assert first == {f"{code} client": 1 for code in (*range(1000, 1016), *range(3000, 3032))} | {"other client": 8}
    assert stats.delta().routes[ROUTE].closes == {"3031 client": 1, "other client": 1}


def test_delta_of_a_service_is_said_when_it_changes_and_not_otherwise() -> None:
    stats = WorkerStats()
    stats.service(SERVICE).set_endpoints(2, 1, ())
    service = stats.service(SERVICE)
    service.connected(0.004)
    service.connections += 1
    service.connect_failed()

    assert stats.delta().services == {SERVICE: ServiceDelta(at(0.004), 1, 1, 2, 1)}
    assert stats.delta().services == {}
    for cause in ("truncated", "connect_refused", "truncated"):
        service.failed(cause)
    assert stats.delta().services == {
        SERVICE: ServiceDelta(connections=1, ready=2, draining=1, errors={"truncated": 2, "connect_refused": 1})
    }
    stats.service(SERVICE).set_endpoints(0, 0, ())
    assert stats.delta().services == {SERVICE: ServiceDelta(connections=1)}
    for ejected in ((("10.0.0.1", 80),), (("10.0.0.2", 80),)):  # as many, but another one
        service.set_endpoints(1, 0, ejected)
        assert stats.delta().services == {SERVICE: ServiceDelta(connections=1, ready=1, ejected=ejected)}


def test_dropped_route_and_service_are_not_said_and_begin_anew() -> None:
    stats = WorkerStats()
    old, old_service = stats.route(ROUTE), stats.service(SERVICE)
    stats.drop_route(ROUTE)
    stats.drop_service(SERVICE)
    old.ws_closed(SERVICE, 1000, "client", 1.0)
    old_service.connect_failed()

    assert stats.delta() == StatsDelta()
    assert stats.route(ROUTE) is not old
    assert stats.service(SERVICE) is not old_service


def test_delta_of_connections_handshakes_lag_and_log() -> None:
    stats = WorkerStats()
    stats.connection_opened("https")
    stats.connection_opened("https")
    stats.connection_closed("https")
    stats.tls_handshake("ok", 0.002)
    stats.tls_handshake("timeout", 15.0)
    stats.loop_lag.observe(0.001)
    stats.log_dropped = 4
    stats.tasks = 2

    assert stats.delta() == StatsDelta(
        connections={"https": 1},
        connections_total={"https": 2},
        tls_handshakes={"ok": 1, "timeout": 1},
        tls_duration=at(0.002),
        loop_lag=at(0.001),
        log_dropped=4,
        tasks=2,
    )
    assert stats.delta() == StatsDelta(connections={"https": 1}, tasks=2)


def test_delta_survives_the_line_to_the_supervisor() -> None:
    stats = WorkerStats()
    stats.route(ROUTE).request_done(SERVICE, "GET", 200, 0.3, 10, 2000)
    stats.service(SERVICE).connected(0.1)
    delta = stats.delta()

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(delta), type=StatsDelta) == delta


def test_routes_that_were_silent_do_not_count_for_each_other() -> None:
    stats = WorkerStats()
    first, second = stats.route("a"), stats.route("b")
    first.request_done(SERVICE, "GET", 200, 0.004, 0, 0)
    first.ws_closed(SERVICE, 1000, "client", 7.0)

    assert set(stats.delta().routes) == {"a"}
    second.ws_ping(0.01)
    second.ws_messages_in += 1
    assert stats.delta().routes == {"b": RouteDelta(ping_rtt=at(0.01), messages_in=1)}
    assert stats.route("c").take() == RouteDelta()


def test_round_trips_of_pings_are_told_once() -> None:
    stats = WorkerStats()
    stats.route(ROUTE).ws_ping(0.03)

    assert stats.delta() == StatsDelta(routes={ROUTE: RouteDelta(ping_rtt=at(0.03))})
    assert stats.delta() == StatsDelta()
