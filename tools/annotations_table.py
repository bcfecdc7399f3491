"""Write the table of annotations in docs/ingress.md from what the controller says; `--check` says whether it is up to date."""

import sys
from pathlib import Path

from pages import between, write_or_check

from controller.resources.annotations.ingress_nginx import GUARDS, INSTEAD

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ingress.md"


def table() -> str:
    """Return a row for each thing that is said, with the keys of which it is said: those that protect come first."""
    together: dict[str, list[str]] = {}
    for name in sorted(INSTEAD, key=lambda name: (name not in GUARDS, list(INSTEAD.values()).index(INSTEAD[name]), name)):
        together.setdefault(INSTEAD[name], []).append(f"`{name}`")
    rows = [f"| {', '.join(names)} | {sentence[0].upper()}{sentence[1:]} |" for sentence, names in together.items()]
    return "\n".join(["| `nginx.ingress.kubernetes.io/` | what the object is told |", "|---|---|", *rows]) + "\n"


def with_table(text: str) -> str:
    """Return the page's text with the table as it should be."""
    return between(text, "annotations", table())


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, with_table))
