"""What the chart makes of the values in values/ stands in golden/. `make manifests` writes it anew; read the difference."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from chart.rendering import BUILD_SECONDS, CHART, ROOT, helm, objects, render
from render_manifests import INSTALL
from render_manifests import render as render_install

pytestmark = pytest.mark.timeout(BUILD_SECONDS)
VALUES = sorted(Path(__file__).parent.joinpath("values").glob("*.yaml"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart without its rules and its dashboard, which are handed on unchanged (test_monitoring.py) and change often."""
    folder = tmp_path_factory.mktemp("chart") / "sluice"
    shutil.copytree(CHART, folder)
    (folder / "files" / "rules.yaml").write_text("groups: []\n")
    (folder / "files" / "dashboard.json").write_text("{}\n")
    return folder


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_chart_gives_the_manifests_of_the_golden_file(values: Path, bare: Path) -> None:
    found = render(yaml.safe_load(values.read_text()), chart=bare)
    golden = values.parents[1] / "golden" / values.name
    if os.environ.get("SLUICE_GOLDEN") == "write":
        golden.write_text(found)

    assert found == golden.read_text()


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_helm_lint_strict_finds_nothing(values: Path) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", str(values))

    assert (done.returncode, done.stdout.count("[WARNING]"), done.stdout.count("[ERROR]")) == (0, 0, 0), done.stdout


def test_every_golden_file_has_its_values() -> None:
    golden = sorted(path.name for path in Path(__file__).parent.joinpath("golden").iterdir())

    assert golden == [path.name for path in VALUES]


def test_install_yaml_is_the_rendered_chart() -> None:
    assert INSTALL.read_text() == render_install(), "make manifests writes it anew"


def test_install_yaml_has_the_namespace_first_the_crd_and_all_that_the_chart_makes() -> None:
    documents = list(yaml.safe_load_all(INSTALL.read_text()))
    names = [(raw["kind"], raw["metadata"]["name"]) for raw in documents]
    made = {(raw["kind"], raw["metadata"]["name"]) for raw in objects()}

    assert names[:2] == [("Namespace", "sluice-system"), ("CustomResourceDefinition", "wsroutes.sluice.dev")]
    assert set(names[2:]) == made
    assert len(names[2:]) == len(made)


def test_crd_of_the_chart_is_that_of_the_manifests() -> None:
    name = "sluice.dev_wsroutes.yaml"

    assert [path.name for path in (CHART / "crds").iterdir()] == [name]
    assert (CHART / "crds" / name).read_text() == (ROOT / "manifests" / "crds" / name).read_text()


def test_packed_chart_renders_the_same(tmp_path: Path) -> None:
    assert helm("package", str(CHART), "--destination", str(tmp_path)).returncode == 0
    (packed,) = tmp_path.iterdir()

    assert render(chart=packed) == render()


def test_version_of_the_chart_is_that_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    line = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version = "))

    assert chart["appVersion"] == line.removeprefix("version = ").strip('"')
