"""Write tests/slow/RESULTS.md from what pytest reported of `make test-slow`.

slow_results.py REPORT     REPORT is XML as JUnit's, which pytest wrote
"""

import datetime as dt
import os
import platform
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "tests" / "slow" / "RESULTS.md"
HEAD = """# The last results of `make test-slow`

Written by `tools/slow_results.py` when a run ends. These tests take more than a minute, or need what takes more than three to
build; CI does not run them.
"""


def results_page(report: str, *, date: str, commit: str, machine: str) -> str:
    """Return the page of a run: where and when it was, and a row for each test of the report in JUnit's XML."""
    rows = []
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314  pytest's own
        found = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        result = next((found[part.tag] for part in case if part.tag in found), "passed")
        file = case.get("classname", "").rpartition(".")[2]
        rows.append(f"| `{file}.py::{case.get('name')}` | {result} | {float(case.get('time', '0')):.0f} |\n")
    return f"{HEAD}\n{date}, commit {commit}; {machine}.\n\n| test | result | seconds |\n|---|---|---|\n{''.join(rows)}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    """Write the page; return the exit code."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", f":!{PAGE.relative_to(ROOT)}")
    commit = _git("rev-parse", "--short=12", "HEAD") + (" and changes" if changed else "")
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    date = dt.datetime.now(dt.UTC).date().isoformat()
    PAGE.write_text(results_page(Path(sys.argv[1]).read_text(), date=date, commit=commit, machine=machine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
