"""The chart through the real helm."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_binaries import BuildError, build

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "sluice"
SECONDS = 60.0
BUILD_SECONDS = 1200
"""What the first test may wait for a program that is built from source."""


def program(name: str) -> str:
    """Return where a program is; where this machine cannot build it the test is skipped, in CI it fails."""
    try:
        return str(build(name))
    except BuildError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def helm(*arguments: str, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm; `values` go in by its standard input."""
    given = [] if values is None else ["--values", "-"]
    return subprocess.run(
        [program("helm"), *arguments, *given],
        input="" if values is None else yaml.safe_dump(dict(values)),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def render(values: Mapping[str, Any] | None = None, *, namespace: str = "sluice-system", chart: Path = CHART) -> str:
    """Return what the chart makes of some values for a release named sluice, its test left out."""
    done = helm("template", "sluice", str(chart), "--namespace", namespace, "--skip-tests", values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(values: Mapping[str, Any] | None = None, *, namespace: str = "sluice-system") -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(render(values, namespace=namespace)) if one]


def one(found: list[dict[str, Any]], kind: str, name: str = "sluice") -> dict[str, Any]:
    """Return the one object of a kind and name."""
    (only,) = [raw for raw in found if raw["kind"] == kind and raw["metadata"]["name"] == name]
    return only


def containers(found: list[dict[str, Any]], kind: str = "Deployment") -> dict[str, dict[str, Any]]:
    """Return the containers of the pod by name."""
    return {container["name"]: container for container in one(found, kind)["spec"]["template"]["spec"]["containers"]}
