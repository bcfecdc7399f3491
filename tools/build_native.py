"""Builds the proxy with its hot modules compiled, in build/native: a package `proxy` to put before the plain one on the path.

Does nothing where it is newer than every module. Usage: build_native.py
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NATIVE = ROOT / "build" / "native"


def main() -> int:
    """Build; return the compiler's exit status."""
    sources = [*(ROOT / "proxy").rglob("*.py"), ROOT / "setup.py"]
    stamp = NATIVE / ".made"
    if stamp.exists() and stamp.stat().st_mtime >= max(path.stat().st_mtime for path in sources):
        return 0
    shutil.rmtree(NATIVE, ignore_errors=True)
    # Copies, so that what is compiled lies beside what is not, and the tree stays as it is.
    shutil.copytree(ROOT / "proxy", NATIVE / "proxy", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, NATIVE / name)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    status = subprocess.run(command, cwd=NATIVE, env={**os.environ, "SLUICE_NATIVE": "1"}, check=False).returncode
    if status == 0:
        shutil.rmtree(NATIVE / "build")
        stamp.touch()
    return status


if __name__ == "__main__":
    sys.exit(main())
