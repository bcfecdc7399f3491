"""Sluice under load, edits and kills for long: memory and descriptors stay flat, and no client loses what is its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))


@pytest.mark.timeout(MINUTES * 60 + 300)
@pytest.mark.parametrize("minutes", [MINUTES], ids=lambda minutes: f"{minutes:g} minutes")
def test_memory_and_descriptors_stay_flat_under_load_edits_and_kills(minutes: float, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as errors:
        command = [sys.executable, str(ROOT / "tools" / "soak.py"), f"{minutes:g}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)

    assert done.returncode == 0, f"{done.stdout[-8000:]}\nThe log is {log}."
