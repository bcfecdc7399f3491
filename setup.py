"""Compiles the modules of the hot path with mypyc where SLUICE_NATIVE=1 asks for it; else the package is plain Python.

The Python modules are the reference: the same tests run over both, and an install without a compiler lacks nothing but speed.
"""

import os
from pathlib import Path

from setuptools import setup

MARK = "# Compiled by mypyc: see setup.py.\n"
"""First line of each module that traffic passes through. No subclass of asyncio's or msgspec's classes can be compiled."""

if os.environ.get("SLUICE_NATIVE") == "1":
    from mypyc.build import mypycify

    os.chdir(Path(__file__).parent)
    marked = sorted(str(path) for path in Path("proxy").rglob("*.py") if path.read_text().startswith(MARK))
    setup(ext_modules=mypycify(marked, group_name="sluice", opt_level="3", debug_level="0"))
else:
    setup()
