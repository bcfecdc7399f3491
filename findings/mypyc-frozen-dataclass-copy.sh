#!/bin/sh
# A frozen dataclass that mypyc compiled can be neither copied nor pickled: both end with FrozenInstanceError.
#
# Expected: frozen dataclasses are values: copy.copy(), copy.deepcopy() and pickle work on them as on any other class, and a module that mypyc
#   compiles behaves as its source does.
# Happens: a compiled class has no __dict__, so copying sets the attributes one by one, by the __setattr__ with which the dataclass refuses
#   assignments. The same class that is not frozen works, compiled or not; the frozen one works as long as it is not compiled.
#   Reported for multiprocessing as issue 1213 of mypyc/mypyc.
# Matters: the error comes far from its cause and in the compiled build alone: from a queue of multiprocessing, a cache, a copy.deepcopy() of
#   a record that holds one. Tests have to run over the compiled modules too. dataclasses.replace() works.
# Needs: Python 3.11 or newer with its headers, a C compiler.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check mypy==2.4.1 setuptools==80.9.0

"$work/venv/bin/python" -c 'import sys, importlib.metadata as m; print("Python", sys.version.split()[0] + ", mypy", m.version("mypy"))'
cat >"$work/records.py" <<'PYTHON'
from dataclasses import dataclass


@dataclass
class Open:
    number: int


@dataclass(frozen=True)
class Frozen:
    number: int
PYTHON
cat >"$work/try.py" <<'PYTHON'
import copy
import dataclasses
import pickle

import records

build = "plain" if records.__file__.endswith(".py") else "compiled"
ways = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "replace": lambda value: dataclasses.replace(value, number=7),
}
for kind in (records.Open, records.Frozen):
    for name, way in ways.items():
        try:
            found = str(way(kind(7)).number)
        except Exception as error:  # whatever it says
            found = f"{type(error).__name__}: {error}"
        print(f"{build} {kind.__name__}, {name}: {found}")
PYTHON
cd "$work"
venv/bin/python try.py >found
venv/bin/mypyc records.py >log 2>&1 || { cat log; exit 1; }
venv/bin/python try.py >>found
cat found
cat >expected <<'TEXT'
plain Open, copy: 7
plain Open, deepcopy: 7
plain Open, pickle: 7
plain Open, replace: 7
plain Frozen, copy: 7
plain Frozen, deepcopy: 7
plain Frozen, pickle: 7
plain Frozen, replace: 7
compiled Open, copy: 7
compiled Open, deepcopy: 7
compiled Open, pickle: 7
compiled Open, replace: 7
compiled Frozen, copy: FrozenInstanceError: cannot assign to field 'number'
compiled Frozen, deepcopy: FrozenInstanceError: cannot assign to field 'number'
compiled Frozen, pickle: FrozenInstanceError: cannot assign to field 'number'
compiled Frozen, replace: 7
TEXT
diff expected found || { echo "The behaviour has changed."; exit 1; }
