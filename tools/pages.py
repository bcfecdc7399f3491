"""Pages whose tables are written from the code: what their scripts share."""

import sys
from collections.abc import Callable
from pathlib import Path


def between(text: str, name: str, table: str) -> str:
    """Return `text` with `table` between the two marks of that name; raises `ValueError` where they are not."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"The marks {start.strip()} and {end.strip()} were not found.")
    return before + start + table + end + after


def write_or_check(page: Path, wanted: Callable[[str], str]) -> int:
    """Write a page as `wanted` makes it of its text or, with --check, say by the exit code whether it is so."""
    text = page.read_text()
    if "--check" in sys.argv:
        return 0 if text == wanted(text) else 1
    page.write_text(wanted(text))
    return 0
