"""Write the table of ingress-nginx's values in docs/migration.md from the chart; `--check` says whether it is up to date."""

import sys
from pathlib import Path

import yaml
from pages import between, write_or_check

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "charts" / "sluice" / "files" / "ingress-nginx.yaml"
PAGE = ROOT / "docs" / "migration.md"


def table() -> str:
    """Return a row for each value: its name there, and what stands for it here."""
    rows = [f"| `{there}` | {here} |" for there, here in yaml.safe_load(TABLE.read_text()).items()]
    return "\n".join(["| value of ingress-nginx's chart | here |", "|---|---|", *rows]) + "\n"


def with_table(text: str) -> str:
    """Return the page's text with the table as it should be."""
    return between(text, "chart values", table())


def without_table(text: str) -> str:
    """Return the page's text with nothing where the table is."""
    return between(text, "chart values", "") if "<!-- chart values -->" in text else text


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, with_table))
