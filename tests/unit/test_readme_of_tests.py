"""The table of tests/README.md names tests that are there."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PROMISES = 12
"""What the table must hold at least: the features that no peer has."""


def rows() -> list[list[str]]:
    lines = (TESTS / "README.md").read_text().splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]


def missing(named: list[str]) -> list[str]:
    """Those that are not there, as `folder/file` or `folder/file::test`."""
    found = []
    for name in named:
        path, _, test = name.partition("::")
        file = TESTS / path
        if not file.is_file() or (test and f"def {test}(" not in file.read_text()):
            found.append(name)
    return found


def test_tests_that_the_table_names_exist() -> None:
    named = [name for row in rows() for name in re.findall(r"`([^`]+)`", row[1])]

    assert missing(named) == []
    assert missing(["unit/no_such_file.py", "unit/test_docs.py::test_no_such", "unit/test_docs.py"]) == [
        "unit/no_such_file.py",
        "unit/test_docs.py::test_no_such",
    ]


def test_each_promise_has_tests_a_peer_and_a_public_source() -> None:
    found = rows()
    wrong = [row[0] for row in found if len(row) != 4 or "`" not in row[1] or not row[2] or not re.search(r"#\d|/|`", row[3])]

    assert wrong == []
    assert len(found) >= PROMISES
