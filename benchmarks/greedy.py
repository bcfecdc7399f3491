"""An innocent beside greedy clients: how long it waits, which idle sockets are lost, and what the greedy ones got.

`greedy.c` plays the greedy clients and `greedy_backend.c` their backend, `innocent.c` the innocent ones, whose backend is another.
"""

import contextlib
import functools
import http.client
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from configurations import GREEDY
from demo import write_endpoints, write_secret, write_whole
from peers import INGRESS, LOAD_CORES, SERVICE, Proxy, backend, ours, peer, trees
from programs import program
from report import Row, figure, quantile
from run import Run

SECONDS = 15.0
"""Long enough for who kills what hangs to do so."""
CLIENTS = (1, 8)
IDLE_SOCKETS = 50
WORST_MS = 100.0
"""As long as this an innocent may wait once, or as long as at the peers."""
TIMES_PEER = 2.0
"""The median of ours may be this many times that of the slower peer."""
PATIENCE_SECONDS = 60.0
"""innocent.c waits for late answers itself, and ends before this."""
SAMPLE_SECONDS = 0.1
"""A process that is killed takes with it at most the CPU of this time."""
BUFFER, LONG_HEAD_BUFFER = 16384, 98304
"""HAProxy's buffer: its default, and one that takes the head that grows."""

INNOCENT = """---
apiVersion: v1
kind: Service
metadata: {name: innocent}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: innocent}
spec:
  ingressClassName: sluice
  rules:
  - host: innocent.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: innocent, port: {number: 80}}}}]}
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """The endless work of a greedy client."""

    name: str
    argument: str
    """Of greedy.c."""
    tls: bool = False
    in_backend: bool = False
    """Operations are counted where they come out."""


KINDS = (
    Kind("pipelined 404s", "missing"),
    Kind("pipelined requests to a backend", "answers"),
    Kind("chunks of a byte", "chunks", in_backend=True),
    Kind("empty pings", "pings", in_backend=True),
    Kind("frames of a byte", "frames", in_backend=True),
    Kind("pipelined 404s over TLS", "missing", tls=True),
    Kind("frames of a byte over TLS", "frames", tls=True, in_backend=True),
    Kind("a head that grows by bytes", "head"),
    Kind("a backend's chunks of a byte", "backend-chunks"),
    Kind("a backend's frames of a byte", "backend-frames"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the tables."""

    kind: Kind
    clients: int
    """0: nobody is greedy."""

    @property
    def label(self) -> str:
        """Text of the first column."""
        return f"{self.clients} client{'s' * (self.clients > 1)}: {self.kind.name}" if self.clients else "nobody"


CASES = (Case(KINDS[0], 0), *(Case(kind, clients) for kind in KINDS for clients in CLIENTS))


@dataclass(frozen=True, slots=True)
class Found:
    """Figures of one proxy in one case. Waits are in milliseconds and in order."""

    waits: Sequence[float]
    """Of a request and an echo each 0.1 s, over open connections."""
    fresh: Sequence[float]
    """Of a connection and its request each 0.1 s."""
    lost: int
    """Idle sockets."""
    failures: int
    """Tries of the innocent that had to be repeated: the connection was lost or refused, or the answer said no."""
    operations: float = 0.0
    """Of the greedy clients, per second."""
    per_cpu_second: float = 0.0
    """The same per second of CPU that the proxy used."""
    refused: int = 0
    """Answers to the greedy clients of another status than is due."""
    cut: int = 0
    """Connections of the greedy clients that the proxy closed."""

    @property
    def median(self) -> float:
        """Median wait over open connections."""
        return quantile(self.waits, SHARES["median"])

    def figures(self) -> dict[tuple[str, str], float]:
        """Return all figures: by name and unit."""
        found: dict[tuple[str, str], float] = {}
        for name, waits in (("wait", self.waits), ("wait with a fresh connection", self.fresh)):
            found |= {(f"{name}, {share}", "ms"): quantile(waits, at) for share, at in SHARES.items()}
        found |= {("idle sockets lost", ""): self.lost, ("tries of the innocent that failed", ""): self.failures}
        found |= {("operations", "1/s"): self.operations, ("operations per CPU second", "1/s"): self.per_cpu_second}
        return found | {("answers of another status", ""): self.refused, ("connections of the greedy cut", ""): self.cut}


