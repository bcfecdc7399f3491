"""The proxies that are measured: ours and its peers, each on one core, with the same certificate and backend."""

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "build" / "native"
sys.path.insert(0, str(ROOT / "tools"))
from certificates import Certificate
from configurations import TEMPLATES
from demo import await_ready, end, write_endpoints, write_secret, write_whole
from programs import program

CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE, LOAD_CORES = str(CORES[0]), ",".join(map(str, CORES[1:] or CORES))
HOST = "bench.localhost"
START_SECONDS = 20.0

SERVICE = """apiVersion: v1
kind: Service
metadata: {name: bench}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: sluice}
spec: {controller: sluice.dev/ingress-controller}
"""

INGRESS = """---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: bench, annotations: {sluice.dev/ssl-redirect: "false"}}
spec:
  ingressClassName: sluice
  tls: [{hosts: [bench.localhost], secretName: chat-tls}]
  rules:
  - host: bench.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: bench, port: {number: 80}}}}]}
"""


class Proxy:
    """A running proxy: its ports, and the session whose processes are its CPU and memory."""

    def __init__(self, name: str, pid: int, http: int, https: int, folder: Path | None = None) -> None:
        self.name, self.pid, self.http, self.https = name, pid, http, https
        self.folder = folder
        """The objects that ours serves; None for peers."""

    def _stats(self) -> Iterator[tuple[Path, list[str]]]:
        """Find the processes of the session, and of sessions that one of them began: `sluice standalone` gives the proxy one."""
        found: dict[str, tuple[Path, list[str]]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                found[path.parent.name] = path.parent, path.read_text().rsplit(")", 1)[1].split()
        own = {pid for pid, (_, fields) in found.items() if fields[3] == str(self.pid)}
        sessions = {str(self.pid)} | {pid for pid, (_, fields) in found.items() if fields[3] == pid and fields[1] in own}
        for folder, fields in found.values():
            if fields[3] in sessions:
                yield folder, fields

    def cpu(self) -> float:
        """Seconds of CPU that all processes of the session have used."""
        return sum(self.cpu_by_process().values())

    def cpu_by_process(self) -> dict[int, float]:
        """Return the same of each process, by its id: one that is killed takes with it what it used."""
        used = {}
        for folder, _ in self._stats():
            pid = int(folder.name)
            with contextlib.suppress(OSError):
                # Linux' clock of all threads of a process (clock_getcpuclockid(3)): nanoseconds. /proc/PID/stat counts in
                # ticks of 10 ms, a few hundredths of a short measurement; schedstat knows single threads only.
                used[pid] = time.clock_gettime((~pid << 3) | 2)
        return used

    def memory(self) -> int:
        """Kilobytes that all processes of the session hold, what they share counted once (PSS)."""
        total = 0
        for folder, _ in self._stats():
            with contextlib.suppress(OSError):
                rollup = (folder / "smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        return total


def free_port() -> int:
    """Pick a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} did not start")


@contextlib.contextmanager
def backend(cores: str = LOAD_CORES, *, first: bool = False) -> Iterator[int]:
    """Run the raw backend; give its port. `first`: before all others on its core, where this process may ask for that."""
    command = ["taskset", "-c", cores, sys.executable, str(ROOT / "benchmarks" / "backend.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            if first:
                with contextlib.suppress(PermissionError):
                    os.sched_setscheduler(process.pid, os.SCHED_RR, os.sched_param(1))
            yield port
        finally:
            process.kill()


@contextlib.contextmanager
def running(name: str, command: Sequence[str], folder: Path, http: int, https: int) -> Iterator[Proxy]:
    """Run a peer until it is left, on the proxy's core."""
    environment = {**os.environ, "GOMAXPROCS": "1", "HOME": str(folder)}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["taskset", "-c", PROXY_CORE, *command], start_new_session=True, stdout=log, stderr=log, env=environment
        )
        try:
            _listens(http, process)
            yield Proxy(name, process.pid, http, https)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers too
            process.wait()


def start_of(name: str, folder: Path) -> list[str]:
    """Return the command of a peer, but for its configuration's path."""
    return {
        "nginx": ["nginx", "-p", str(folder), "-c"],
        "haproxy": ["haproxy", "-db", "-f"],
        "caddy": ["caddy", "run", "--adapter", "caddyfile", "--config"],
        "envoy": [envoy() or "envoy", "--concurrency", "1", "--log-level", "error", "--disable-hot-restart", "-c"],
    }[name]


@contextlib.contextmanager
def peer(name: str, folder: Path, port: int, templates: Mapping[str, str] = TEMPLATES, **further: int) -> Iterator[Proxy]:
    """Run nginx, haproxy, caddy or envoy with a configuration that does what ours does."""
    http, https = free_port(), free_port()
    path = folder / f"{name}.yaml"
    path.write_text(templates[name].format(dir=folder, backend=port, http=http, https=https, **further))
    with running(name, [*start_of(name, folder), str(path)], folder, http, https) as one:
        yield one


@contextlib.contextmanager
def relay(port: int) -> Iterator[Proxy]:
    """Run the relay that only copies. It has no port for TLS."""
    command = ["taskset", "-c", PROXY_CORE, str(program("relay")), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            yield Proxy("relay", process.pid, int(process.stdout.readline()), 0)
        finally:
            process.kill()


def envoy() -> str | None:
    """Return where Envoy is: on the path, or in the environment that `make bench` makes for it."""
    return shutil.which("envoy") or shutil.which("envoy", path=str(ROOT / "build" / "envoy" / "bin"))


def available() -> list[str]:
    """Return the peers that are installed."""
    return [name for name in ("nginx", "haproxy", "caddy") if shutil.which(name)] + (["envoy"] if envoy() else [])


def versions(names: Sequence[str]) -> dict[str, str]:
    """Return what the peers say of their versions."""
    asked = {
        "nginx": ["nginx", "-v"],
        "haproxy": ["haproxy", "-v"],
        "caddy": ["caddy", "version"],
        "envoy": [envoy() or "", "--version"],
    }
    found = {}
    for name in names:
        said = subprocess.run(asked[name], check=False, capture_output=True, text=True)
        number = re.search(r"[0-9]+\.[0-9]+\.[0-9]+[^\s/]*", said.stdout + said.stderr)
        found[name] = number[0] if number else "unknown"
    return found


def trees(extra: Sequence[str] = ()) -> dict[str, Path]:
    """Return the checkouts of ours to measure, by name."""
    found = {"sluice": ROOT}
    if (NATIVE / ".made").exists():
        found["compiled"] = NATIVE
    return found | {name: Path(path) for name, _, path in (one.partition("=") for one in extra)}


def write_objects(folder: Path, certificate: Certificate, port: int, further: str = "") -> None:
    """Write what ours serves: one Ingress for the bench's host, and further objects."""
    folder.mkdir(exist_ok=True)
    write_whole(folder / "objects.yaml", SERVICE + INGRESS + further)
    write_secret(folder, certificate.chain, certificate.key)
    write_endpoints(folder, {"bench": port})


@contextlib.contextmanager
def ours(name: str, tree: Path, folder: Path, workers: int = 1) -> Iterator[Proxy]:
    """Run `sluice standalone` of a checkout, or of build/native, on a folder of objects."""
    arguments = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-time", "0s"]
    # What build/native lacks, the controller, comes from this checkout.
    path = f"{tree}:{ROOT}"
    cores = {CORES[0]} if workers == 1 else set(CORES[:workers])
    process = subprocess.Popen(
        [sys.executable, "-m", "controller.cli", "standalone", str(folder), *arguments, "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509  no thread runs yet
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("listening "):
                where = dict(part.split("=", 1) for part in line.split()[1:])
                await_ready(process, where["admin"])
                ports = {kind: int(where[kind].rsplit(":", 1)[1]) for kind in ("http", "https")}
                yield Proxy(name, process.pid, folder=folder, **ports)
                return
        raise SystemExit(f"{name} did not start")
    finally:
        end(process)


def raise_descriptors() -> None:
    """Allow as many descriptors as the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
