"""Header fields that are changed on the way: `headers` of a rule, as the Gateway API's header modifiers have them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from controller.resources.reading.fields import Reader, shown

_FRAMING = "connection|content-length|keep-alive|proxy-connection|sec-websocket-.*|te|trailer|transfer-encoding|upgrade"
_REFUSED = {
    "request": re.compile(rf"(?:{_FRAMING}|expect|forwarded|host|x-forwarded-(?:for|host|port|proto)|x-real-ip|x-request-id)"),
    "response": re.compile(rf"(?:{_FRAMING})"),
}
"""Fields that the proxy writes itself, in lower case. The CRD's schema has the same."""


@dataclass(frozen=True, slots=True)
class HeaderModifierSpec:
    """Changes of the fields of one kind of message, each name in one of the three."""

    set: tuple[tuple[str, str], ...] = ()
    """Name and value; these take the place of all fields of their names."""
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


def parse_request_headers(reader: Reader, place: str, rule: Mapping[str, Any]) -> HeaderModifierSpec | None:
    """Read `headers.request` of a rule; None: nothing is changed."""
    return _parse(reader, place, rule, "request")


def parse_response_headers(reader: Reader, place: str, rule: Mapping[str, Any]) -> HeaderModifierSpec | None:
    """Read `headers.response` of a rule; None: nothing is changed."""
    return _parse(reader, place, rule, "response")


def _parse(reader: Reader, place: str, rule: Mapping[str, Any], kind: Literal["request", "response"]) -> HeaderModifierSpec | None:
    written = (rule.get("headers") or {}).get(kind) or {}
    fields = {action: tuple((item["name"], item["value"]) for item in written.get(action) or ()) for action in ("set", "add")}
    removed = tuple(written.get("remove") or ())
    if not removed and not any(fields.values()):
        return None
    place = f"{place}.headers.{kind}"
    names = {action: [name for name, _ in found] for action, found in fields.items()} | {"remove": list(removed)}
    _check_names(reader, place, names, _REFUSED[kind])
    return HeaderModifierSpec(fields["set"], fields["add"], removed)


def _check_names(reader: Reader, place: str, names: Mapping[str, Sequence[str]], refused: re.Pattern[str]) -> None:
    first: dict[str, str] = {}
    for action, found in names.items():
        for number, name in enumerate(found):
            lowered = name.lower()
            if refused.fullmatch(lowered) is not None:
                where = f"{place}.{action}[{number}]" + ("" if action == "remove" else ".name")
                sentence = "was found, which the proxy writes itself, as it frames, addresses or forwards the message; remove it."
                reader.report(where, f"{shown(name)} {sentence}")
            elif first.setdefault(lowered, action) != action:
                sentence = f"{shown(name)} was found in {first[lowered]} and {action}; one of them would be accepted."
                reader.report(place, sentence)
            elif lowered in (earlier.lower() for earlier in found[:number]):
                reader.report(f"{place}.{action}", f"{shown(name)} was found twice, once would be accepted.")
