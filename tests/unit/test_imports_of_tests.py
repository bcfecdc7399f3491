"""Test files import nothing from test files: what several share stands in a module of its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]


def imported_tests(text: str) -> Iterator[str]:
    """Names of test files, or of tests, that a file imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if any(part.startswith("test_") for part in name.split(".")))


def test_no_file_imports_from_a_test_file() -> None:
    found = {path.relative_to(TESTS).as_posix(): list(imported_tests(path.read_text())) for path in TESTS.rglob("*.py")}

    assert len(found) > 100
    assert {path: names for path, names in found.items() if names} == {}


def test_import_of_a_test_file_is_seen_however_it_is_written() -> None:
    text = "import wire.test_a\nfrom wire.test_b import frame\nfrom wire import test_c, verbs\nfrom e2e.harness import test_d\n"

    assert list(imported_tests(text)) == ["wire.test_a", "wire.test_b.frame", "wire.test_c", "e2e.harness.test_d"]
