"""What becomes of open sockets when what they were opened with goes away: `close` of a rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.resources.reading.fields import TIMEOUT_HINT, Reader, parse_timeout, shown
from proxy.model.sockets import MAX_REASON_BYTES, is_close_code, is_close_reason

Mode = Literal["Keep", "Drain", "Now"]
CODE_HINT = "a close code from 1000 to 1014 other than 1004, 1005 and 1006, or from 3000 to 4999, would be accepted."
REASON_HINT = f"at most {MAX_REASON_BYTES} bytes of UTF-8 would be accepted."

_EVENTS: Mapping[str, str] = {
    "onRouteRemoved": "on_route_removed",
    "onEndpointTerminating": "on_endpoint_terminating",
    "onPolicyChanged": "on_policy_changed",
}


@dataclass(frozen=True, slots=True)
class CloseSpec:
    """`close` of a rule, with its defaults (docs/wsroute.md)."""

    on_route_removed: Mode = "Drain"
    on_endpoint_terminating: Mode = "Drain"
    on_policy_changed: Mode = "Drain"
    over: float = 30.0
    """Seconds."""
    code: int = 1012
    reason: str = "service restart"


DEFAULT = CloseSpec()


def parse_close(reader: Reader, place: str, rule: Mapping[str, Any]) -> CloseSpec | None:
    """Read `close` of a rule; None: it says what holds anyway."""
    written = rule.get("close")
    if not written:
        return None
    values: dict[str, Any] = {name: written[field] for field, name in _EVENTS.items() if field in written}
    drain = written.get("drain") or {}
    if "over" in drain:
        values["over"] = parse_timeout(drain["over"])
        if values["over"] is None:
            reader.report(f"{place}.close.drain.over", f"{shown(drain['over'])} was found, {TIMEOUT_HINT}")
    if "code" in drain:
        # The schema's integers may be written as 2.0; the API server stores 2.
        values["code"] = int(drain["code"])
        if not is_close_code(values["code"]):
            reader.report(f"{place}.close.drain.code", f"{shown(drain['code'])} was found, {CODE_HINT}")
    if "reason" in drain:
        values["reason"] = drain["reason"]
        if not is_close_reason(values["reason"]):
            reader.report(f"{place}.close.drain.reason", f"{shown(values['reason'])} was found, {REASON_HINT}")
    spec = CloseSpec(**values)
    return None if spec == DEFAULT else spec
