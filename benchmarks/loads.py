"""Measurements, one function for each kind: the cost of a proxy per operation, per idle socket, or per change."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from certificates import ECDSA, RSA
from peers import HOST, LOAD_CORES, Proxy
from programs import program
from report import Row

HERE = Path(__file__).parent
IDLE_SOCKETS = 4000
BROADCAST_SOCKETS = 1000
SHAKING = 8

BROWSER = """local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", "/shop/items/" .. n .. "?page=" .. (n % 97) .. "&t=" .. n, {
    ["Host"] = "bench.localhost", ["Connection"] = "keep-alive", ["Cache-Control"] = "max-age=0",
    ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    ["Sec-Fetch-Site"] = "same-origin", ["Sec-Fetch-Mode"] = "navigate", ["Sec-Fetch-Dest"] = "document",
    ["Referer"] = "https://bench.localhost/shop/", ["Accept-Encoding"] = "gzip, deflate, br, zstd",
    ["Accept-Language"] = "en-GB,en;q=0.9", ["Cookie"] = "session=abcdef0123456789; n=" .. n .. "; theme=dark" })
end
"""
POST = """wrk.method = "POST"
wrk.headers["Host"] = "bench.localhost"
wrk.body = string.rep("x", 65536)
"""


@dataclass(frozen=True, slots=True)
class Load:
    """One row of the table."""

    name: str
    unit: str
    measure: Callable[[Proxy, float], float]
    goal: float
    limit: float
    """Ours over the best peer: what is wanted, and above what the project is not done (below, where higher is better)."""
    higher: bool = False
    relay: bool = False
    """The relay that only copies can take it."""
    key: str = ECDSA
    """Of the proxies' certificate."""

    def row(self, values: Mapping[str, Sequence[float]]) -> Row:
        """Return the row with what was measured."""
        return Row(self.name, self.unit, values, self.goal, self.limit, higher=self.higher)


