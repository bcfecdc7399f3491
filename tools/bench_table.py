"""Write the README's table of the benchmarks from benchmarks/RESULTS.md; `--check` says whether it is up to date."""

import sys
from pathlib import Path

from pages import between, write_or_check

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
NAMES = {"haproxy": "HAProxy", "caddy": "Caddy", "envoy": "Envoy", "ours / best peer: plain / compiled": "ours / best"}


def table(results: str) -> str:
    """Return the first table of the results: medians alone, without goals."""
    lines = results[results.index("| load |") :].split("\n\n", 1)[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")][:-1] for line in lines)
    written = ["| " + " | ".join(NAMES.get(cell, cell) for cell in head) + " |", "|---" * len(head) + "|"]
    for name, *cells, ratios in rows:
        written.append("| " + " | ".join([name, *(cell.split(" ")[0] for cell in cells), ratios]) + " |")
    return "\n".join(written) + "\n"


def with_table(text: str) -> str:
    """Return the README's text with the table as it should be."""
    return between(text, "bench", table(RESULTS.read_text()))


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, with_table))
