"""What reads bytes of strangers, on mutations of the corpus of `tests/fuzz`, for long: it fails in no other way than it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz"
SECONDS = int(os.environ.get("FUZZ_TIME", "60"))


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("seconds", [SECONDS], ids=lambda seconds: f"{seconds} seconds")
def test_mutations_of_the_corpus_break_no_promise(seconds: int) -> None:
    done = subprocess.run([sys.executable, str(FUZZ), str(seconds)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
