"""`make bench-cluster`: how fast changes on a real API server reach the proxy, and what the controller costs.

    python benchmarks/cluster.py [--routes 3000] [--only NAME,NAME] [--json FILE]

Everything runs in a network namespace of its own (it needs root), so that endpoints can have addresses that the API server takes.
"""

import argparse
import asyncio
import base64
import contextlib
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tools")]

import trustme
from aiohttp import web
from cluster.control_plane import Client, ControlPlane, control_plane
from cluster.installation import (
    Installation,
    Pod,
    conditions,
    define,
    endpoint_slice,
    installed,
    service,
    until,
    ws_route,
)

NAME = "bench"
NAMESPACES = 50
ADDRESSES = ("198.18.0.1", "198.18.0.2")
CLUSTER = "<!-- cluster -->\n"
TICKS = os.sysconf("SC_CLK_TCK")
Row = dict[str, Any]


def place(number: int) -> str:
    """Return the namespace of an object."""
    return f"team-{number % NAMESPACES}"


def route(number: int, name: str = "") -> dict[str, Any]:
    """Make a WsRoute with a host of its own."""
    raw = ws_route(place(number), f"{name or 'r'}{number}", f"h{number}.{name or 'old'}.example.com")
    raw["spec"]["ingressClassName"] = NAME
    return raw


async def fill(api: Client, routes: int, slices: int = 0, secrets: int = 0) -> None:
    """Bring the API server to a size; slices are of Services of their own, 10 endpoints in each."""
    await api.create(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place(n)}} for n in range(NAMESPACES)))
    await api.create(*(service(place(n)) for n in range(NAMESPACES)))
    await api.create(*(route(n) for n in range(routes)))
    if slices:
        await api.create(*(service(place(n), f"s{n}") for n in range(slices)))
        await api.create(
            *(endpoint_slice(place(n), f"s{n}", *(f"198.18.{n % 200 + 1}.{m}" for m in range(1, 11))) for n in range(slices))
        )
    if secrets:
        authority = trustme.CA()
        pairs = [authority.issue_cert(f"h{n}.example.com") for n in range(20)]
        await api.create(
            *(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "type": "kubernetes.io/tls",
                    "metadata": {"name": f"tls{n}", "namespace": place(n)},
                    "data": {
                        "tls.crt": base64.b64encode(pairs[n % 20].cert_chain_pems[0].bytes()).decode(),
                        "tls.key": base64.b64encode(pairs[n % 20].private_key_pem.bytes()).decode(),
                    },
                }
                for n in range(secrets)
            )
        )


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int, name: str) -> float:
    """Return a row of /proc/PID/status, in MB."""
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(rows[name].split()[0]) / 1024


class Asker:
    """One kept-alive connection to the proxy, asked again and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, host: str) -> tuple[int, bytes]:
        """Return status and body of the answer to a GET."""
        self.writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        return int(head[9:12]), await self.reader.readexactly(length)


@contextlib.asynccontextmanager
async def asking(pod: Pod) -> AsyncIterator[Asker]:
    """Connect to the proxy."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.ports["http"])
    try:
        yield Asker(reader, writer)
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def backends() -> AsyncIterator[dict[str, list[float]]]:
    """Serve at both addresses; give when each was last asked."""
    seen: dict[str, list[float]] = {address: [] for address in ADDRESSES}

    def handler(address: str) -> Any:
        async def handle(_: web.BaseRequest) -> web.Response:
            seen[address].append(time.monotonic())
            return web.Response(text=address)

        return handle

    async with contextlib.AsyncExitStack() as stack:
        for address in ADDRESSES:
            runner = web.ServerRunner(web.Server(handler(address)))
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, address, 8080).start()
        yield seen


