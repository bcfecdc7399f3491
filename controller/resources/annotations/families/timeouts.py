"""Time limits of requests and sockets."""

from controller.resources.annotations.annotation import Family, Status, ours, unread
from controller.resources.annotations.values import text_of, timeout
from controller.resources.features.timeouts import AGE_HINT, parse_age

FAMILY = Family(
    "Time limits",
    (
        ours("timeouts.connect", timeout, "duration, `5s` by default", "all attempts to connect, together"),
        ours("timeouts.handshake", timeout, "duration, `10s` by default", "upgrade request sent to the backend's 101"),
        ours("timeouts.response", timeout, "duration, `60s` by default", "request sent to the head of the answer"),
        ours("timeouts.idle", timeout, "duration, `1h` by default", "no byte of the application in either direction of a socket"),
        ours(
            "timeouts.maxAge",
            text_of(parse_age, AGE_HINT),
            "duration, `0s` by default: off",
            "age at which a socket is closed, give or take a tenth",
        ),
        *unread(
            Status.DIFFERENT,
            "{name} has no effect: sockets may idle for 1h. For another time write sluice.dev/timeouts-idle, and for slow answers "
            "sluice.dev/timeouts-response.",
            "proxy-read-timeout",
            "proxy-send-timeout",
        ),
        *unread(Status.DIFFERENT, "{name} has no effect. Write sluice.dev/timeouts-connect instead.", "proxy-connect-timeout"),
    ),
    "timeouts",
)
