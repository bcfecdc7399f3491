"""Cgroups of version 1 for a node of Kubernetes: one child in each hierarchy of the group that this process is in."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")
GONE_WITHIN = 20.0
"""Seconds after a kill within which a group must be empty of processes."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy and where this process is in it."""

    name: str
    """Name of its mount point below /sys/fs/cgroup."""
    options: str
    """Options of `mount -o` to mount it again."""
    here: Path


def hierarchies() -> list[Hierarchy]:
    """Return the hierarchies of version 1 that are mounted; empty where the machine has version 2 alone."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    current = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines) if controllers}
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        mounted = next((one for one in current if set(one.split(",")) <= set(options.split(","))), None)
        if kind == "cgroup" and mounted is not None:
            again = f"none,{mounted}" if mounted.startswith("name=") else mounted
            found.append(Hierarchy(Path(folder).name, again, Path(folder, current[mounted].lstrip("/"))))
    return found


def missing() -> list[str]:
    """Return the controllers that a node needs and that are not mounted."""
    there = {name for hierarchy in hierarchies() for name in hierarchy.options.split(",")}
    return [name for name in NEEDED if name not in there]


def make(name: str) -> list[Path]:
    """Make a child of that name in each hierarchy; return the files to which a process writes its id to enter them all."""
    entrances = []
    for hierarchy in hierarchies():
        child = hierarchy.here / name
        child.mkdir()
        if hierarchy.options == "cpuset":
            # A new group has no processors and no memory, and nothing may enter it.
            for setting in ("cpuset.cpus", "cpuset.mems"):
                (child / setting).write_text((hierarchy.here / setting).read_text())
        entrances.append(child / "cgroup.procs")
    return entrances


def remove(name: str) -> None:
    """Remove the children of that name, with all below them, as soon as the processes in them have ended."""
    deadline = time.monotonic() + GONE_WITHIN
    for hierarchy in hierarchies():
        child = hierarchy.here / name
        while child.exists():
            # Depth first: a group that has groups is as busy as one that has processes.
            for group in sorted((path for path in child.rglob("*") if path.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    group.rmdir()
            try:
                child.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)  # nothing tells of the end of the last process of a group
