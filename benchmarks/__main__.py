"""Sluice beside its peers in one run: interleaved rounds, medians, ratios. `make bench`, or `python benchmarks --help`."""

import argparse
import contextlib
import datetime as dt
import functools
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tools")]
import alive
import loads
from demo import make_certificate, write_whole
from loads import LOADS, Load
from peers import CORES, LOAD_CORES, ROOT, Proxy, available, ours, peer, raise_descriptors, write_objects

NATIVE = ROOT / "build" / "native"
OURS = ("sluice", "compiled")


@contextlib.contextmanager
def backend() -> Iterator[int]:
    """Run the raw backend; give its port."""
    process = subprocess.Popen(
        ["taskset", "-c", LOAD_CORES, sys.executable, str(ROOT / "benchmarks" / "backend.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def trees(extra: list[str]) -> dict[str, Path]:
    """Return the checkouts of ours to measure, by name."""
    found = {"sluice": ROOT}
    if (NATIVE / ".made").exists():
        found["compiled"] = NATIVE
    return found | {name: Path(path) for name, _, path in (one.partition("=") for one in extra)}


def row(load: Load, seen: dict[str, list[float]]) -> str:
    """Write one row: medians with their spread, and ours over the best peer."""
    medians = {name: statistics.median(values) for name, values in seen.items()}
    peers = [value for name, value in medians.items() if name in PEERS]
    cells = [f"{medians[name]:.1f} ({min(values):.1f}-{max(values):.1f})" for name, values in seen.items()]
    ratios = []
    for name in OURS:
        if name in medians and peers:
            best = max(peers) if load.higher else min(peers)
            ratios.append(f"{medians[name] / best:.2f}")
    wanted = f"{load.goal:g} / {load.limit:g}" if load.goal else "-"
    return f"| {load.name}, {load.unit} | {' | '.join(cells)} | {' / '.join(ratios)} | {wanted} |"


PEERS = ("nginx", "haproxy", "caddy", "envoy")


def beside_peers(arguments: argparse.Namespace, folder: Path, port: int, say: Callable[[str], None]) -> None:
    """Measure the loads that every proxy can take."""
    certificate = make_certificate()
    (folder / "both.pem").write_bytes(b"".join(certificate))
    (folder / "key.pem").write_bytes(certificate[1])
    objects = folder / "objects"
    write_objects(objects, certificate, port)
    chosen = [load for load in LOADS if re.search(arguments.loads, load.name)]
    with contextlib.ExitStack() as stack:
        starts: dict[str, Callable[[], contextlib.AbstractContextManager[Proxy]]] = {}
        for name, tree in trees(arguments.ours).items():
            starts[name] = functools.partial(ours, name, tree, objects)
        for name in available():
            if re.search(arguments.peers, name):
                starts[name] = functools.partial(peer, name, folder, port)
        proxies = [stack.enter_context(start()) for start in starts.values()]
        say("| load | " + " | ".join(starts) + " | ours / best peer: plain / compiled | goal / limit |")
        say("|---" * (len(starts) + 3) + "|")
        for load in chosen:
            seen: dict[str, list[float]] = {name: [] for name in starts}
            for _ in range(1 if load.unit == "KB" else arguments.rounds):
                for one in proxies:
                    if load.unit == "KB":
                        # What other loads have left free would be used again: memory is measured in processes of its own.
                        with starts[one.name]() as fresh:
                            seen[one.name].append(load.measure(fresh, arguments.seconds))
                    else:
                        seen[one.name].append(load.measure(one, arguments.seconds))
            say(row(load, seen))


def many_routes(arguments: argparse.Namespace, folder: Path, port: int, say: Callable[[str], None]) -> None:
    """Measure what depends on the number of routes: ours only, as peers reload by other means."""
    certificate = make_certificate()
    request = loads.http_load(tls=False)
    say("")
    say("| with many routes, ours alone | " + " | ".join(trees([])) + " | goal / limit |")
    say("|---" * (len(trees([])) + 2) + "|")
    cells: dict[str, list[str]] = {}
    for name, tree in trees([]).items():
        cpu, empty = {}, 0
        for count in (10, 10_000):
            objects = folder / f"hosts-{name}-{count}"
            write_objects(objects, certificate, port)
            write_whole(objects / "hosts.yaml", "".join(loads.ingress(number) for number in range(count)))
            with ours(name, tree, objects) as one:
                cpu[count] = loads.median([request(one, arguments.seconds) for _ in range(arguments.rounds)])
        cells.setdefault("CPU per request, 10,000 hosts over 10 | 1.05 / 1.15", []).append(f"{cpu[10_000] / cpu[10]:.2f}")
        objects = folder / f"routes-{name}"
        write_objects(objects, certificate, port)
        with ours(name, tree, objects, workers=2) as one:
            empty = one.memory()
        for number in range(5000):
            write_whole(objects / f"h{number}.yaml", loads.ingress(number).removeprefix("---\n"))
        with ours(name, tree, objects, workers=2) as one:
            held = (one.memory() - empty) / 1024
            cells.setdefault("5,000 routes over none, MB, all processes, two workers | 40 / 80", []).append(f"{held:.0f}")
        with ours(name, tree, objects) as one:
            stall = loads.longest_stall(one, 2500)
            cells.setdefault("longest answer while one route of 5,000 changes, ms | 5 / 15", []).append(f"{stall:.1f}")
        for number in range(3000, 5000):
            (objects / f"h{number}.yaml").unlink()
        with ours(name, tree, objects) as one:
            times = loads.change_to_answer(one, 1500)
            text = f"{loads.median(times):.1f} ({min(times):.1f}-{max(times):.1f})"
            cells.setdefault("changed file to first answer, 3,000 routes, ms | 10 / 25", []).append(text)
    for key, values in cells.items():
        name, _, wanted = key.partition(" | ")
        say(f"| {name} | {' | '.join(values)} | {wanted} |")


def features(arguments: argparse.Namespace, folder: Path, port: int, say: Callable[[str], None]) -> None:
    """Measure what each feature of WebSockets costs per message, beside none of them: ours only, as no peer has them."""
    for name, tree in trees([]).items():
        say("")
        say(f"What features cost, `{name}`:\n")
        place = folder / f"features-{name}"
        place.mkdir()
        alive.messages(tree, place, port, {}, max(FEATURE_ROUNDS, arguments.rounds), arguments.seconds, say)


FEATURE_ROUNDS = 7
"""What is looked for is a few hundredths: three rounds do not show them."""
CLUSTER = "<!-- cluster -->\n"
"""What follows in RESULTS.md is of `make bench-cluster`."""
UNFAIR = """
Not fair, and in which direction:
- Ours counts requests, bytes, latencies, messages and close codes, and follows every frame; the peers' logs and metrics are off.
- Ours runs a controller and a supervisor beside its worker; their CPU and memory are counted as its own.
- The peers use defaults where these matter little. Ciphers are each one's own choice with an ECDSA P-256 certificate.
- wrk sends as fast as it is answered: a slower proxy is offered less. CPU per operation hardly depends on that; latency would.
- A row whose values spread by more than a tenth says nothing about a tenth.
"""


def main() -> None:
    """Run what was asked for and print it; write it down if asked."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--loads",
        default=".",
        help="regular expression of the loads; 'many' alone: only what depends on routes; 'features': only those of WebSockets",
    )
    parser.add_argument("--peers", default=".", help="regular expression of the peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument(
        "--ours", action="append", default=[], metavar="NAME=DIR", help="a further checkout of ours, to compare with"
    )
    parser.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    raise_descriptors()
    # What changes files and probes must not run where the proxy does.
    os.sched_setaffinity(0, set(CORES[1:] or CORES))
    lines: list[str] = []

    def say(text: str) -> None:
        lines.append(text)
        print(text, flush=True)

    with tempfile.TemporaryDirectory() as name, backend() as port:
        if arguments.loads not in ("many", "features"):
            beside_peers(arguments, Path(name), port, say)
        if arguments.loads in (".", "many"):
            many_routes(arguments, Path(name), port, say)
        if arguments.loads in (".", "features"):
            features(arguments, Path(name), port, say)
    if arguments.write:
        machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
        method = f"{arguments.rounds} interleaved rounds of {arguments.seconds:g} s, medians (lowest-highest)"
        head = (
            f"# Results\n\nMeasured {dt.datetime.now(dt.UTC):%Y-%m-%d} by `make bench`: {machine}; {method}.\n"
            "One core for the proxy, the others for load and backend, 64 connections. CPU: user and system time of all its\n"
            "processes per operation; memory: PSS.\n"
            "`sluice` is plain Python, `compiled` has the hot modules compiled (`make wheel`).\n\n"
        )
        results = ROOT / "benchmarks" / "RESULTS.md"
        _, mark, cluster = results.read_text().partition(CLUSTER)
        results.write_text(head + "\n".join(lines) + "\n" + UNFAIR + "\n" + mark + cluster)


if __name__ == "__main__":
    main()
