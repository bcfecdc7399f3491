"""What becomes of open sockets, `close` of a rule and `sluice.dev/close-*` of an Ingress, and how old they may grow."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from controller.resources.reading.fields import MAX_SECONDS, TIMEOUT_HINT, Reader, parse_duration, parse_timeout, shown
from controller.resources.reading.problems import Reason
from proxy.model.sockets import MAX_REASON_BYTES, is_close_code, is_close_reason

Mode = Literal["Keep", "Drain", "Now"]
AGE_HINT = "a duration of at most 87600h, such as 12h, would be accepted; 0s is no limit."
CODE_HINT = "a close code from 1000 to 1014 other than 1004, 1005 and 1006, or from 3000 to 4999, would be accepted."
REASON_HINT = f"at most {MAX_REASON_BYTES} bytes of UTF-8 would be accepted."

_EVENTS: Mapping[str, str] = {
    "onRouteRemoved": "on_route_removed",
    "onEndpointTerminating": "on_endpoint_terminating",
    "onPolicyChanged": "on_policy_changed",
}
ANNOTATIONS: Mapping[str, str] = {
    "close-on-route-removed": "on_route_removed",
    "close-on-endpoint-terminating": "on_endpoint_terminating",
    "close-on-policy-changed": "on_policy_changed",
    "close-drain-over": "over",
    "close-drain-code": "code",
    "close-drain-reason": "reason",
}
"""Keys under `sluice.dev/`, and what they set."""


@dataclass(frozen=True, slots=True)
class Closing:
    """What a rule wants done with its open sockets; the defaults are the API's (docs/wsroute.md)."""

    on_route_removed: Mode = "Drain"
    on_endpoint_terminating: Mode = "Drain"
    on_policy_changed: Mode = "Drain"
    over: float = 30.0
    """Seconds."""
    code: int = 1012
    reason: str = "service restart"


UNWRITTEN = Closing()


def parse_closing(reader: Reader, place: str, raw: Mapping[str, Any]) -> Closing:
    """Read `close` of a rule, which is valid by the schema."""
    modes = {name: raw[field] for field, name in _EVENTS.items() if field in raw}
    drain = raw.get("drain") or {}
    found = replace(UNWRITTEN, **modes)
    if "over" in drain:
        over = parse_timeout(drain["over"])
        if over is None:
            reader.report(f"{place}.drain.over", f"{shown(drain['over'])} was found, {TIMEOUT_HINT}")
        else:
            found = replace(found, over=over)
    if "code" in drain:
        # The schema's integers may be written as 2.0; the API server stores 2.
        found = replace(found, code=int(drain["code"]))
        if not is_close_code(found.code):
            reader.report(f"{place}.drain.code", f"{shown(drain['code'])} was found, {CODE_HINT}")
    if "reason" in drain:
        found = replace(found, reason=drain["reason"])
        if not is_close_reason(found.reason):
            reader.report(f"{place}.drain.reason", f"{shown(found.reason)} was found, {REASON_HINT}")
    return found


def read_closing(reader: Reader, field: str, name: str, value: str, before: Closing) -> Closing:
    """Read one of `ANNOTATIONS`; what is wrong is collected, and `before` stays."""
    attribute = ANNOTATIONS[name]
    if attribute == "over":
        over = parse_timeout(value)
        if over is not None:
            return replace(before, over=over)
        hint = TIMEOUT_HINT
    elif attribute == "code":
        if value.isascii() and value.isdigit() and len(value) == 4 and is_close_code(int(value)):
            return replace(before, code=int(value))
        hint = CODE_HINT
    elif attribute == "reason":
        if is_close_reason(value):
            return replace(before, reason=value)
        hint = REASON_HINT
    else:
        if value in get_args(Mode):
            mode = cast("Mode", value)
            match attribute:
                case "on_route_removed":
                    return replace(before, on_route_removed=mode)
                case "on_endpoint_terminating":
                    return replace(before, on_endpoint_terminating=mode)
                case _:
                    return replace(before, on_policy_changed=mode)
        hint = "Keep, Drain or Now would be accepted."
    reader.report(field, f"{shown(value)} was found, {hint}", Reason.UNSUPPORTED_VALUE)
    return before


def parse_age(text: str) -> float | None:
    """Parse a maximum age into seconds, 0 for none; None: it is none."""
    seconds = parse_duration(text)
    return seconds if seconds is not None and seconds <= MAX_SECONDS else None
