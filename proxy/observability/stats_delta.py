"""What workers send of their counts to the supervisor: what was added since the last time. Who counts is worker_stats.py."""

from collections.abc import Mapping, Sequence

import msgspec


class HistogramDelta(msgspec.Struct, array_like=True):
    """What was observed since the last delta: counts per bucket (the last one is +Inf) and their sum."""

    counts: list[int]
    total: float


class RouteDelta(msgspec.Struct, omit_defaults=True):
    """What one route added; gauges are absolute."""

    requests: Mapping[str, int] = {}
    """`service method status`, separated by spaces, to count."""
    duration: HistogramDelta | None = None
    first_byte: Mapping[str, HistogramDelta] = {}
    request_bytes: int = 0
    response_bytes: int = 0
    in_flight: int = 0
    sockets: Mapping[str, int] = {}
    handshakes: Mapping[str, int] = {}
    handshake_duration: HistogramDelta | None = None
    socket_duration: HistogramDelta | None = None
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    closes: Mapping[str, int] = {}
    """`code by`, separated by a space, to count."""
    ping_rtt: HistogramDelta | None = None
    unanswered: int = 0


class ServiceDelta(msgspec.Struct, omit_defaults=True):
    """What one upstream added; gauges are absolute."""

    connect_duration: HistogramDelta | None = None
    connect_failures: int = 0
    connections: int = 0
    ready: int = 0
    draining: int = 0
    ejected: Sequence[tuple[str, int]] = ()
    """Address and port of the ready ones that are left out for failing; `ready` is without them."""
    imbalance: float = 0.0
    """Open sockets of the fullest usable endpoint over their mean, of all workers; 0: there are none."""
    errors: Mapping[str, int] = {}
    """Cause to count, of requests that were not answered whole."""


class StatsDelta(msgspec.Struct, omit_defaults=True):
    """What a worker added since its last delta."""

    routes: Mapping[str, RouteDelta] = {}
    services: Mapping[str, ServiceDelta] = {}
    connections: Mapping[str, int] = {}
    connections_total: Mapping[str, int] = {}
    tls_handshakes: Mapping[str, int] = {}
    tls_duration: HistogramDelta | None = None
    loop_lag: HistogramDelta | None = None
    log_dropped: int = 0
    tasks: int = 0
    stand_ins: Mapping[str, float] = {}
    """Keys of certificates that OpenSSL does not take, with the Unix time of the end of what is served instead; 0: the default."""
