"""What workers send of their counts to the supervisor: what was added since the last time. Who counts is worker_stats.py."""

from collections.abc import Mapping, Sequence

import msgspec

from proxy.observability.metric_kinds import Series


class HistogramDelta(msgspec.Struct, array_like=True):
    """What was observed since the last delta: counts per bucket (the last one is +Inf) and their sum."""

    counts: list[int]
    sum: float


class RecordDelta(msgspec.Struct, omit_defaults=True):
    """What one record added, by series. Gauges are absolute, and all of them but those that are 0."""

    counts: dict[Series, int] = {}
    gauges: dict[Series, float] = {}
    histograms: dict[Series, HistogramDelta] = {}


class ServiceDelta(RecordDelta, omit_defaults=True):
    """What one upstream added."""

    ejected: Sequence[tuple[str, int]] = ()
    """Address and port of the ready endpoints that are left out for failing."""


class StatsDelta(RecordDelta, omit_defaults=True):
    """What a worker added since its last delta: of itself, and of its routes and upstreams of which there is something new."""

    routes: Mapping[str, RecordDelta] = {}
    services: Mapping[str, ServiceDelta] = {}
    stand_ins: Mapping[str, float] = {}
    """Keys of certificates that OpenSSL does not take, with the Unix time of the end of what is served instead; 0: the default."""
