"""Logs are named after rooms, and docs/operations.md lists all of them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r'getLogger\("([^"]+)"\)')


def named() -> list[tuple[str, str]]:
    """Return the log of each place that has one: its room, the log's name."""
    return [
        (path.parent.name, name)
        for program in ("proxy", "controller")
        for path in sorted((ROOT / program).rglob("*.py"))
        for name in NAMED.findall(path.read_text())
    ]


@pytest.mark.parametrize(("room", "log"), [(room, log) for room, log in sorted(set(named())) if not log.endswith(".requests")])
def test_log_is_named_after_its_room(room: str, log: str) -> None:
    assert log == f"sluice.{room}"


def test_operations_page_lists_every_log() -> None:
    listed = re.findall(r"^\| `(sluice\.[a-z.]+)` \|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)

    assert sorted(listed) == sorted({log for _, log in named()} - {"sluice.admin.requests"})
