"""Costs that grow: thousands of routes, changes among them, and a second worker."""

import contextlib
import functools
import http.client
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from demo import write_whole
from loads import BROWSER, http_load, wrk
from many_hosts import host, many_hosts
from peers import CORES, HOST, Proxy, backend, ours, trees, write_objects
from report import Row
from run import Run

FEW, MANY = 10, 10_000
PEER_CHANGES = 10
HOSTS = Row(f"CPU per request, {MANY:,} hosts over {FEW}", "", goal=1.05, limit=1.15, alone=True)
MEMORY = Row("5,000 routes over none, MB, all processes, two workers", "", goal=40, limit=80, alone=True)
STALL = Row("longest answer while one route of 5,000 changes, ms", "", goal=5, limit=15, alone=True)
CHANGE = Row("changed file to first answer, 3,000 routes, ms", "", goal=10, limit=25, alone=True)
ROUTES = (HOSTS, MEMORY, STALL, CHANGE)
ONE = Row("HTTP, browser-like, one worker", "1/s", higher=True)
TWO = Row("HTTP, browser-like, two workers", "1/s", higher=True)
OVER = Row("requests per second, two workers over one", "", higher=True)
CPU_OVER = Row("CPU per request, two workers over one", "")
WORKERS = (ONE, TWO, OVER, CPU_OVER)


def ingress(number: int, path: str = "/") -> str:
    """Write an Ingress with a host of its own."""
    return f"""---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: h{number}, annotations: {{sluice.dev/ssl-redirect: "false"}}}}
spec:
  ingressClassName: sluice
  rules:
  - host: {host(number)}
    http: {{paths: [{{path: {path}, pathType: Prefix, backend: {{service: {{name: bench, port: {{number: 80}}}}}}}}]}}
"""


def _status(connection: http.client.HTTPConnection, name: str, path: str) -> int:
    try:
        connection.request("GET", path, headers={"Host": name})
        answer = connection.getresponse()
        answer.read()
    except (ConnectionError, http.client.BadStatusLine):
        connection.close()  # a worker of before a peer's reload has ended
        return 0
    return answer.status


def change_to_answer(port: int, name: str, change: Callable[[str], None], times: int = 20) -> list[float]:
    """Milliseconds from a change of a host's path to the first answer by the new route, for each of some changes."""
    found = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for turn in range(times + 1):
        time.sleep(0.7)  # changes that follow each other at once are taken together: not what is measured
        start = time.perf_counter()
        change(f"/v{turn}")
        while _status(connection, name, f"/v{turn}") != 200:
            pass
        found.append((time.perf_counter() - start) * 1000)
    return found[1:]  # before the first change the path was /, which answers to all


def changed_file(proxy: Proxy, number: int, times: int = 20) -> list[float]:
    """Do so with a file of ours."""
    folder = proxy.folder
    assert folder is not None

    def change(path: str) -> None:
        write_whole(folder / f"h{number}.yaml", ingress(number, path))

    return change_to_answer(proxy.http, host(number), change, times)


def longest_stall(proxy: Proxy, number: int) -> float:
    """Milliseconds of the longest answer to a steady probe while one route changes ten times."""
    stop = threading.Event()
    longest = [0.0]

    def probe() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.http, timeout=10)
        while not stop.is_set():
            start = time.perf_counter()
            _status(connection, HOST, "/")
            longest[0] = max(longest[0], (time.perf_counter() - start) * 1000)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        changed_file(proxy, number, 10)
    finally:
        stop.set()
        thread.join()
    return longest[0]


