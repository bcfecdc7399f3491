"""The page of the slow tests has what is in the tree, and when it was run."""

import ast
import re
from pathlib import Path

from slow_results import HEAD, results_page

SLOW = Path(__file__).parents[1] / "slow"
REPORT = """<testsuites><testsuite>
<testcase classname="tests.slow.test_a" name="test_one[30 minutes]" time="1800.4"/>
<testcase classname="tests.slow.test_a" name="test_two" time="0.2"><failure message="x">x</failure></testcase>
<testcase classname="tests.slow.test_b" name="test_three" time="0"><skipped message="no Go"/></testcase>
<testcase classname="tests.slow.test_b" name="test_four" time="1"><error message="x">x</error><system-out>x</system-out></testcase>
</testsuite></testsuites>"""


def test_results_page_has_a_row_for_each_test() -> None:
    found = results_page(REPORT, date="2026-01-02", commit="0123456789ab", machine="Python 3.11.7")

    assert found == (
        f"{HEAD}\n2026-01-02, commit 0123456789ab; Python 3.11.7.\n\n| test | result | seconds |\n|---|---|---|\n"
        "| `test_a.py::test_one[30 minutes]` | passed | 1800 |\n"
        "| `test_a.py::test_two` | failed | 0 |\n"
        "| `test_b.py::test_three` | skipped | 0 |\n"
        "| `test_b.py::test_four` | failed | 1 |\n"
    )


def test_every_slow_test_has_passed_on_a_commit_that_is_named() -> None:
    page = (SLOW / "RESULTS.md").read_text()
    passed = {f"{file}::{name}" for file, name in re.findall(r"^\| `(\S+)::(\w+)(?:\[.*\])?` \| passed \|", page, re.MULTILINE)}
    there = {
        f"{path.name}::{node.name}"
        for path in SLOW.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }

    assert passed == there
    assert re.search(r"^20\d\d-\d\d-\d\d, commit [0-9a-f]{12}( and changes)?; ", page, re.MULTILINE)