SHARES = {"median": 0.5, "p99": 0.99, "worst": 1.0}
MEDIAN = ("wait, median", "ms")


def rows(case: Case, columns: Mapping[str, Found]) -> list[Row]:
    """Return every figure of a case as a row of its own, for the JSON."""
    by_column = {name: found.figures() for name, found in columns.items()}
    named = next(iter(by_column.values()), {MEDIAN: 0.0})
    return [
        Row(f"beside {case.label}: {name}", unit, {column: [figures[name, unit]] for column, figures in by_column.items()})
        for name, unit in named
    ]


def labels() -> list[str]:
    """Return one label for each case that there is."""
    return [row.label for case in CASES for row in rows(case, {})]


def waited(found: Found, waits: Sequence[float]) -> str:
    """Write waits in a cell of a table, and what was lost."""
    times = " / ".join(figure(quantile(waits, share)) for share in SHARES.values())
    return times + (f", **{found.lost} lost**" if found.lost else "")


def line(first: str, cells: Sequence[str]) -> str:
    """Return one row of a table."""
    return f"| {' | '.join([first, *cells])} |"


def head(first: str, columns: Sequence[str]) -> str:
    """Return the head of a table."""
    return f"{line(first, columns)}\n{'|---' * (len(columns) + 1)}|"


def beyond(found: Mapping[Case, Mapping[str, Found]]) -> str:
    """Return where innocents of ours wait too long, or lose what they had."""
    said = []
    for case, columns in found.items():
        peers = [one for name, one in columns.items() if name in GREEDY]
        usual = max((one.median for one in peers), default=None)
        worst = max([WORST_MS, *(one.waits[-1] for one in peers)])
        for name, one in columns.items():
            if name in GREEDY or not case.clients:
                continue
            faults = [f"{one.lost} of {IDLE_SOCKETS} idle sockets lost"] if one.lost else []
            if usual is not None and one.median > TIMES_PEER * usual:
                faults.append(f"median {figure(one.median)} ms, the slower peer's {figure(usual)}")
            if one.waits[-1] > worst:
                faults.append(f"worst {figure(one.waits[-1])} ms, limit {figure(worst)}")
            if faults:
                said.append(f"{name} beside {case.label} ({', '.join(faults)})")
    return f"Innocents are not as they should be: {'; '.join(said)}." if said else "Innocents are served beside all of these."


