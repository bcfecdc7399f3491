"""The peers with many hosts, each with a path of its own, and how each learns of a change."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo import write_whole
from peers import Proxy, free_port, running, start_of

NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log crit; worker_rlimit_nofile 19000;
events {{ worker_connections 18000; }}
http {{ access_log off; keepalive_requests 1000000000; server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream bench {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  proxy_http_version 1.1; proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upgrade; proxy_request_buffering off; proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-ID $request_id;
  server {{ listen 127.0.0.1:{http} default_server backlog=4096; return 404; }}
{hosts}
}}
"""
NGINX_HOST = "  server {{ listen 127.0.0.1:{http}; server_name {host}; location {path} {{ proxy_pass http://bench; }} }}"
HAPROXY = """global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout client 1h
  timeout server 1h
  timeout connect 5s
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{http} backlog 4096
  unique-id-format %{{+X}}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-ID
  use_backend %[base,lower,map_beg({folder}/haproxy.map)]
backend b
  server s 127.0.0.1:{backend}
"""
CADDY = """{{
  admin 127.0.0.1:{admin}
  auto_https off
}}
{hosts}
"""
CADDY_HOST = """http://{host}:{http} {{
  bind 127.0.0.1
  handle {path}* {{
    reverse_proxy 127.0.0.1:{backend}
  }}
  respond 404
}}"""
ENVOY = """node: {{id: bench, cluster: bench}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {http}}}}}
    filter_chains:
    - filters:
        - name: envoy.filters.network.http_connection_manager
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: bench
            rds: {{route_config_name: bench, config_source: {{path_config_source: {{path: {folder}/envoy-routes.yaml}}}}}}
            http_filters:
            - name: envoy.filters.http.router
              typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: bench
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: bench
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend}}}}}}}}}]}}]
"""
ENVOY_ROUTES = """resources:
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: bench
  virtual_hosts:
{hosts}
"""
ENVOY_HOST = (
    '  - {{name: {host}, domains: ["{host}"], routes: [{{match: {{prefix: {path}}}, route: {{cluster: bench, timeout: 0s}}}}]}}'
)


def host(number: int) -> str:
    """Return the name of a host."""
    return f"h{number}.localhost"


@dataclass(frozen=True, slots=True)
class ManyHosts:
    """A running peer with many hosts."""

    proxy: Proxy
    folder: Path
    backend: int
    admin: int

    def write(self, paths: Sequence[str]) -> None:
        """Write the configuration: each number's host serves its path."""
        name, http = self.proxy.name, self.proxy.http
        lines = {"nginx": NGINX_HOST, "haproxy": "{host}{path} b", "caddy": CADDY_HOST, "envoy": ENVOY_HOST}[name]
        hosts = "\n".join(
            lines.format(host=host(number), path=path, http=http, backend=self.backend) for number, path in enumerate(paths)
        )
        template = {"nginx": NGINX, "haproxy": HAPROXY, "caddy": CADDY, "envoy": ENVOY}[name]
        filled = template.format(folder=self.folder, http=http, backend=self.backend, admin=self.admin, hosts=hosts)
        if name == "haproxy":
            write_whole(self.folder / "haproxy.map", hosts + "\n")
        if name == "envoy":
            write_whole(self.folder / "envoy-routes.yaml", ENVOY_ROUTES.format(hosts=hosts))
        write_whole(self.folder / f"{name}.yaml", filled)

    def change(self, paths: Sequence[str]) -> None:
        """Write the configuration and have the peer take it up, as its manual says."""
        self.write(paths)
        match self.proxy.name:
            case "nginx":
                os.kill(self.proxy.pid, signal.SIGHUP)
            case "haproxy":
                os.kill(self.proxy.pid, signal.SIGUSR2)
            case "caddy":
                command = ["caddy", "reload", "--adapter", "caddyfile", "--address", f"127.0.0.1:{self.admin}", "--config"]
                subprocess.run([*command, str(self.folder / "caddy.yaml")], check=True, capture_output=True)
            case _:
                pass  # Envoy watches the file of its routes


@contextlib.contextmanager
def many_hosts(name: str, folder: Path, backend: int, paths: Sequence[str]) -> Iterator[ManyHosts]:
    """Run a peer with many hosts."""
    folder.mkdir()
    http, admin = free_port(), free_port()
    written = ManyHosts(Proxy(name, 0, http, 0), folder, backend, admin)
    written.write(paths)
    command = start_of(name, folder)
    if name == "haproxy":
        command.insert(1, "-W")  # a master, which starts a new worker when told to
    with running(name, [*command, str(folder / f"{name}.yaml")], folder, http, 0) as proxy:
        yield ManyHosts(proxy, folder, backend, admin)
