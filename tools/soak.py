"""`make soak`: `sluice standalone` under load, edits and kills for SOAK_MINUTES; ends with 0 if it stayed flat, else with 1.

Routes, EndpointSlices and the certificate are rewritten each second; the younger of two workers is killed now and then, so that the
other one shows a whole run. Flat: RSS hardly rises after a warm-up, and descriptors and tasks are back to what they were after the
load.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import aiohttp
from demo import DemoError, _start_backend, sluice
from prometheus_client.parser import text_string_to_metric_families
from soak_load import Load, write

SAMPLE_EVERY = 5.0
KILL_EVERY = 45.0
EDIT_EVERY = 1.0
SETTLE = 90.0
"""Seconds in which descriptors must be back after the load; idle connections to backends are kept for 60."""
WARM_UP = 180.0
"""Seconds in which memory is not judged; a quarter of longer runs. What a worker remembers of field lines is full for the first
time after 165, and its heap grows until it has seen as many connections at once as there will be."""
JUDGED = 120.0
"""Seconds that are left at least; in less, a step of the heap looks like growth."""
BOUNDS = {"controller": 256.0, "supervisor": 256.0, "worker": 256.0, "replaced": 512.0}
"""KiB per minute by which the highest RSS may rise after the warm-up; `replaced`: of killed workers, at their last."""
SPARE = 2
"""Descriptors that a process may have more than before the load."""
CLIENTS = {"request": 12, "echo": 30, "vanish": 4}
GAUGES = (
    *("sluice_connections", "sluice_ws_connections", "sluice_upstream_connections", "sluice_worker_tasks"),
    "sluice_worker_restarts_total",
)
COUNTS = ("edits", "kills", "requests", "messages", "drained", "vanished", "lost")
ROLES = ("controller", "supervisor", "worker", "younger")
FREE = ["--workers", "2", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-time", "1s"]


def children(pid: int) -> list[int]:
    """Return the processes that a process started, the oldest first."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def usage(pid: int) -> tuple[float, int]:
    """Return a process's RSS in KiB and how many descriptors it has open."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Soak:
    """One run: the processes, what disturbs them and what was measured."""

    def __init__(self, folder: Path, ports: list[int], pid: int, listening: dict[str, str]) -> None:
        self.folder, self.ports, self.pid, self.admin = folder, ports, pid, listening["admin"]
        self.supervisor = children(pid)[0]
        self.steady = children(self.supervisor)[0]
        self.load = Load(listening)
        self.rss: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)

    def younger(self) -> list[int]:
        """Return the workers that may be killed."""
        return [pid for pid in children(self.supervisor) if pid != self.steady]

    async def edit(self) -> None:
        """Rewrite all objects; clients use the new paths a little later."""
        turn = self.load.count["edits"] = self.load.count["edits"] + 1
        await asyncio.to_thread(write, self.folder, self.ports, turn)
        await asyncio.sleep(EDIT_EVERY / 2)
        self.load.turn = turn
        await asyncio.sleep(EDIT_EVERY / 2)

    async def kill(self) -> None:
        """Kill the worker that is not the steady one."""
        await asyncio.sleep(KILL_EVERY)
        for pid in self.younger():
            self.rss["replaced"].append((self.load.seconds(), usage(pid)[0]))
            self.load.killed = self.load.seconds()
            os.kill(pid, signal.SIGKILL)
            self.load.count["kills"] += 1

    async def look(self) -> tuple[dict[str, int], dict[str, float]]:
        """Print a line of the table; return descriptors by role, and what /metrics says."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.admin}/metrics") as answer:
            samples = [one for family in text_string_to_metric_families(await answer.text()) for one in family.samples]
        told = {name: sum(one.value for one in samples if one.name == name) for name in GAUGES}
        cells, descriptors = [f"{self.load.seconds():5.0f}"], {}
        for role, pid in zip(ROLES, (self.pid, self.supervisor, self.steady, *self.younger()), strict=False):
            rss, descriptors[role] = usage(pid)
            self.rss[role].append((self.load.seconds(), rss))
            cells.append(f"{rss / 1024:9.2f} {descriptors[role]:4}")
        cells += [" " * 14] * (len(ROLES) + 1 - len(cells))
        cells += [f"{value:8.0f}" for value in (*told.values(), len(samples), *(self.load.count[name] for name in COUNTS))]
        print(*cells, flush=True)
        return descriptors, told

    async def sample(self) -> None:
        """Look every few seconds."""
        await self.look()
        await asyncio.sleep(SAMPLE_EVERY)

    async def run(self, seconds: float) -> list[str]:
        """Soak for a time; return what was wrong."""
        heads = ("clients", "ws", "upstream", "tasks", "restarts", "series", *COUNTS)
        print("    s", *(f"{role:>10} fds" for role in ROLES), *(f"{head:>8}" for head in heads))
        before, idle = await self.look()
        load = self.load
        acts = [getattr(load, name) for name, count in CLIENTS.items() for _ in range(count)]
        tasks = [asyncio.create_task(load.again(act)) for act in (*acts, self.edit, self.kill, self.sample)]
        try:
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await load.session.close()
        return [*load.faults[:20], *self.judge_memory(seconds), *await self.judge_rest(before, idle)]

    def judge_memory(self, seconds: float) -> list[str]:
        """Print by how much RSS rose; return the roles in which that was too much."""
        wrong: list[str] = []
        begin = max(WARM_UP, seconds / 4)
        if seconds - begin < JUDGED:
            print(f"memory is not judged: that takes {(WARM_UP + JUDGED) / 60:g} minutes")
            return wrong
        for role, bound in BOUNDS.items():
            points = [(at / 60, rss) for at, rss in self.rss[role] if at >= begin]
            if len(points) < 8:
                print(f"{role}: too few figures to judge")
                continue
            # Peaks: now and then malloc gives back megabytes, and takes them again.
            first, middle = points[0][0], (points[0][0] + points[-1][0]) / 2
            early, late = (max(rss for at, rss in points if (at > middle) is half) for half in (False, True))
            rise = (late - early) / (middle - first)
            print(f"{role}: RSS {rise:+.0f} KiB per minute over {len(points)} figures, at most {bound:.0f}")
            if rise > bound:
                wrong.append(f"the memory of {role} grew")
        return wrong

    async def judge_rest(self, before: dict[str, int], idle: dict[str, float]) -> list[str]:
        """Wait until nothing of the load is left; return what stayed."""
        load = self.load
        ended = load.seconds()
        while True:
            now, told = await self.look()
            more = [role for role in before if now.get(role, 999) > before[role] + SPARE]
            wrong = [f"{role} has {now.get(role, 'no')} descriptors, before the load {before[role]}" for role in more]
            stayed = [name for name in GAUGES[:-1] if told[name] > idle[name]]
            wrong += [f"{name} is {told[name]:g}, before the load {idle[name]:g}" for name in stayed]
            if not wrong or load.seconds() - ended > SETTLE:
                break
            await asyncio.sleep(SAMPLE_EVERY)
        print(f"descriptors, sockets and tasks {'are not back' if wrong else 'were back'} after {load.seconds() - ended:.0f} s")
        if told[GAUGES[-1]] != load.count["kills"]:
            wrong.append(f"{told[GAUGES[-1]]:g} workers were replaced, {load.count['kills']} were killed")
        return wrong


async def soak(folder: Path, ports: list[int], pid: int, listening: dict[str, str], seconds: float) -> list[str]:
    """Run within a loop."""
    return await Soak(folder, ports, pid, listening).run(seconds)


def main() -> int:
    """Soak for as many minutes as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description="Soak sluice standalone.")
    parser.add_argument("minutes", type=float)
    seconds = parser.parse_args().minutes * 60
    os.environ.setdefault("SLUICE_LOG_LEVEL", "warning")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
            folder = Path(scratch)
            ports = [_start_backend(stack, "../benchmarks/backend.py")[1] for _ in range(3)]
            write(folder, ports, 0)
            with sluice(folder, FREE) as (process, listening):
                wrong = asyncio.run(soak(folder, ports, process.pid, listening, seconds))
            if process.returncode:
                wrong.append(f"sluice standalone ended with {process.returncode}")
    except DemoError as error:
        wrong = [str(error)]
    for sentence in wrong:
        print(f"FAIL  {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
