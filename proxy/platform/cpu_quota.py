"""How many CPUs this process may use: what the scheduler allows, cut by the cgroup's quota (v2, then v1)."""

import math
import os
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")


def cpu_limit(mount: Path = _MOUNT, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return the tightest CPU quota of our cgroup and its ancestors, in CPUs; None: there is none, or it cannot be read."""
    limits = []
    for relative in _own_groups(membership):
        group = mount / relative.lstrip("/")
        while True:
            limit = _quota_v2(group)
            if limit is not None:
                limits.append(limit)
            if group == mount or mount not in group.parents:
                break
            group = group.parent
    limit = _quota_v1(mount / "cpu")
    if limit is not None:
        limits.append(limit)
    return min(limits, default=None)


def available_cpus() -> int:
    """Return the number of workers that `--workers auto` starts: whole CPUs that we may use, at least one.

    A quota of 1.5 CPUs gives two workers: one would leave a third of it unused.
    """
    cpus = len(os.sched_getaffinity(0))
    limit = cpu_limit()
    return max(1, cpus if limit is None else min(cpus, math.ceil(limit)))


def _own_groups(membership: Path) -> list[str]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return [""]
    # cgroups(7): hierarchy-ID:controllers:path; version 2 has no controllers. Inside a container the path may not exist here.
    return ["", *(parts[2] for line in lines if len(parts := line.split(":", 2)) == 3 and not parts[1])]


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
