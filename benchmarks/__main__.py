"""Sluice beside its peers in one run: interleaved rounds, medians, ratios. `make bench`, or `python benchmarks --help`."""

import argparse
import contextlib
import datetime as dt
import functools
import os
import platform
import re
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tools")]
import alive
import greedy
import scale
from certificates import ECDSA, Certificate, make_certificate
from latency import FIXED, PARTS, TIMES_SECONDS, Fixed, Found, at_fixed_rate, sentences
from loads import LOADS
from peers import CORES, ROOT, Proxy, available, backend, ours, peer, raise_descriptors, relay, trees, versions, write_objects
from report import FLOOR, OURS, PEERS, Row, as_json, beyond_limits, not_measured
from run import Run

Starts = Mapping[str, Callable[[], contextlib.AbstractContextManager[Proxy]]]


def prepared(run: Run, folder: Path, certificate: Certificate) -> Starts:
    """Return how each proxy is started with a certificate."""
    folder.mkdir(exist_ok=True)
    objects = folder / "objects"
    write_objects(objects, certificate, run.port)
    (folder / "both.pem").write_bytes(certificate.chain + certificate.key)
    (folder / "key.pem").write_bytes(certificate.key)
    starts: dict[str, Callable[[], contextlib.AbstractContextManager[Proxy]]] = {}
    for name, tree in trees(run.further).items():
        starts[name] = functools.partial(ours, name, tree, objects)
    for name in run.peers:
        starts[name] = functools.partial(peer, name, folder, run.port)
    if run.floor:
        starts[FLOOR] = functools.partial(relay, run.port)
    return starts


def beside_peers(run: Run, asked: str) -> None:
    """Measure the loads that every proxy can take."""
    starts = prepared(run, run.folder, run.certificate)
    chosen = [load for load in LOADS if re.search(asked, load.name)]
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(start()) for start in starts.values()]
        others = {}
        for kind in {load.key for load in chosen} - {ECDSA}:
            further = prepared(run, run.folder / kind.replace(" ", "-"), make_certificate(kind))
            others[kind] = [stack.enter_context(start()) for start in further.values()]
        if chosen:
            run.table("load", list(starts))
        for load in chosen:
            taking = [one for one in others.get(load.key, proxies) if load.relay or one.name != FLOOR]
            seen: dict[str, list[float]] = {one.name: [] for one in taking}
            for _ in range(1 if load.unit == "KB" else run.rounds):
                for one in taking:
                    if load.unit == "KB":
                        # What other loads have left free would be used again: memory is measured in processes of its own.
                        with starts[one.name]() as fresh:
                            seen[one.name].append(load.measure(fresh, run.seconds))
                    else:
                        seen[one.name].append(load.measure(one, run.seconds))
            run.tell(load.row(seen))
        fixed_rate(run, asked, proxies)


def fixed_rate(run: Run, asked: str, proxies: list[Proxy]) -> None:
    """Measure latency at fixed rates."""
    chosen = [fixed for fixed in FIXED if re.search(asked, fixed.name) or re.search(asked, "latency")]
    if not chosen:
        return
    run.table("latency, counted from when a request was due", [one.name for one in proxies])
    found: dict[Fixed, dict[str, list[Found | None]]] = {}
    for fixed in chosen:
        columns = found[fixed] = {one.name: [] for one in proxies if not fixed.tls or one.name != FLOOR}
        for _ in range(run.rounds):
            for one in proxies:
                if one.name in columns:
                    columns[one.name].append(at_fixed_rate(fixed, one, run.seconds * TIMES_SECONDS))
        for part in PARTS:
            values = {name: [one.parts[part] for one in rounds if one] for name, rounds in columns.items()}
            run.tell(fixed.row(part, {name: parts for name, parts in values.items() if parts}))
    run.say("")
    for sentence in sentences(found):
        run.say(sentence)


def features(run: Run) -> None:
    """Measure what each feature of WebSockets costs per message, beside none of them: ours only, as no peer has them."""
    for name, tree in trees().items():
        run.say(f"\nWhat features cost, `{name}`:\n")
        place = run.folder / f"features-{name}"
        place.mkdir()
        seen = alive.messages(tree, place, run.port, {}, max(FEATURE_ROUNDS, run.rounds), run.seconds, run.say)
        run.rows.append(Row(f"{FEATURES}, {name}", "µs", seen))


FEATURES = "WS echo 64 B by feature"
FEATURE_ROUNDS = 7
"""Rounds that show differences of a few hundredths; three do not."""
ALONE = ("many", "workers", "features")
CLUSTER = "<!-- cluster -->\n"
"""First heading of `make bench-cluster` in RESULTS.md."""
UNFAIR = """
Not fair, and in which direction:
- Ours counts requests, bytes, latencies, messages and close codes, and follows every frame; the peers' logs and metrics are off.
- Ours runs a controller and a supervisor beside its worker; their CPU and memory are counted as its own.
- The peers use defaults where these matter little. Ciphers are each one's own choice with an ECDSA P-256 certificate, unless said.
- Who shakes hands leaves at once. Envoy would send its tickets with the first answer, all others have sent theirs; with a request
  in each connection the others come nearer to it (JOURNAL.md). Envoy has BoringSSL, Caddy Go's TLS, the rest Debian's OpenSSL 3.0.
- wrk and the echoes send as fast as they are answered: a slower proxy is offered less, and one that is never idle takes more at a
  time, which is cheaper. So a proxy can be below the relay.
- Latencies are counted from when requests were due, at the times of a Poisson process, the same for all. Load and backend are part
  of them for all; the relay's column says how much.
- The relay opens a connection to the backend for each of the client's; the proxies keep theirs.
- Many hosts: nginx has a `server` for each, HAProxy a map, Caddy a site, Envoy a virtual host in a file that it watches. A change
  of one is a whole new configuration, with a reload but for Envoy, as their controllers do it; for ours it is one object's file.
- Beside greedy clients: each case is measured once, in processes of its own, beside nginx and HAProxy alone. Who is greedy, its
  backend, the innocents and theirs share the cores of the load; the innocents come first there, where the system allows it. A
  backend that only swallows, and a proxy that only copies, take frames by the piece: operations are then what the load could send.
  A head gets a byte each 1 ms and client. What a killed worker held is lost, and what it did since a tenth of a second not counted.
- A row whose values spread by more than a tenth says nothing about a tenth.
"""


