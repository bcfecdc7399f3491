"""The path that the backend sees: `rewrite` of a rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.reading.fields import PATH_HINT, Reader, is_literal_path, shown


@dataclass(frozen=True, slots=True)
class RewriteSpec:
    """What takes the place of the path's prefix, or of a path of type Exact."""

    prefix: str
    answers: bool = False
    """Paths in answers get back what the rewrite took."""


def parse_rewrite(reader: Reader, place: str, rule: Mapping[str, Any]) -> RewriteSpec | None:
    """Read `rewrite` of a rule; None: it is absent."""
    written = rule.get("rewrite")
    if written is None:
        return None
    prefix: str = written["prefix"]
    if (rule.get("path") or {}).get("type") == "Regex":
        reader.report(f"{place}.rewrite", "was found with a path of type Regex; a path of type Prefix or Exact would be accepted.")
    if not is_literal_path(prefix):
        reader.report(f"{place}.rewrite.prefix", f"{shown(prefix)} was found, {PATH_HINT}")
    return RewriteSpec(prefix, bool(written.get("answers")))
