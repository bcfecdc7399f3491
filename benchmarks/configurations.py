"""The configurations of the peers: each does what ours does with its one Ingress. `str.format` fills them in."""

NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log crit; worker_rlimit_nofile 19000;
events {{ worker_connections 18000; }}
http {{ access_log off; keepalive_requests 1000000000; server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; client_max_body_size 1g;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  upstream bench {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  ssl_certificate {dir}/both.pem; ssl_certificate_key {dir}/both.pem; ssl_protocols TLSv1.2 TLSv1.3;
  server {{ listen 127.0.0.1:{http} backlog=4096; listen 127.0.0.1:{https} ssl backlog=4096; server_name bench.localhost;
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
  use_backend b if {{ hdr(host) -i bench.localhost }}
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

TEMPLATES = {"nginx": NGINX, "haproxy": HAPROXY, "caddy": CADDY, "envoy": ENVOY}

GREEDY_NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log crit; worker_rlimit_nofile 19000;
events {{ worker_connections 18000; }}
http {{ access_log off; keepalive_requests 1000000000; client_max_body_size 0; large_client_header_buffers 8 16k;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  upstream bench {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; }}
  upstream innocent {{ server 127.0.0.1:{innocent}; keepalive 256; keepalive_requests 1000000000; }}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  ssl_certificate {dir}/both.pem; ssl_certificate_key {dir}/both.pem; ssl_protocols TLSv1.2 TLSv1.3;
  proxy_http_version 1.1; proxy_set_header Host $host; proxy_read_timeout 1h; proxy_request_buffering off; proxy_buffering off;
  proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Request-ID $request_id;
  server {{ listen 127.0.0.1:{http} backlog=4096; listen 127.0.0.1:{https} ssl backlog=4096; server_name bench.localhost;
    location / {{ return 404; }}
    location /served {{ proxy_pass http://bench; }} }}
  server {{ listen 127.0.0.1:{http}; server_name innocent.localhost; location / {{ proxy_pass http://innocent; }} }} }}
"""

GREEDY_HAPROXY = """global
  nbthread 1
  maxconn 9000
  ssl-default-bind-options ssl-min-ver TLSv1.2
  tune.bufsize {bufsize}
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
  acl innocent hdr(host) -i innocent.localhost
  http-request return status 404 content-type text/plain string "not found" if !innocent !{{ path_beg /served }}
  use_backend i if innocent
  default_backend b
backend b
  server s 127.0.0.1:{backend}
backend i
  server s 127.0.0.1:{innocent}
"""
GREEDY = {"nginx": GREEDY_NGINX, "haproxy": GREEDY_HAPROXY}
"""Of the peers beside greedy clients: bench.localhost is served under /served, and innocent.localhost has a backend of its own."""
