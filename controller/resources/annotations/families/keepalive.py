"""Pings that the proxy sends."""

from controller.resources.annotations.annotation import Family, ours
from controller.resources.annotations.values import choice, text_of, whole_number
from controller.resources.features.keepalive import INTERVAL_HINT, MOST_MISSES, parse_interval

FAMILY = Family(
    "Pings",
    (
        ours(
            "keepalive.interval",
            text_of(parse_interval, INTERVAL_HINT),
            "duration, `30s` by default; without any of these three keys no pings are sent",
            "a side from which no frame came for so long is pinged",
        ),
        ours(
            "keepalive.misses",
            whole_number(1, MOST_MISSES),
            "whole number, `2` by default",
            "so many intervals after the first ping without any frame close the socket with 1001",
        ),
        ours(
            "keepalive.to", choice("Client", "Backend", "Both"), "`Client` (default), `Backend`, `Both`", "which sides are pinged"
        ),
    ),
    "keepalive",
)
