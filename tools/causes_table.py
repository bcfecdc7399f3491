"""Write the tables of causes in docs/troubleshooting.md from the code; `--check` says whether they are up to date.

Those of sockets stand in the same page, which docs/closing.md leads to.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from pages import between, write_or_check

from proxy.http.causes import CLIENT, FILTERS, REFUSALS, SOCKETS, UPSTREAM

TABLES = (
    ("upstream causes", UPSTREAM),
    ("client causes", CLIENT),
    ("filter causes", FILTERS),
    ("refusal causes", REFUSALS),
    ("socket causes", SOCKETS),
)
PAGE = Path(__file__).resolve().parent.parent / "docs" / "troubleshooting.md"


def table(causes: Mapping[str, str]) -> str:
    """Return a row for each cause."""
    rows = [f"| `{cause}` | {meaning} |" for cause, meaning in causes.items()]
    return "\n".join(["| cause | meaning |", "|---|---|", *rows]) + "\n"


def with_tables(text: str) -> str:
    """Return the page's text with the tables as they should be."""
    for name, causes in TABLES:
        text = between(text, name, table(causes))
    return text


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, with_tables))
