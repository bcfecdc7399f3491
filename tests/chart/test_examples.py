"""The examples in manifests/examples: each is one file that can be applied as it is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from chart.rendering import ROOT

EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("*.yaml"))


def test_there_are_examples_for_each_of_the_first_questions() -> None:
    assert [path.stem for path in EXAMPLES] == ["canary", "ingress", "limits", "socketio", "tls"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_lint_of_an_example_misses_the_certificate_only(example: Path, tmp_path: Path) -> None:
    tmp_path.joinpath(example.name).write_text(example.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "controller.cli", "lint", "--format", "json", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=ROOT,
    )
    secrets = ["SecretNotFound"] if "secretName" in example.read_text() else []

    assert [problem["reason"] for problem in json.loads(done.stdout)] == secrets


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_has_a_route_of_our_class_and_the_services_it_names(example: Path) -> None:
    documents = list(yaml.safe_load_all(example.read_text()))
    routes = [raw for raw in documents if raw["kind"] in ("WsRoute", "Ingress")]

    assert [raw["spec"]["ingressClassName"] for raw in routes] == ["sluice"]
    assert {raw["kind"] for raw in documents} - {"WsRoute", "Ingress"} == {"Service"}
