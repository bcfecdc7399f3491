"""Time limits of requests and sockets, ours and those of ingress-nginx."""

from collections.abc import Mapping

from controller.resources.annotations.annotation import NGINX, Annotation, Family, Refused, ours
from controller.resources.annotations.values import text_of, timeout
from controller.resources.features.proxy_timeouts import ProxyTimeouts
from controller.resources.features.timeouts import AGE_HINT, parse_age
from controller.resources.reading.fields import MAX_SECONDS

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
    ),
    "timeouts",
)

_SECONDS = "a whole number of seconds above zero, such as 60, would be accepted."
_WHOLE = "whole number of seconds"


def proxy_timeout(text: str) -> int | Refused:
    """Read whole seconds, as Go's strconv.Atoi reads them; more than ten years are ten."""
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        return Refused(f"so the default stays; {_SECONDS}")
    seconds = min(int(digits[:64]), int(MAX_SECONDS))
    return seconds or Refused(f"which is no time at all there and is not followed, so the default stays; {_SECONDS}")


def _proxy_timeout(attribute: str, values: str, means: str) -> Annotation:
    return Annotation(f"{NGINX}proxy-{attribute}-timeout", says=means, values=values, parse=proxy_timeout, attribute=attribute)


def build(values: Mapping[str, int]) -> ProxyTimeouts:
    """Make the feature."""
    return ProxyTimeouts(**values)


PROXY_FAMILY = Family(
    "Time limits of ingress-nginx",
    (
        _proxy_timeout(
            "connect",
            f"{_WHOLE}, `5` by default",
            "one attempt to connect; all together take three times as long, at most the longer of it and 5 s. "
            "`sluice.dev/timeouts-connect` wins",
        ),
        _proxy_timeout(
            "read",
            f"{_WHOLE}, `60` by default, `10` for an upgrade's 101",
            "request sent to the head of the answer, or to the 101; above 3600 also how long an answer or a socket may be "
            "silent, which is 1 h at least. `sluice.dev/timeouts-*` win",
        ),
        _proxy_timeout("send", f"{_WHOLE}, `60` by default", "the backend takes nothing of a request's body"),
    ),
    "proxy_timeouts",
    build,
)
