"""Write the tables of annotations in docs/ingress.md from the controller's own; `--check` says whether they are up to date."""

import sys
from pathlib import Path

from pages import between, write_or_check

from controller.resources.annotations.annotation import NGINX, Annotation, Guard
from controller.resources.annotations.table import FAMILIES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ingress.md"


def understood() -> str:
    """Return a row for each annotation that is read, by families."""
    rows = ["| annotation | values | meaning |", "|---|---|---|"]
    for family in FAMILIES:
        read = [annotation for annotation in family.annotations if annotation.understood]
        rows += [f"| **{family.title}** | | |"] if read else []
        rows += [f"| `{annotation.key}` | {annotation.values} | {annotation.says} |" for annotation in read]
    return "\n".join(rows) + "\n"


def unread() -> str:
    """Return a row for each thing that is said, with the keys of which it is said: those that protect come first."""
    rows: dict[tuple[bool, str, str], list[str]] = {}
    for family in FAMILIES:
        for annotation in family.annotations:
            if not annotation.understood:
                rows.setdefault(_group(annotation), []).append(annotation.name)
    return (
        "\n".join(
            [
                f"| `{NGINX}` | status | what the object is told |",
                "|---|---|---|",
                *(
                    f"| {', '.join(f'`{name}`' for name in sorted(rows[group]))} | {group[1]} | {_about_it(group[2])} |"
                    for group in sorted(rows, key=lambda group: not group[0])
                ),
            ]
        )
        + "\n"
    )


def _group(annotation: Annotation) -> tuple[bool, str, str]:
    return annotation.guard is not Guard.NONE, annotation.status, annotation.says


def _about_it(says: str) -> str:
    sentence = says.format(name="it")
    return sentence[0].upper() + sentence[1:]


def with_table(text: str) -> str:
    """Return the page's text with the tables as they should be."""
    return between(between(text, "annotations-read", understood()), "annotations", unread())


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, with_table))
