"""Costs of the features of WebSockets: CPU per message by feature, and that of pings while all is silent.

Usage: alive.py messages [NAME=DIR ...] | alive.py pings. NAME=DIR: a further checkout of ours, measured with every feature off.
What is measured is build/native where `--compiled` is given, the plain modules else.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tools")]
from certificates import Certificate, make_certificate
from demo import write_endpoints, write_secret, write_whole
from loads import sockets
from peers import CORES, INGRESS, NATIVE, ROOT, SERVICE, Proxy, ours, raise_descriptors

SOCKETS = 10_000
WORKERS = 2
INTERVAL = 30
FEATURES: Mapping[str, str] = {
    "off": "",
    "keepalive": 'sluice.dev/keepalive-interval: "30s"',
    "messageBytes": 'sluice.dev/limits-message-bytes: "64Ki"',
    "messages": 'sluice.dev/limits-messages-rate: "1000000", sluice.dev/limits-messages-burst: "1000000"',
    "closing": 'sluice.dev/close-on-route-removed: "Now", sluice.dev/close-drain-over: "1m", sluice.dev/timeouts-max-age: "1h"',
}
ALL = ", ".join(text for text in FEATURES.values() if text)
PINGING: Mapping[str, str] = {
    "off": "",
    "pings": f'sluice.dev/keepalive-interval: "{INTERVAL}s"',
    "of every 3 s": 'sluice.dev/keepalive-interval: "3s"',
}
"""The last is there because it is ten times as much: a figure of less than the noise says little."""


@contextlib.contextmanager
def backend() -> Iterator[int]:
    """Run the raw backend; give its port."""
    command = [sys.executable, str(HERE / "backend.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def objects(folder: Path, feature: str, port: int, certificate: Certificate) -> Path:
    """Write what one proxy serves: an Ingress with these annotations."""
    folder.mkdir()
    annotations = 'sluice.dev/ssl-redirect: "false"'
    write_whole(
        folder / "objects.yaml", SERVICE + INGRESS.replace(annotations, f"{annotations}, {feature}" if feature else annotations)
    )
    write_secret(folder, certificate.chain, certificate.key)
    write_endpoints(folder, {"bench": port})
    return folder


def messages(
    tree: Path,
    folder: Path,
    port: int,
    further: Mapping[str, Path],
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = print,
) -> dict[str, list[float]]:
    """CPU per message of an echo of 64 bytes, all proxies in turn in each round; return the µs of each."""
    certificate = make_certificate()
    wanted = {name: (path, "") for name, path in further.items()} | {
        name: (tree, text) for name, text in (*FEATURES.items(), ("all of them", ALL))
    }
    seen: dict[str, list[float]] = {name: [] for name in wanted}
    with contextlib.ExitStack() as stack:
        proxies = [
            stack.enter_context(ours(name, tree, objects(folder / name.replace(" ", "-"), feature, port, certificate)))
            for name, (tree, feature) in wanted.items()
        ]
        for _ in range(rounds):
            for one in proxies:
                with sockets("echo", one.http, tls=False, count=64, size=64, seconds=seconds) as process:
                    start = one.cpu()
                    out, _ = process.communicate("\n", timeout=seconds + 60)
                    seen[one.name].append((one.cpu() - start) / int(out) * 1e6)
    say(
        f"| WS echo 64 B, {rounds} rounds of {seconds:g} s | CPU µs per message | over the first, median of rounds |\n|---|---|---|"
    )
    first = seen[next(iter(seen))]
    for name, values in seen.items():
        ratio = statistics.median(one / base for one, base in zip(values, first, strict=True))
        say(f"| {name} | {statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f}) | {ratio:.3f} |")
    return seen


def pings(tree: Path, folder: Path, port: int, seconds: float) -> None:
    """CPU of silent sockets without pings and with them, of all processes together, in hundredths of a core."""
    certificate = make_certificate()
    print(f"| {SOCKETS} silent sockets over {WORKERS} workers, {seconds:g} s | answers | CPU, % of a core |\n|---|---|---|")
    for name, feature in PINGING.items():
        place = objects(folder / name.replace(" ", "-"), feature, port, certificate)
        with ours(name, tree, place, workers=WORKERS) as one:
            answers, percent = silent(one, seconds)
        print(f"| {name} | {answers} | {percent:.2f} |", flush=True)


def silent(one: Proxy, seconds: float) -> tuple[int, float]:
    """Keep the sockets open for a while: how many pings they answered in all, and the CPU in that while."""
    with sockets("answer", one.http, tls=False, count=SOCKETS, size=1, seconds=0) as process:
        time.sleep(2)
        start = one.cpu()
        time.sleep(seconds)
        used = one.cpu() - start
        out, _ = process.communicate("\n", timeout=60)
    return int(out.split()[-1]), used / seconds * 100


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="alive", description=__doc__)
    parser.add_argument("what", choices=["messages", "pings"])
    parser.add_argument("further", nargs="*", metavar="NAME=DIR")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, help="of each measurement; 2 for messages, 60 for pings")
    parser.add_argument("--compiled", action="store_true", help="measure what tools/build_native.py built")
    arguments = parser.parse_args()
    tree = NATIVE if arguments.compiled else ROOT
    raise_descriptors()
    if len(CORES) < WORKERS:
        parser.error(f"{WORKERS} workers need as many cores")
    with tempfile.TemporaryDirectory() as name, backend() as port:
        if arguments.what == "messages":
            further = {one: Path(path).resolve() for one, _, path in (text.partition("=") for text in arguments.further)}
            messages(tree, Path(name), port, further, arguments.rounds, arguments.seconds or 2.0)
        else:
            pings(tree, Path(name), port, arguments.seconds or 60.0)


if __name__ == "__main__":
    main()
