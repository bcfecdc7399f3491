"""Strict-Transport-Security: `tls.hsts` of a WsRoute."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.reading.fields import Reader, parse_duration, shown

LONGEST = 87600 * 3600
"""Seconds; bound of the CRD's schema."""
PRELOADED = 8760 * 3600
"""Seconds that browsers' lists ask for at least."""


@dataclass(frozen=True, slots=True)
class HstsSpec:
    """What browsers are told; `max_age` in seconds."""

    max_age: int
    include_subdomains: bool = False
    preload: bool = False
    override: bool = False


def parse_hsts(reader: Reader, place: str, tls: Mapping[str, Any]) -> HstsSpec | None:
    """Read `hsts` of a WsRoute's `tls`, which stands at `place`; None: it is absent, or wrong."""
    written = tls.get("hsts")
    if written is None:
        return None
    place = f"{place}.hsts"
    text = written.get("maxAge", "8760h")
    seconds = parse_duration(text)
    if seconds is None or seconds > LONGEST:
        reader.report(f"{place}.maxAge", f"{shown(text)} was found, a duration of at most 87600h would be accepted.")
        return None
    spec = HstsSpec(
        int(seconds), bool(written.get("includeSubDomains")), bool(written.get("preload")), bool(written.get("override"))
    )
    if spec.preload and (not spec.include_subdomains or spec.max_age < PRELOADED):
        sentence = "true was found; browsers' lists take a host with includeSubDomains and a maxAge of at least 8760h."
        reader.report(f"{place}.preload", sentence)
        return None
    return spec