def many_routes(run: Run) -> None:
    """Measure what depends on the number of routes."""
    hosts: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    stall: dict[str, list[float]] = {}
    change: dict[str, list[float]] = {}
    for name, tree in trees().items():
        hosts[name] = _hosts_ratios(run, functools.partial(_ours_with_hosts, run, name, tree))
        objects = run.folder / f"routes-{name}"
        write_objects(objects, run.certificate, run.port)
        with ours(name, tree, objects, workers=2) as one:
            empty = one.memory()
        for number in range(5000):
            write_whole(objects / f"h{number}.yaml", ingress(number).removeprefix("---\n"))
        with ours(name, tree, objects, workers=2) as one:
            memory[name] = [(one.memory() - empty) / 1024]
        with ours(name, tree, objects) as one:
            stall[name] = [longest_stall(one, 2500)]
        for number in range(3000, 5000):
            (objects / f"h{number}.yaml").unlink()
        with ours(name, tree, objects) as one:
            change[name] = changed_file(one, 1500)
    for name in run.peers:
        hosts[name] = _hosts_ratios(run, functools.partial(_peer_with_hosts, run, name))
        change[name] = _peer_changes(run, name)
    for row, values in ((HOSTS, hosts), (MEMORY, memory), (STALL, stall), (CHANGE, change)):
        run.tell(replace(row, values=values))


def _hosts_ratios(run: Run, start: Callable[[int], contextlib.AbstractContextManager[Proxy]]) -> list[float]:
    """CPU per request with many hosts over that with few, in each round; the host asked for is the middle one."""
    with start(FEW) as few, start(MANY) as many:
        return [
            http_load(host=host(MANY // 2))(many, run.seconds) / http_load(host=host(FEW // 2))(few, run.seconds)
            for _ in range(run.rounds)
        ]


@contextlib.contextmanager
def _ours_with_hosts(run: Run, name: str, tree: Path, count: int) -> Iterator[Proxy]:
    folder = run.folder / f"hosts-{name}-{count}"
    write_objects(folder, run.certificate, run.port)
    write_whole(folder / "hosts.yaml", "".join(ingress(number) for number in range(count)))
    with ours(name, tree, folder) as one:
        yield one


@contextlib.contextmanager
def _peer_with_hosts(run: Run, name: str, count: int) -> Iterator[Proxy]:
    with many_hosts(name, run.folder / f"hosts-{name}-{count}", run.port, ["/"] * count) as one:
        yield one.proxy


def _peer_changes(run: Run, name: str) -> list[float]:
    paths = ["/"] * 3000
    with many_hosts(name, run.folder / f"routes-{name}", run.port, paths) as many:

        def change(path: str) -> None:
            paths[1500] = path
            many.change(paths)

        return change_to_answer(many.proxy.http, host(1500), change, PEER_CHANGES)


def two_workers(run: Run) -> None:
    """Measure a second worker: ours only, each worker on a core of its own, load and backend on two more."""
    rest = ",".join(map(str, CORES[2:]))
    rates: dict[tuple[str, int], list[float]] = {}
    cpus: dict[tuple[str, int], list[float]] = {}
    whole = max(1, round(run.seconds))
    with backend(rest) as port, contextlib.ExitStack() as stack:
        proxies = []
        for name, tree in trees().items():
            objects = run.folder / f"workers-{name}"
            write_objects(objects, run.certificate, port)
            proxies += [(name, count, stack.enter_context(ours(name, tree, objects, workers=count))) for count in (1, 2)]
        reached = [wrk(Proxy("backend", 0, port, 0), whole, script=BROWSER, cores=rest) / whole for _ in range(run.rounds)]
        for _ in range(run.rounds):
            for name, count, one in proxies:
                start = one.cpu()
                answered = wrk(one, whole, script=BROWSER, cores=rest)
                cpus.setdefault((name, count), []).append((one.cpu() - start) / answered)
                rates.setdefault((name, count), []).append(answered / whole)

    def over(values: dict[tuple[str, int], list[float]]) -> dict[str, list[float]]:
        return {name: [two / one for one, two in zip(values[name, 1], values[name, 2], strict=True)] for name in trees()}

    for row, values in (
        (ONE, {name: rates[name, 1] for name in trees()}),
        (TWO, {name: rates[name, 2] for name in trees()}),
        (OVER, over(rates)),
        (CPU_OVER, over(cpus)),
    ):
        run.tell(replace(row, values=values))
    run.say(f"\nWithout a proxy this load and backend reach {statistics.median(reached):.0f} requests a second.")