def quantiles(values: list[float]) -> Row:
    """Return the median, the 99th percentile and the most, in milliseconds."""
    ordered = sorted(values)
    return {
        "p50": round(1000 * ordered[len(ordered) // 2], 1),
        "p99": round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "most": round(1000 * ordered[-1], 1),
        "n": len(ordered),
    }


async def applied(api: Client, pod: Pod, rounds: int) -> Row:
    """From sending a new WsRoute to the first answer by it; a Service without endpoints answers 503, no route 404."""
    found = []
    async with asking(pod) as asker:
        for number in range(rounds):
            raw = route(number, "new")
            host = raw["spec"]["hosts"][0]
            start = time.monotonic()
            posted = asyncio.create_task(api.create(raw))
            while (await asker.ask(host))[0] == 404:
                await asyncio.sleep(0.0005)
            found.append(time.monotonic() - start)
            await posted
            await asyncio.sleep(0.2)  # changes that follow each other are another row
    return quantiles(found)


async def removed(api: Client, pod: Pod, rounds: int) -> Row:
    """From sending the removal of an endpoint to the last new request that went to it."""
    found = []
    raw = ws_route(place(0), "pair", "pair.example.com", "pair")
    raw["spec"]["ingressClassName"] = NAME
    await api.create(service(place(0), "pair"), raw)
    both = endpoint_slice(place(0), "pair", *ADDRESSES)["endpoints"]
    await api.create(endpoint_slice(place(0), "pair", *ADDRESSES))
    async with backends() as seen, asking(pod) as asker:
        for number in range(rounds):
            for address in ADDRESSES:
                while (await asker.ask("pair.example.com"))[1] != address.encode():
                    await asyncio.sleep(0.0005)
            stays, goes = number % 2, 1 - number % 2
            start = time.monotonic()
            change = {"endpoints": [both[stays]]}
            patched = asyncio.create_task(api.patch("EndpointSlice", place(0), "pair-1", change))
            streak = 0
            while streak < 40:
                streak = streak + 1 if (await asker.ask("pair.example.com"))[1] == ADDRESSES[stays].encode() else 0
                await asyncio.sleep(0.0005)
            await patched
            found.append(max(0.0, seen[ADDRESSES[goes]][-1] - start))
            await api.patch("EndpointSlice", place(0), "pair-1", {"endpoints": both})
    return quantiles(found)


async def events(api: Client, pod: Pod, seconds: float, rate: float) -> Row:
    """CPU of the controller per change of an EndpointSlice, at a steady rate."""
    pid = pod.controller_pid
    before, start = cpu(pid), time.monotonic()
    await asyncio.sleep(5)
    idle = (cpu(pid) - before) / (time.monotonic() - start)
    before, start, sent = cpu(pid), time.monotonic(), 0
    waiting: set[asyncio.Task[Any]] = set()
    while (now := time.monotonic()) - start < seconds:
        while sent < (now - start) * rate:
            endpoints = endpoint_slice("", "x", f"198.18.{sent % 200 + 1}.{sent // 200 % 200 + 1}")["endpoints"]
            task = asyncio.create_task(api.patch("EndpointSlice", place(sent), f"e{place(sent)}-1", {"endpoints": endpoints}))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            sent += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*waiting)
    await asyncio.sleep(0.5)
    used = cpu(pid) - before - idle * (time.monotonic() - start)
    return {"ms_per_event": round(1000 * used / sent, 2), "events": sent, "per_second": rate, "idle_percent": round(100 * idle, 2)}


async def left(api: Client, part: str) -> int:
    """Return how many WsRoutes with `part` in their host are not programmed by their status."""
    items = (await api.get("WsRoute"))["items"]
    return sum(part in one["spec"]["hosts"][0] and conditions(one).get("Programmed") != "True Programmed" for one in items)


async def statuses(api: Client, sluice: Installation, count: int) -> Row:
    """From sending `count` new WsRoutes at once to the last condition Programmed."""
    start, before = time.monotonic(), _patches(sluice)
    await api.create(*(route(number, "status") for number in range(count)))
    created = time.monotonic() - start

    await until(lambda: left(api, ".status."), lambda number: number == 0, 120)
    return {
        "seconds": round(time.monotonic() - start, 2),
        "of_which_creating": round(created, 2),
        "routes": count,
        "writes": _patches(sluice) - before,
    }


def _patches(sluice: Installation) -> int:
    return sum(event["verb"] == "patch" for event in sluice.plane.audit(sluice.user))


async def cold(sluice: Installation) -> Row:
    """From starting the controller's process to a ready proxy."""
    start = time.monotonic()
    async with sluice.pod("--no-update-status") as pod:
        await until(lambda: pod.ask("/readyz"), lambda found: found[0] == 200, 120)
        ready = time.monotonic() - start
        pid = pod.controller_pid
        return {
            "seconds": round(ready, 2),
            "controller_cpu_seconds": round(cpu(pid), 2),
            "controller_peak_mb": round(memory(pid, "VmHWM")),
            "controller_rss_mb": round(memory(pid, "VmRSS")),
        }


async def run(plane: ControlPlane, arguments: argparse.Namespace) -> dict[str, Row]:
    """Measure what is asked for, in one installation."""
    rows: dict[str, Row] = {}
    only = set(filter(None, arguments.only.split(",")))

    def wanted(name: str) -> bool:
        return not only or name in only

    def took(name: str, row: Mapping[str, Any]) -> None:
        rows[name] = dict(row)
        print(f"{name:12} {json.dumps(row)}", flush=True)

    with tempfile.TemporaryDirectory() as folder, installed(plane, NAME, Path(folder)) as sluice:
        async with plane.client() as api:
            await fill(api, arguments.routes)
            for number in range(NAMESPACES):
                await api.create(service(place(number), f"e{place(number)}"))
                await api.create(endpoint_slice(place(number), f"e{place(number)}", "198.18.1.1"))
            for number in range(NAMESPACES):
                raw = ws_route(place(number), "events", f"events{number}.example.com", f"e{place(number)}")
                raw["spec"]["ingressClassName"] = NAME
                await api.create(raw)
            async with sluice.pod() as pod:
                await until(lambda: pod.ask("/readyz"), lambda found: found[0] == 200, 120)
                await pod.logged("leading=true")
                await until(lambda: left(api, "."), lambda number: number == 0, 120)
                if wanted("apply"):
                    took("apply", await applied(api, pod, 100))
                if wanted("endpoint"):
                    took("endpoint", await removed(api, pod, 50))
                if wanted("events"):
                    took("events", await events(api, pod, 15, 100))
                if wanted("status"):
                    took("status", await statuses(api, sluice, 1000))
            if wanted("cold"):
                await fill(api, 5000, slices=10000, secrets=2000)
                took("cold", await cold(sluice))
    return rows


def write(rows: Mapping[str, Row]) -> None:
    """Put a table of the rows at the end of RESULTS.md."""
    path = ROOT / "benchmarks" / "RESULTS.md"
    before, _, _ = path.read_text().partition(CLUSTER)
    apply, endpoint, events, status, cold = (rows[name] for name in ("apply", "endpoint", "events", "status", "cold"))
    load = f"{os.getloadavg()[1]:.1f}"
    sent = f"{status['seconds']} ({status['of_which_creating']})"
    lines = [
        CLUSTER,
        "## The operator on a real API server",
        "",
        f"Measured {dt.datetime.now(dt.UTC):%Y-%m-%d} by `make bench-cluster`: kube-apiserver 1.35 and etcd on the same machine",
        f"({os.cpu_count()} cores, load average {load} over five minutes), 3,000 WsRoutes in {NAMESPACES} namespaces, plain",
        "Python, one worker.",
        "",
        "| what | found | goal |",
        "|---|---|---|",
        f"| new WsRoute sent to first answer by it, p50 / p99, ms | {apply['p50']} / {apply['p99']} | 25 / 80 |",
        f"| endpoint's removal sent to last new request to it, p50 / p99, ms | {endpoint['p50']} / {endpoint['p99']} | 20 |",
        f"| CPU of the controller per change of an EndpointSlice, 100 a second, ms | {events['ms_per_event']} | 1 |",
        f"| 1,000 new WsRoutes sent to last status Programmed, s (of which sending) | {sent} | 5 |",
        f"| cold start with 5,000 routes, 10,000 EndpointSlices, 2,000 Secrets, s | {cold['seconds']} | 10 |",
        f"| the controller's peak memory in it, MB | {cold['controller_peak_mb']} | 250 |",
        "",
    ]
    path.write_text(before.rstrip("\n") + "\n\n" + "\n".join(lines))


def main() -> int:
    """Measure; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routes", type=int, default=3000)
    parser.add_argument("--only", default="", help="apply, endpoint, events, status, cold")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--write", action="store_true", help="write the part of benchmarks/RESULTS.md about it")
    arguments = parser.parse_args()
    if os.environ.get("SLUICE_BENCH_NAMESPACE") != "1":
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            print("The benchmark needs root: its processes run in a network namespace of their own.", file=sys.stderr)
            return 1
        command = ["unshare", "--net", sys.executable, __file__, *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, "SLUICE_BENCH_NAMESPACE": "1"}, check=False).returncode
    for command in (["link", "set", "lo", "up"], *(["addr", "add", f"{one}/32", "dev", "lo"] for one in ADDRESSES)):
        subprocess.run(["ip", *command], check=True)
    with control_plane() as plane:
        define(plane)
        rows = asyncio.run(run(plane, arguments))
    if arguments.write:
        write(rows)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
