"""Which requests stay with one endpoint: `affinity` of a rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.resources.reading.fields import TIMEOUT_HINT, Reader, parse_timeout, shown

SameSite = Literal["Lax", "Strict", "None"]


@dataclass(frozen=True, slots=True)
class AffinityCookie:
    """The cookie that names an endpoint."""

    name: str = "SLUICE"
    max_age: float = 0.0
    """Seconds; 0: until the browser ends."""
    same_site: SameSite = "Lax"


@dataclass(frozen=True, slots=True)
class Affinity:
    """By what a client is known again."""

    cookie: AffinityCookie | None = None
    engine_io: bool = False
    """By the session id of Engine.IO."""


def parse_affinity(reader: Reader, place: str, rule: Mapping[str, Any]) -> Affinity | None:
    """Read `affinity` of a rule; None: it is absent."""
    written = rule.get("affinity")
    if written is None:
        return None
    if "cookie" not in written and "engineIO" not in written:
        reader.report(f"{place}.affinity", "neither cookie nor engineIO was found, at least one of them would be accepted.")
    cookie = _parse_cookie(reader, f"{place}.affinity.cookie", written["cookie"]) if "cookie" in written else None
    return Affinity(cookie, "engineIO" in written)


def _parse_cookie(reader: Reader, place: str, written: Mapping[str, Any]) -> AffinityCookie:
    age = 0.0
    text = written.get("maxAge")
    if text is not None:
        seconds = parse_timeout(text)
        if seconds is None:
            reader.report(f"{place}.maxAge", f"{shown(text)} was found, {TIMEOUT_HINT}")
        else:
            age = seconds
    return AffinityCookie(written.get("name", "SLUICE"), age, written.get("sameSite", "Lax"))
