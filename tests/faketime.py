"""A time of day that a test sets for its own processes, by libfaketime; the monotonic clock is left alone."""

import os
from pathlib import Path

import pytest


class Clock:
    """The time of day of the processes that are started with its environment."""

    def __init__(self, file: Path, seconds: int) -> None:
        """Stand `seconds` beside the machine's own."""
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
        if library is None:
            message = "a clock is shifted by libfaketime, which is missing: run tools/install-test-packages"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        self.step(seconds)

    def step(self, seconds: int) -> None:
        """Stand that many seconds beside the machine's from now on; a reader sees the old or the new time, never half of it."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.rename(self._file)
