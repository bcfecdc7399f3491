"""Whose modules run: not those of the folder where a command is started, and of no other distribution without a word."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from demo import await_ready, end
from e2e.standalone import FREE

ROOT = Path(__file__).parents[2]
SLUICE, SLUICE_PROXY = (Path(sys.executable).with_name(name) for name in ("sluice", "sluice-proxy"))
THEIRS = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nraise SystemExit('a module of the user ran')\n"


@pytest.fixture(params=["modules", "packages"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A user's folder with modules of their own that have the names of ours, and of others that we import."""
    for name in ("proxy", "controller", "sluice", "click", "logging"):
        if request.param == "modules":
            tmp_path.joinpath(f"{name}.py").write_text(THEIRS)
        else:
            tmp_path.joinpath(name).mkdir()
            tmp_path.joinpath(name, "__init__.py").write_text(THEIRS.replace("__file__)", "__file__).parent"))
            tmp_path.joinpath(name, "__main__.py").write_text(THEIRS.replace("__file__)", "__file__).parent"))
    return tmp_path


def run(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KUBE"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_standalone_started_in_a_folder_with_modules_of_our_names_runs_ours(folder: Path) -> None:
    folder.joinpath("objects").mkdir()
    process = subprocess.Popen([str(SLUICE), "standalone", "objects", *FREE], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening ")
        admin = dict(part.split("=", 1) for part in line.split()[1:])["admin"]
        await_ready(process, admin)
        with urllib.request.urlopen(f"http://{admin}/routes", timeout=5) as answer:
            assert answer.read() == b"[]\n"
    finally:
        end(process)

    assert not folder.joinpath("ran").exists()


def test_help_of_standalone_is_that_of_our_proxy_in_any_folder(folder: Path) -> None:
    told = run(SLUICE, "standalone", "--help", folder=folder)

    assert "--drain-time" in told.stdout
    assert not folder.joinpath("ran").exists()


def test_controller_that_its_restarter_starts_is_ours_in_any_folder(folder: Path) -> None:
    """Without a cluster it ends and says why; the restarter does not start it again."""
    told = run(SLUICE, "controller", "--control-socket", folder / "s.sock", "--health", ":0", folder=folder, HOME=str(folder))

    assert "No API server is configured" in told.stderr
    assert told.returncode == 2
    assert not folder.joinpath("ran").exists()


@pytest.mark.parametrize("command", [SLUICE, SLUICE_PROXY])
@pytest.mark.parametrize("package", ["proxy", "controller"])
def test_package_of_another_distribution_before_ours_is_named_and_not_run(command: Path, package: str, tmp_path: Path) -> None:
    tmp_path.joinpath(package).mkdir()
    tmp_path.joinpath(package, "__init__.py").write_text(THEIRS)
    metadata = tmp_path / "other_thing-1.0.dist-info"
    metadata.mkdir()
    metadata.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: other-thing\nVersion: 1.0\n")
    metadata.joinpath("RECORD").write_text(f"{package}/__init__.py,,\n")

    told = run(command, "--version", folder=tmp_path, PYTHONPATH=str(tmp_path))

    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == (
        f'The package "{package}" that this Python imports is {tmp_path / package / "__init__.py"} '
        "of the distribution other-thing, which is not Sluice's; an environment of its own for Sluice would be accepted.\n"
    )
    assert not tmp_path.joinpath(package, "ran").exists()


def test_package_that_another_distribution_overwrote_is_named_and_not_run(tmp_path: Path) -> None:
    """Installers write over files of another distribution without a word; what was installed as ours is on record."""
    record = []
    for package in ("controller", "proxy", "sluice"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        digest = hashlib.sha256(tmp_path.joinpath(package, "__init__.py").read_bytes()).digest()
        record.append(f"{package}/__init__.py,sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},1\n")
    metadata = tmp_path / "sluice-0.1.0.dist-info"
    metadata.mkdir()
    metadata.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: sluice\nVersion: 0.1.0\n")
    metadata.joinpath("RECORD").write_text("".join(record))
    command = (sys.executable, "-P", "-m", "sluice", "--version")

    installed = run(*command, folder=tmp_path, PYTHONPATH=str(tmp_path))
    tmp_path.joinpath("proxy", "__init__.py").write_text(THEIRS)
    overwritten = run(*command, folder=tmp_path, PYTHONPATH=str(tmp_path))
    shutil.rmtree(tmp_path / "proxy")
    tmp_path.joinpath("proxy").mkdir()
    without = run(*command, folder=tmp_path, PYTHONPATH=str(tmp_path))

    assert (installed.returncode, installed.stdout) == (0, "sluice, version 0.1.0\n")
    assert overwritten.returncode == 2
    assert f"imports is {tmp_path / 'proxy' / '__init__.py'}, which is not Sluice's;" in overwritten.stderr
    assert overwritten.stderr.count("\n") == 1
    assert not tmp_path.joinpath("proxy", "ran").exists()
    assert without.returncode == 2
    assert without.stderr.startswith('The package "proxy" that this Python imports is ')