def wrk(
    proxy: Proxy,
    seconds: float,
    *,
    tls: bool = False,
    script: str = "",
    fields: Sequence[str] = (),
    host: str = HOST,
    cores: str = LOAD_CORES,
) -> int:
    """Run wrk; return how many requests were answered."""
    url = f"https://127.0.0.1:{proxy.https}/" if tls else f"http://127.0.0.1:{proxy.http}/"
    command = ["taskset", "-c", cores, "wrk", "-t1", "-c64", f"-d{max(1, round(seconds))}s"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        if script:
            file.write(script)
            file.flush()
            command += ["-s", file.name]
        else:
            command += ["-H", f"Host: {host}"]
        for field in fields:
            command += ["-H", field]
        output = subprocess.run([*command, url], check=True, capture_output=True, text=True, timeout=seconds + 60).stdout
    # A connection that the peer closes after its answer counts as an error in wrk's eyes.
    if "Non-2xx" in output or ("Socket errors" in output and not any(field.endswith("close") for field in fields)):
        raise SystemExit(f"{proxy.name}: {output}")
    return int(next(line.split()[0] for line in output.splitlines() if "requests in" in line))


def http_load(
    *, tls: bool = False, script: str = "", fields: Sequence[str] = (), host: str = HOST
) -> Callable[[Proxy, float], float]:
    """CPU microseconds per request."""

    def measure(proxy: Proxy, seconds: float) -> float:
        start = proxy.cpu()
        count = wrk(proxy, seconds, tls=tls, script=script, fields=fields, host=host)
        return (proxy.cpu() - start) / count * 1e6

    return measure


@contextlib.contextmanager
def sockets(kind: str, port: int, *, tls: bool, count: int, size: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Open sockets; they are all open when this is entered."""
    arguments = [kind, str(port), str(int(tls)), str(count), str(size), str(seconds)]
    process = subprocess.Popen(
        ["taskset", "-c", LOAD_CORES, sys.executable, str(HERE / "websocket_load.py"), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "open":
            raise SystemExit("the sockets did not open")
        yield process
    finally:
        process.kill()
        process.communicate()


def socket_load(kind: str, count: int, size: int, *, tls: bool) -> Callable[[Proxy, float], float]:
    """CPU microseconds per message that came."""

    def measure(proxy: Proxy, seconds: float) -> float:
        port = proxy.https if tls else proxy.http
        with sockets(kind, port, tls=tls, count=count, size=size, seconds=seconds) as process:
            start = proxy.cpu()
            out, _ = process.communicate("\n", timeout=seconds + 30)
            return (proxy.cpu() - start) / int(out) * 1e6

    return measure


def idle_load(*, tls: bool) -> Callable[[Proxy, float], float]:
    """Kilobytes (PSS) per idle socket, after some sockets had come and gone."""

    def measure(proxy: Proxy, seconds: float) -> float:
        del seconds
        port = proxy.https if tls else proxy.http
        with sockets("idle", port, tls=tls, count=100, size=1, seconds=0):
            pass
        time.sleep(1)
        start = proxy.memory()
        with sockets("idle", port, tls=tls, count=IDLE_SOCKETS, size=1, seconds=0):
            time.sleep(2)
            return (proxy.memory() - start) / IDLE_SOCKETS

    return measure


def handshakes(proxy: Proxy, seconds: float) -> float:
    """Full TLS handshakes per CPU second, of more clients than a core can serve."""
    start = proxy.cpu()
    output = subprocess.run(
        ["taskset", "-c", LOAD_CORES, str(program("handshakes")), str(proxy.https), HOST, str(SHAKING), str(seconds)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=seconds + 60,
    ).stdout
    return int(output) / (proxy.cpu() - start)


LOADS = (
    Load("HTTP, two fields", "µs", http_load(tls=False), 1.0, 1.4, relay=True),
    Load("HTTP, browser-like", "µs", http_load(tls=False, script=BROWSER), 1.0, 2.0, relay=True),
    Load("HTTPS, two fields", "µs", http_load(tls=True), 1.0, 1.5),
    Load("HTTPS, browser-like", "µs", http_load(tls=True, script=BROWSER), 1.0, 2.0),
    Load("WS echo 64 B", "µs", socket_load("echo", 64, 64, tls=False), 1.0, 1.45, relay=True),
    Load("WS echo 1 KiB", "µs", socket_load("echo", 64, 1024, tls=False), 1.0, 1.35, relay=True),
    Load("WS echo 16 KiB", "µs", socket_load("echo", 64, 16384, tls=False), 1.0, 1.1, relay=True),
    Load("WSS echo 64 B", "µs", socket_load("echo", 64, 64, tls=True), 1.0, 1.4),
    Load("WSS echo 1 KiB", "µs", socket_load("echo", 64, 1024, tls=True), 1.0, 1.5),
    Load("WSS echo 16 KiB", "µs", socket_load("echo", 64, 16384, tls=True), 1.0, 1.2),
    Load("WS broadcast to 1,000, 64 B", "µs", socket_load("broadcast", BROADCAST_SOCKETS, 64, tls=False), 1.0, 1.3, relay=True),
    Load("WSS broadcast to 1,000, 64 B", "µs", socket_load("broadcast", BROADCAST_SOCKETS, 64, tls=True), 1.0, 1.3),
    Load("POST of 64 KiB", "µs", http_load(tls=False, script=POST), 0.0, 0.0, relay=True),
    Load("connect, GET, close", "µs", http_load(tls=False, fields=("Connection: close",)), 0.0, 0.0, relay=True),
    Load("memory per idle WS", "KB", idle_load(tls=False), 0.5, 1.0, relay=True),
    Load("memory per idle WSS", "KB", idle_load(tls=True), 1.0, 1.3),
    Load(f"full TLS handshakes per CPU second, {RSA}", "1/s", handshakes, 1.0, 0.7, higher=True, key=RSA),
    Load(f"full TLS handshakes per CPU second, {ECDSA}", "1/s", handshakes, 1.0, 0.7, higher=True),
)
"""Rows with a goal of 0 are reported and not judged."""
