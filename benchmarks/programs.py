"""The programs of the benchmarks that are in C, compiled when they are first needed."""

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILT = HERE.parent / "build" / "bench"
LIBRARIES = {
    "relay": (),
    "open_loop": ("-lssl", "-lcrypto", "-lm"),
    "handshakes": ("-lssl", "-lcrypto"),
    "greedy": ("-lssl", "-lcrypto"),
    "greedy_backend": ("-lcrypto",),
    "innocent": (),
}


def program(name: str) -> Path:
    """Return a program, compiled from NAME.c unless that was done since it changed."""
    source, found = HERE / f"{name}.c", BUILT / name
    if not found.exists() or found.stat().st_mtime < source.stat().st_mtime:
        BUILT.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", str(found), str(source), *LIBRARIES[name]], check=True)
    return found
