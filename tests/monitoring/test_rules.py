"""The alert rules of the chart, by Debian's promtool."""

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RULES = ROOT / "charts" / "sluice" / "files" / "rules.yaml"


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    command = ["promtool", "test", "rules", str(HERE / "rules.test.yaml")]
    told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)

    assert (told.returncode, told.stderr) == (0, ""), told.stdout + told.stderr


def test_each_alert_is_tested_both_ways() -> None:
    tested: dict[str, set[bool]] = {}
    for case in yaml.safe_load((HERE / "rules.test.yaml").read_text())["tests"]:
        last = case["alert_rule_test"][-1]
        tested.setdefault(last["alertname"], set()).add(bool(last["exp_alerts"]))

    assert tested == {rule["alert"]: {True, False} for rule in rules()}


def test_each_alert_says_how_bad_it_is_and_what_it_means() -> None:
    wrong = [
        rule["alert"]
        for rule in rules()
        if rule["labels"].get("severity") not in ("info", "warning", "critical")
        or rule["annotations"].keys() != {"summary", "description"}
    ]

    assert wrong == []


def test_page_for_operators_names_each_alert_in_its_table() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()

    assert re.findall(r"^\| `(Sluice\w+)` \|", text, re.MULTILINE) == [rule["alert"] for rule in rules()]
