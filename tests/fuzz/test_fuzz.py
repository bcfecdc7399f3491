"""The corpus, with every finding in it, and some thousand mutations of it, on every run; `make fuzz` for longer."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from targets import TARGETS  # noqa: E402  a folder of its own

_spec = importlib.util.spec_from_file_location("fuzz_main", HERE / "__main__.py")
assert _spec is not None
assert _spec.loader is not None
fuzz_main = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz_main)

MUTATIONS = 3000


@pytest.mark.parametrize("path", sorted((HERE / "corpus").glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_corpus_breaks_no_promise(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_break_no_promise(name: str) -> None:
    done, found = fuzz_main.fuzz(name, 10.0, MUTATIONS, random.randrange(2**32))  # noqa: S311  no secret

    assert found is None, found
    assert done >= MUTATIONS / 10