def everything() -> list[str]:
    """Return the labels of all rows that there are."""
    rows = [*(load.row({}) for load in LOADS), *(fixed.row(part, {}) for fixed in FIXED for part in PARTS)]
    rows += [*scale.ROUTES, *scale.WORKERS, *(Row(f"{FEATURES}, {name}", "µs") for name in trees())]
    return [*(row.label for row in rows), *greedy.labels()]


def about(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Return what a reader of the figures has to know."""

    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *command], check=False, capture_output=True, text=True).stdout.strip()

    return {
        "date": f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
        "commit": git("rev-parse", "HEAD") or None,
        "changed_since_commit": bool(git("status", "--porcelain")),
        "machine": {
            "cores": len(CORES),
            "linux": platform.release(),
            "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION,
            "load_average": os.getloadavg(),
        },
        "versions": versions(available()),
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
    }


def written(run: Run, told: Mapping[str, Any]) -> str:
    """Return RESULTS.md, but for the part of `make bench-cluster`."""
    machine = told["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    commit = str(told["commit"])[:10] + (" with changes" if told["changed_since_commit"] else "")
    seconds, load = told["seconds"], machine["load_average"][0]
    head = f"""# Results

Measured {told["date"][:10]} by `make bench`, commit {commit}: {machine["cores"]} cores, Linux {machine["linux"]},
Python {machine["python"]}, {machine["openssl"]}; {versions}; load average before it {load:.1f}.
{told["rounds"]} interleaved rounds of {seconds:g} s, for latencies of {seconds * TIMES_SECONDS:g} s; medians (lowest-highest).
One core for the proxy, the others for load and backend, 64 connections. CPU: time of all its processes per operation; memory: PSS,
once, in processes of its own. `sluice` is plain Python, `compiled` has the hot modules compiled (`make wheel`); `relay` only
copies: the floor, no peer.
"""
    closing = [beyond_limits(run.rows), not_measured(everything(), [*OURS, *PEERS, FLOOR], run.rows)]
    return "\n".join([head, *run.lines, "", "\n\n".join(filter(None, closing)), UNFAIR])


def measured(run: Run, asked: str, greedy_seconds: float) -> None:
    """Measure what was asked for."""
    if asked not in ALONE:
        beside_peers(run, asked)
        greedy.beside_greedy(run, asked, greedy_seconds)
    if asked in (".", "many"):
        run.table("with many routes", [*trees(), *run.peers])
        scale.many_routes(run)
    # Two workers, their load and their backend want a core each.
    if asked in (".", "workers") and len(CORES) >= 4:
        run.table("ours alone, two workers", list(trees()))
        scale.two_workers(run)
    if asked in (".", "features"):
        features(run)


def main() -> None:
    """Run what was asked for and print it; write it down if asked."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--loads",
        default=".",
        help="regular expression of the loads; 'latency': those at a fixed rate; alone, 'many': what depends on routes, "
        "'workers': two over one, 'features': those of WebSockets; 'greedy': an innocent beside greedy clients",
    )
    parser.add_argument("--peers", default=".", help="regular expression of the peers, and of the relay")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument(
        "--greedy-seconds", type=float, default=greedy.SECONDS, help="of each measurement beside greedy clients, which is done once"
    )
    parser.add_argument(
        "--ours", action="append", default=[], metavar="NAME=DIR", help="a further checkout of ours, to compare with"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value of every round")
    parser.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    raise_descriptors()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nothing that was started is left
    told = about(arguments)
    # What changes files and probes must not run where the proxy does.
    os.sched_setaffinity(0, set(CORES[1:] or CORES))
    peers = [name for name in available() if re.search(arguments.peers, name)]
    with tempfile.TemporaryDirectory() as name, backend() as port:
        run = Run(
            Path(name),
            make_certificate(),
            port,
            arguments.rounds,
            arguments.seconds,
            peers,
            floor=bool(re.search(arguments.peers, FLOOR)),
            further=arguments.ours,
        )
        try:
            measured(run, arguments.loads, arguments.greedy_seconds)
        finally:
            if arguments.json:
                arguments.json.write_text(as_json(told, run.rows))
    print(f"\n{beyond_limits(run.rows)}")
    if arguments.write:
        results = ROOT / "benchmarks" / "RESULTS.md"
        _, mark, cluster = results.read_text().partition(CLUSTER)
        results.write_text(written(run, told) + "\n" + mark + cluster)


if __name__ == "__main__":
    main()
