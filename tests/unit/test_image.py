"""What goes into the image: only that is left out which nothing of ours imports."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from image_root import CLIENT

ROOT = Path(__file__).parents[2]
CLIENT_PACKAGE = "kubernetes.aio"


def names_of_client(module: Path) -> set[str]:
    """Return what a module takes of the client, however it is written."""
    tree = ast.parse(module.read_text())
    whole, names = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not [one.name for one in node.names if one.name.startswith("kubernetes")], (
                f"{module}: from ... import is read here"
            )
        if isinstance(node, ast.ImportFrom) and node.module == CLIENT_PACKAGE:
            whole |= {one.asname or one.name for one in node.names if one.name == "client"}
        if isinstance(node, ast.ImportFrom) and node.module == f"{CLIENT_PACKAGE}.client":
            names |= {one.name for one in node.names}
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in whole}
    return names | used


def test_image_has_the_parts_of_the_client_that_the_controller_names_and_no_others() -> None:
    modules = [path for folder in ("controller", "proxy", "sluice") for path in (ROOT / folder).rglob("*.py")]

    assert sorted(set().union(*map(names_of_client, modules))) == sorted(CLIENT)


def test_image_is_made_by_a_python_without_any_package() -> None:
    without = "import sys; sys.path.insert(0, 'tools'); import image; print(image.IMAGE)"
    done = subprocess.run([sys.executable, "-S", "-c", without], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stdout) == (0, "localhost/sluice:dev\n"), done.stderr


def test_make_image_installs_nothing_of_python(tmp_path: Path) -> None:
    """In a fresh clone, where no environment is made yet."""
    command = ["make", "--dry-run", "--file", str(ROOT / "Makefile"), "PYTHON=python3", "image"]
    # Where tests run below a make, its flags would have this one say which folder it enters and leaves.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30, check=False)

    assert done.stdout.splitlines()[-2:] == ["tools/install-cluster-packages", "python3 tools/image.py"], done.stderr
    assert not [word for word in ("pip", "venv") if word in done.stdout]
