"""What `sluice standalone` holds in memory while nobody asks it anything, per process: `python tools/idle_memory.py [DIR]`.

Pss_Anon is what processes wrote, a page that n of them share counted by an nth each, so that the sum counts it once. Rss counts
shared pages in every process, and files that anybody else would hold too. proc(5) has both.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FREE = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0"]


@dataclass(frozen=True, slots=True)
class Held:
    """The memory of one process, in KiB."""

    role: str
    pid: int
    pss_anon: int
    rss: int


def children(pid: int) -> list[int]:
    """Return the processes that a process started, the oldest first."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def held(role: str, pid: int) -> Held:
    """Look at one process; Linux adds its mappings up."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return Held(role, pid, found["Pss_Anon"], found["Rss"])


def held_by_standalone(pid: int) -> list[Held]:
    """Look at `sluice standalone` with all its processes."""
    (supervisor,) = children(pid)
    workers = children(supervisor)
    return [held("controller", pid), held("supervisor", supervisor), *(held("worker", worker) for worker in workers)]


def main() -> None:
    """Start, wait, look, end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="objects to serve; none: an empty folder")
    parser.add_argument("--seconds", type=float, default=30.0, help="after the start (default: 30)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one object per process instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        command = [sys.executable, "-P", "-m", "sluice", "standalone", str(arguments.folder or empty)]
        began = time.monotonic()
        process = subprocess.Popen([*command, *FREE, "--workers", str(arguments.workers)], stdout=subprocess.PIPE, text=True)
        try:
            if process.stdout is None or not process.stdout.readline():
                sys.exit("sluice standalone ended; its own lines say why.")
            time.sleep(max(0.0, began + arguments.seconds - time.monotonic()))
            found = held_by_standalone(process.pid)
        finally:
            process.terminate()
            process.wait()
    if arguments.json:
        print(json.dumps([{"role": one.role, "pss_anon_kib": one.pss_anon, "rss_kib": one.rss} for one in found]))
        return
    print(f"{'':12}{'Pss_Anon':>10}{'Rss':>10}  MB, {os.uname().machine}, Python {sys.version.split()[0]}")
    for one in found:
        print(f"{one.role:12}{one.pss_anon * 1.024e-3:10.1f}{one.rss * 1.024e-3:10.1f}")
    print(f"{'sum':12}{sum(one.pss_anon for one in found) * 1.024e-3:10.1f}")


if __name__ == "__main__":
    main()
