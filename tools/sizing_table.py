"""Write the table of sizes in docs/operations.md from benchmarks/RESULTS.md; `--check` says whether it is up to date."""

import sys
from pathlib import Path

from pages import between, write_or_check

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "operations.md"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
ROWS = (
    "HTTP, browser-like, µs",
    "HTTPS, browser-like, µs",
    "WS echo 64 B, µs",
    "WSS echo 64 B, µs",
    "WSS broadcast to 1,000, 64 B, µs",
    "connect, GET, close, µs",
    "memory per idle WS, KB",
    "memory per idle WSS, KB",
    "full TLS handshakes per CPU second, RSA 2048, 1/s",
    "full TLS handshakes per CPU second, ECDSA P-256, 1/s",
    "5,000 routes over none, MB, all processes, two workers",
    "longest answer while one route of 5,000 changes, ms",
    "changed file to first answer, 3,000 routes, ms",
)


def table() -> str:
    """Return the medians of ours; raises `KeyError` for a row that was not measured."""
    measured = {}
    for line in RESULTS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) > 2:
            measured[cells[0]] = [cell.split(" ")[0] for cell in cells[1:3]]
    rows = [f"| {name} | {' | '.join(measured[name])} |" for name in ROWS]
    return "\n".join(["| what | plain | compiled |", "|---|---|---|", *rows]) + "\n"


def with_table(text: str) -> str:
    """Return the page's text with the table as it should be."""
    return between(text, "sizing", table())


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, with_table))
