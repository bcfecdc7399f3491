"""Sluice beside nginx and HAProxy: CPU microseconds of the proxy per operation, interleaved rounds, medians and ratios.

One core for the proxy, the others for the load and the backend. Needs nginx, haproxy and wrk from Debian. All on 127.0.0.1.
Usage: side_by_side.py [ROUNDS] [SECONDS]
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from demo import make_certificate, sluice, write_endpoints, write_secret, write_whole

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE, LOAD_CORES = str(CORES[0]), ",".join(map(str, CORES[1:] or CORES))

OBJECTS = """apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: sluice}
spec: {controller: sluice.dev/ingress-controller}
---
apiVersion: v1
kind: Service
metadata: {name: bench}
spec: {ports: [{name: http, port: 80}]}
---
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

NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log crit;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 1000000000;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  upstream bench {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  ssl_certificate {dir}/both.pem; ssl_certificate_key {dir}/both.pem; ssl_protocols TLSv1.2 TLSv1.3;
  server {{ listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl; server_name bench.localhost;
    location / {{ proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-ID $request_id; }} }} }}
"""

HAPROXY = """global
  nbthread 1
  maxconn 4000
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  timeout tunnel 1h
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{http}
  bind 127.0.0.1:{https} ssl crt {dir}/both.pem alpn http/1.1
  unique-id-format %{{+X}}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-ID
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  use_backend b if {{ hdr(host) -i bench.localhost }}
backend b
  server s 127.0.0.1:{backend}
"""

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


class Proxy:
    """A running proxy: its ports, and the session whose processes are its CPU."""

    def __init__(self, name: str, pid: int, http: int, https: int) -> None:
        self.name, self.pid, self.http, self.https = name, pid, http, https

    def cpu(self) -> float:
        """Seconds of CPU that all processes of the session have used."""
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rsplit(")", 1)[1].split()
                if fields[3] == str(self.pid):
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS


def free_port() -> int:
    """Pick a port that is free now."""
    import socket  # noqa: PLC0415  only here

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def peer(name: str, command: list[str], folder: Path, template: str, backend: int) -> Iterator[Proxy]:
    """Run nginx or HAProxy with our configuration."""
    http, https = free_port(), free_port()
    (folder / name).write_text(template.format(dir=folder, backend=backend, http=http, https=https))
    process = subprocess.Popen(["taskset", "-c", PROXY_CORE, *command, str(folder / name)], start_new_session=True)
    time.sleep(1)
    try:
        yield Proxy(name, process.pid, http, https)
    finally:
        process.terminate()
        process.wait()


def http_load(url: str, seconds: float, *, browser: Path | None) -> int:
    """Run wrk over 64 connections; return how many requests were answered."""
    command = ["taskset", "-c", LOAD_CORES, "wrk", "-t1", "-c64", f"-d{max(1, round(seconds))}s"]
    command += ["-s", str(browser), url] if browser else ["-H", "Host: bench.localhost", url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"{url}: {output}")
    return int(next(line.split()[0] for line in output.splitlines() if "requests in" in line))


def socket_load(port: int, size: int, seconds: float, before: Callable[[], None], *, tls: bool) -> int:
    """Echo over 64 sockets; `before` is called when they are open. Return the round trips."""
    command = [
        "taskset",
        "-c",
        LOAD_CORES,
        sys.executable,
        str(HERE / "websocket_load.py"),
        str(port),
        str(int(tls)),
        "64",
        str(size),
        str(seconds),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None  # noqa: S101  a pipe was asked for
    if process.stdout.readline().strip() != "open":
        raise SystemExit("the sockets did not open")
    before()
    out, _ = process.communicate("\n")
    return int(out)


def measure(proxy: Proxy, load: str, seconds: float, browser: Path) -> float:
    """Return CPU microseconds per operation of one load."""
    start = proxy.cpu()
    kind, _, detail = load.partition(" ")
    if kind in ("HTTP", "HTTPS"):
        url = f"https://127.0.0.1:{proxy.https}/" if kind == "HTTPS" else f"http://127.0.0.1:{proxy.http}/"
        count = http_load(url, seconds, browser=browser if detail == "browser-like" else None)
    else:

        def opened() -> None:
            nonlocal start
            start = proxy.cpu()

        tls = kind == "WSS"
        count = socket_load(proxy.https if tls else proxy.http, int(detail.split()[0]), seconds, opened, tls=tls)
    return (proxy.cpu() - start) / count * 1e6


LOADS = (
    "HTTP two fields",
    "HTTP browser-like",
    "HTTPS two fields",
    "HTTPS browser-like",
    "WS 64 B",
    "WS 1024 B",
    "WS 16384 B",
    "WSS 64 B",
    "WSS 1024 B",
    "WSS 16384 B",
)


def main(rounds: int = 3, seconds: float = 2.0) -> None:
    """Run all loads against all proxies and print the table."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backend = subprocess.Popen(
            ["taskset", "-c", LOAD_CORES, sys.executable, str(HERE / "backend.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(backend.terminate)
        assert backend.stdout is not None  # noqa: S101  a pipe was asked for
        port = int(backend.stdout.readline())
        chain, key = make_certificate()
        (folder / "both.pem").write_bytes(chain + key)
        browser = folder / "browser.lua"
        browser.write_text(BROWSER)
        objects = folder / "objects"
        objects.mkdir()
        write_whole(objects / "objects.yaml", OBJECTS)
        write_secret(objects, chain, key)
        write_endpoints(objects, {"bench": port})
        free = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1", "--drain-time", "0s"]
        os.sched_setaffinity(0, {CORES[0]})
        process, listening = stack.enter_context(sluice(objects, free))
        os.sched_setaffinity(0, set(CORES))
        ports = {name: int(listening[name].rsplit(":", 1)[1]) for name in ("http", "https")}
        proxies = [Proxy("sluice", process.pid, **ports)]
        if shutil.which("nginx"):
            proxies.append(stack.enter_context(peer("nginx", ["nginx", "-p", str(folder), "-c"], folder, NGINX, port)))
        if shutil.which("haproxy"):
            proxies.append(stack.enter_context(peer("haproxy", ["haproxy", "-db", "-f"], folder, HAPROXY, port)))
        print("| load, CPU µs per operation | " + " | ".join(p.name for p in proxies) + " | ours / best |")
        print("|---" * (len(proxies) + 2) + "|")
        for load in LOADS:
            seen: dict[str, list[float]] = {p.name: [] for p in proxies}
            for _ in range(rounds):
                for proxy in proxies:
                    seen[proxy.name].append(measure(proxy, load, seconds, browser))
            medians = {name: statistics.median(values) for name, values in seen.items()}
            best = min(value for name, value in medians.items() if name != "sluice") if len(medians) > 1 else medians["sluice"]
            row = " | ".join(f"{medians[p.name]:.1f} ({min(seen[p.name]):.1f}-{max(seen[p.name]):.1f})" for p in proxies)
            print(f"| {load} | {row} | {medians['sluice'] / best:.2f} |", flush=True)


if __name__ == "__main__":
    main(*(int(sys.argv[1]),) if len(sys.argv) > 1 else (), *(float(sys.argv[2]),) if len(sys.argv) > 2 else ())