@contextlib.contextmanager
def opened(name: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run one of the programs on the cores of the load; its connections are open when this is entered."""
    command = ["taskset", "-c", LOAD_CORES, str(program(name)), *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "open\n":
                raise SystemExit(f"{command} did not begin")
            yield process
        finally:
            process.kill()


def begin(process: subprocess.Popen[str]) -> None:
    """Have a program that is open begin."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@contextlib.contextmanager
def greedy_backend() -> Iterator[int]:
    """Run the backend of the greedy clients; give its port."""
    command = ["taskset", "-c", LOAD_CORES, str(program("greedy_backend"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def counted(port: int) -> int:
    """Return what the greedy clients' backend has counted since its start."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/count")
        return int(connection.getresponse().read())


def measure(start: Callable[[], contextlib.AbstractContextManager[Proxy]], case: Case, seconds: float, port: int) -> Found:
    """Run a fresh proxy with innocent and greedy clients; `port` is that of the greedy ones' backend."""
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(start())
        innocent = stack.enter_context(opened("innocent", proxy.http, "innocent.localhost", IDLE_SOCKETS, seconds))
        if not case.clients:
            begin(innocent)
            return _innocents(innocent, seconds)
        where = proxy.https if case.kind.tls else proxy.http
        greedy = stack.enter_context(opened("greedy", case.kind.argument, where, int(case.kind.tls), case.clients, seconds))
        before, used, done = proxy.cpu_by_process(), dict[int, float](), counted(port)
        begin(greedy)
        begin(innocent)
        while greedy.poll() is None:
            used |= proxy.cpu_by_process()
            with contextlib.suppress(subprocess.TimeoutExpired):
                greedy.wait(SAMPLE_SECONDS)
        used |= proxy.cpu_by_process()
        done = counted(port) - done
        operations, refused, cut = map(int, greedy.communicate()[0].split())
        operations = done if case.kind.in_backend else operations
        cpu = sum(value - before.get(pid, 0.0) for pid, value in used.items())
        return _innocents(innocent, seconds, operations / seconds, operations / cpu, refused, cut)


def _innocents(innocent: subprocess.Popen[str], seconds: float, *of_the_greedy: float) -> Found:
    """Wait for what the innocent clients found, and return it with what the greedy ones got."""
    out, _ = innocent.communicate(timeout=seconds + PATIENCE_SECONDS)
    told: dict[str, list[int]] = {"request": [], "echo": [], "fresh": []}
    for name, value in (line.split() for line in out.splitlines()):
        told.setdefault(name, []).append(int(value))
    waits, fresh = (sorted(value / 1e6 for value in values) for values in (told["request"] + told["echo"], told["fresh"]))
    return Found(waits, fresh, told["lost"][0], told["failures"][0], *of_the_greedy)  # type: ignore[arg-type]


def prepared(
    run: Run, port: int, innocent: int, case: Case
) -> Mapping[str, Callable[[], contextlib.AbstractContextManager[Proxy]]]:
    """Return how each proxy is started for a case."""
    folder = run.folder / "greedy"
    folder.mkdir(exist_ok=True)
    objects = folder / "objects"
    write_whole(objects / "objects.yaml", SERVICE + INGRESS.replace("path: /,", "path: /served,") + INNOCENT)
    write_secret(objects, run.certificate.chain, run.certificate.key)
    write_endpoints(objects, {"bench": port, "innocent": innocent})
    (folder / "both.pem").write_bytes(run.certificate.chain + run.certificate.key)
    starts: dict[str, Callable[[], contextlib.AbstractContextManager[Proxy]]] = {}
    for name, tree in trees(run.further).items():
        starts[name] = functools.partial(ours, name, tree, objects)
    bufsize = LONG_HEAD_BUFFER if case.kind.argument == "head" and case.clients else BUFFER
    for name in run.peers:
        if name in GREEDY:
            starts[name] = functools.partial(peer, name, folder, port, GREEDY, innocent=innocent, bufsize=bufsize)
    return starts


def beside_greedy(run: Run, asked: str, seconds: float) -> None:
    """Measure the cases that are asked for: each once, in processes of its own."""
    chosen = [case for case in CASES if re.search(asked, f"greedy, {case.label}")]
    if not chosen:
        return
    found: dict[Case, dict[str, Found]] = {}
    columns = [*trees(run.further), *(name for name in run.peers if name in GREEDY)]
    with greedy_backend() as port, backend(first=True) as innocent:
        run.say(f"\nAn innocent beside greedy clients, {seconds:g} s, {IDLE_SOCKETS} idle sockets:\n")
        run.say(head("wait over open connections, ms: median / p99 / worst", columns))
        for case in chosen:
            starts = prepared(run, port, innocent, case)
            found[case] = {name: measure(starts[name], case, seconds, port) for name in columns}
            run.rows.extend(rows(case, found[case]))
            run.say(line(case.label, [waited(one, one.waits) for one in found[case].values()]))
    run.say("\n" + head("wait with a fresh connection, ms: median / p99 / worst", columns))
    for case in chosen:
        run.say(line(case.label, [waited(one, one.fresh) for one in found[case].values()]))
    run.say("\n" + head("operations of the greedy: per second / per CPU second", columns))
    for case in chosen:
        cells = [f"{figure(one.operations)} / {figure(one.per_cpu_second)}" for one in found[case].values()]
        if case.clients:
            run.say(line(case.label, cells))
    run.say("\n" + beyond(found))
