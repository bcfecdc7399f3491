"""The proxies that are measured: ours and its peers, each on one core, with the same certificate and backend."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from demo import await_ready, end, write_endpoints, write_secret, write_whole

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

NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log crit; worker_rlimit_nofile 19000;
events {{ worker_connections 18000; }}
http {{ access_log off; keepalive_requests 1000000000; server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; client_max_body_size 1g;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  upstream bench {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  ssl_certificate {dir}/both.pem; ssl_certificate_key {dir}/both.pem; ssl_protocols TLSv1.2 TLSv1.3;
  server {{ listen 127.0.0.1:{http} backlog=4096; listen 127.0.0.1:{https} ssl backlog=4096; server_name bench.localhost{names};
    location / {{ proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Host $host; proxy_read_timeout 1h;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; proxy_request_buffering off;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-ID $request_id; }} }} }}
"""

HAPROXY = """global
  nbthread 1
  maxconn 9000
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout client 1h
  timeout server 1h
  timeout connect 5s
  timeout tunnel 1h
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{http} backlog 4096
  bind 127.0.0.1:{https} ssl crt {dir}/both.pem alpn http/1.1 backlog 4096
  unique-id-format %{{+X}}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-ID
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  use_backend b if {{ hdr(host) -i bench.localhost{names} }}
backend b
  server s 127.0.0.1:{backend}
"""

CADDY = """{{
  admin off
  auto_https off
  default_sni bench.localhost
}}
http://bench.localhost:{http} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{backend}
}}
https://:{https} {{
  bind 127.0.0.1
  tls {dir}/both.pem {dir}/key.pem
  reverse_proxy 127.0.0.1:{backend}
}}
"""

_ENVOY_ROUTE = """          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: bench
            upgrade_configs: [{{upgrade_type: websocket}}]
            route_config:
              virtual_hosts:
              - name: bench
                domains: [bench.localhost, "bench.localhost:*"]
                routes: [{{match: {{prefix: /}}, route: {{cluster: bench, timeout: 0s}}}}]
            http_filters:
            - name: envoy.filters.http.router
              typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"""
ENVOY = (
    """static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {http}}}}}
    filter_chains:
    - filters:
        - name: envoy.filters.network.http_connection_manager
"""
    + _ENVOY_ROUTE
    + """  - address: {{socket_address: {{address: 127.0.0.1, port_value: {https}}}}}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [http/1.1]
            tls_certificates: [{{certificate_chain: {{filename: {dir}/both.pem}}, private_key: {{filename: {dir}/key.pem}}}}]
      filters:
        - name: envoy.filters.network.http_connection_manager
"""
    + _ENVOY_ROUTE
    + """  clusters:
  - name: bench
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{thresholds: [{{max_connections: 100000, max_requests: 100000, max_pending_requests: 100000}}]}}
    load_assignment:
      cluster_name: bench
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend}}}}}}}}}]}}]
"""
)


class Proxy:
    """A running proxy: its ports, and the session whose processes are its CPU and memory."""

    def __init__(self, name: str, pid: int, http: int, https: int, folder: Path | None = None) -> None:
        self.name, self.pid, self.http, self.https = name, pid, http, https
        self.folder = folder
        """The objects that ours serves; None for peers."""

    def _stats(self) -> Iterator[tuple[Path, list[str]]]:
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rsplit(")", 1)[1].split()
                if fields[3] == str(self.pid):
                    yield path.parent, fields

    def cpu(self) -> float:
        """Seconds of CPU that all processes of the session have used."""
        used = 0.0
        for folder, _ in self._stats():
            with contextlib.suppress(OSError):
                # Linux' clock of all threads of a process (clock_getcpuclockid(3)): nanoseconds. /proc/PID/stat counts in
                # ticks of 10 ms, a few hundredths of a short measurement; schedstat knows single threads only.
                used += time.clock_gettime((~int(folder.name) << 3) | 2)
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
def peer(name: str, folder: Path, backend: int, names: tuple[str, ...] = ()) -> Iterator[Proxy]:
    """Run nginx, haproxy, caddy or envoy with a configuration that does what ours does; `names` are further hosts."""
    http, https = free_port(), free_port()
    template, command = {
        "nginx": (NGINX, ["nginx", "-p", str(folder), "-c"]),
        "haproxy": (HAPROXY, ["haproxy", "-db", "-f"]),
        "caddy": (CADDY, ["caddy", "run", "--adapter", "caddyfile", "--config"]),
        "envoy": (ENVOY, [envoy() or "envoy", "--concurrency", "1", "--log-level", "error", "--disable-hot-restart", "-c"]),
    }[name]
    path = folder / f"{name}.yaml"
    path.write_text(template.format(dir=folder, backend=backend, http=http, https=https, names="".join(f" {one}" for one in names)))
    environment = {**os.environ, "GOMAXPROCS": "1", "HOME": str(folder)}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["taskset", "-c", PROXY_CORE, *command, str(path)], start_new_session=True, stdout=log, stderr=log, env=environment
        )
        try:
            _listens(http, process)
            yield Proxy(name, process.pid, http, https)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers too
            process.wait()


def envoy() -> str | None:
    """Return where Envoy is: on the path, or in the environment that `make bench` makes for it."""
    return shutil.which("envoy") or shutil.which("envoy", path=str(ROOT / "build" / "envoy" / "bin"))


def available() -> list[str]:
    """Return the peers that are installed."""
    return [name for name in ("nginx", "haproxy", "caddy") if shutil.which(name)] + (["envoy"] if envoy() else [])


def write_objects(folder: Path, certificate: tuple[bytes, bytes], backend: int, further: str = "") -> None:
    """Write what ours serves: one Ingress for the bench's host, and further objects."""
    folder.mkdir(exist_ok=True)
    write_whole(folder / "objects.yaml", SERVICE + INGRESS + further)
    write_secret(folder, *certificate)
    write_endpoints(folder, {"bench": backend})


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
