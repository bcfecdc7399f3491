# Compiled by mypyc: see setup.py.
"""The table of metrics: name, type, labels, help, and how each adds up over workers.

The slots of a worker's records, what is sent of them, the pod's totals, the page of the admin port and docs/metrics.md all follow
from it: a new counter is one line here, and `count` of its record where it happens. A name is an interface: to change one breaks
alerts.
"""

from typing import Final

from proxy.observability.metric_kinds import COUNTED, HIGHEST, LAST, LIVE, POD, SOCKETS, Bounds, Metric, Scope

METRICS: Final[list[Metric]] = []
"""Every metric, in the order of docs/metrics.md; its number is its place here."""

ROUTE: Final = Scope(METRICS, "route")
SERVICE: Final = Scope(METRICS, "service")
WORKER: Final = Scope(METRICS)
SUPERVISOR: Final = Scope(METRICS, adds=POD)

LATENCY: Final[Bounds] = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bucket bounds in seconds of requests, first bytes, connects and handshakes."""
LIFETIME: Final[Bounds] = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10800.0, 43200.0, 86400.0)
"""Bucket bounds in seconds of sockets: 1 s to 1 day."""
IN_OUT: Final = ("in", "out")
"""Directions: from the client, towards it."""
ENDPOINT_STATES: Final = ("ready", "draining", "unhealthy")

# HTTP, of a route.
HTTP_REQUESTS: Final = ROUTE.labelled_counter(
    "sluice_http_requests_total",
    ("service", "method", "code"),
    "Answered requests; upgrades that became sockets are not among them.",
)
HTTP_LOCAL_REPLIES: Final = ROUTE.labelled_counter(
    "sluice_http_local_replies_total", ("cause",), "Answers of the proxy's own, by cause; refused upgrades are among them."
)
HTTP_DURATION: Final = ROUTE.histogram(
    "sluice_http_request_duration_seconds", LATENCY, "First byte of the request to last byte of the answer."
)
HTTP_FIRST_BYTE: Final = ROUTE.labelled_histogram(
    "sluice_http_time_to_first_byte_seconds", ("service",), LATENCY, "Request to the backend's head."
)
HTTP_REQUEST_BYTES: Final = ROUTE.counter("sluice_http_request_bytes_total", "Bytes of request bodies.")
HTTP_RESPONSE_BYTES: Final = ROUTE.counter("sluice_http_response_bytes_total", "Bytes of answers' bodies.")
HTTP_IN_FLIGHT: Final = ROUTE.gauge("sluice_http_requests_in_flight", "Requests being answered.")

# WebSockets, of a route.
WS_CONNECTIONS: Final = ROUTE.labelled_gauge("sluice_ws_connections", ("service",), "Open WebSockets.")
WS_HANDSHAKES: Final = ROUTE.labelled_counter("sluice_ws_handshakes_total", ("code",), "Upgrades by answer.")
WS_HANDSHAKE_DURATION: Final = ROUTE.histogram(
    "sluice_ws_handshake_duration_seconds", LATENCY, "Upgrade request to 101.", shown=SOCKETS
)
WS_DURATION: Final = ROUTE.histogram(
    "sluice_ws_connection_duration_seconds", LIFETIME, "Lifetime of WebSockets, at their close.", shown=SOCKETS
)
WS_MESSAGES: Final = ROUTE.counter(
    "sluice_ws_messages_total", "Whole messages; in: from the client.", each="direction", values=IN_OUT, shown=SOCKETS
)
WS_BYTES: Final = ROUTE.counter(
    "sluice_ws_bytes_total", "Payload bytes; in: from the client.", each="direction", values=IN_OUT, shown=SOCKETS
)
WS_PING_RTT: Final = ROUTE.histogram(
    "sluice_ws_ping_rtt_seconds", LATENCY, "Ping of the proxy's own (keepalive) to its answer.", shown=COUNTED
)
WS_CLOSES: Final = ROUTE.labelled_counter("sluice_ws_closes_total", ("code", "by"), "Closed WebSockets by code and initiator.")
WS_UNANSWERED_CLOSES: Final = ROUTE.counter(
    "sluice_ws_unanswered_closes_total", "WebSockets cut because an end did not answer our close frame in time.", shown=SOCKETS
)

# Upstreams, of a Service.
UPSTREAM_CONNECT_DURATION: Final = SERVICE.histogram(
    "sluice_upstream_connect_duration_seconds", LATENCY, "Connecting to endpoints."
)
UPSTREAM_CONNECT_FAILURES: Final = SERVICE.counter("sluice_upstream_connect_failures_total", "Attempts to connect that failed.")
UPSTREAM_ERRORS: Final = SERVICE.labelled_counter(
    "sluice_upstream_errors_total", ("cause",), "Requests that were not answered whole for a backend's sake, by cause."
)
UPSTREAM_CONNECTIONS: Final = SERVICE.gauge("sluice_upstream_connections", "Open connections to endpoints.")
ENDPOINTS: Final = SERVICE.gauge("sluice_endpoints", "Endpoints by state.", each="state", values=ENDPOINT_STATES, adds=HIGHEST)
WS_IMBALANCE: Final = SERVICE.gauge(
    "sluice_ws_endpoint_imbalance_ratio",
    "Open WebSockets of the fullest usable endpoint over the mean of them; absent: there are none.",
    shown=COUNTED,
    adds=LAST,
)

# Of a worker as a whole.
CONNECTIONS: Final = WORKER.labelled_gauge("sluice_connections", ("listener",), "Open client connections.", shown=LIVE)
CONNECTIONS_TOTAL: Final = WORKER.labelled_counter("sluice_connections_total", ("listener",), "Accepted client connections.")
TLS_HANDSHAKES: Final = WORKER.labelled_counter("sluice_tls_handshakes_total", ("result",), "TLS handshakes by result.")
TLS_DURATION: Final = WORKER.histogram("sluice_tls_handshake_duration_seconds", LATENCY, "TLS handshakes that succeeded.")
LOOP_LAG: Final = WORKER.histogram(
    "sluice_worker_loop_lag_seconds", LATENCY, "How late a worker's loop was, looked at ten times a second."
)
WORKER_TASKS: Final = WORKER.gauge("sluice_worker_tasks", "Tasks of all workers' loops, such as handshakes and connects.")
ACCESS_LOG_DROPPED: Final = WORKER.counter("sluice_access_log_dropped_total", "Lines of the access log that were lost.")

# What the supervisor itself knows.
CONFIG_PROPAGATION: Final = SUPERVISOR.histogram(
    "sluice_config_propagation_seconds", LATENCY, "Newest object event to applied by all workers."
)
CONFIG_APPLIED: Final = SUPERVISOR.gauge(
    "sluice_config_generation_applied_timestamp_seconds", "When all workers had the configuration, in Unix time."
)
CONFIG_REJECTED: Final = SUPERVISOR.gauge("sluice_config_rejected_routes", "Routes that could not be compiled and answer 500.")
PROBLEMS: Final = SUPERVISOR.labelled_gauge("sluice_problems", ("reason",), "Problems with objects by reason.")
CERTIFICATE_EXPIRY: Final = SUPERVISOR.labelled_gauge(
    "sluice_tls_certificate_expiry_timestamp_seconds",
    ("host", "secret"),
    "When a certificate that is served ends, in Unix time; host *: the default one.",
)
WORKERS: Final = SUPERVISOR.gauge("sluice_workers", "Workers that are running.")
WORKER_RESTARTS: Final = SUPERVISOR.counter("sluice_worker_restarts_total", "Workers that ended and were replaced.")
