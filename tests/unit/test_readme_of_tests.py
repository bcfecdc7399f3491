"""The tables of tests/README.md and tests/wire/README.md name tests that are there, the latter for every promise."""

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


def test_every_promise_of_the_wire_has_its_tests() -> None:
    promised = re.findall(r'<a id="([^"]+)">', (TESTS.parent / "docs" / "wire.md").read_text())
    found = {
        promise: re.findall(r"`(test_\w+\.py|tests/[\w/.]+)`", row)
        for row in (TESTS / "wire" / "README.md").read_text().splitlines()
        for promise in re.findall(r"wire\.md#([\w-]+)", row)
    }
    files = [name if "/" in name else f"tests/wire/{name}" for names in found.values() for name in names]

    assert [promise for promise in promised if not found.get(promise)] == []
    assert [file for file in files if not (TESTS.parent / file).exists()] == []
    assert len(promised) == len(set(promised))
