#!/bin/sh
# HAProxy tells an HTTP/2 client REFUSED_STREAM, "safe to repeat", for a request that its backend had got whole and then gave up.
#
# Expected: RFC 9113, 8.7: REFUSED_STREAM says that no processing took place and that the request may be sent again, whatever its method; a proxy
#   must not say so of a request that a server has processed in part. A reset for an error would stay one (INTERNAL_ERROR), or be a 502.
# Happens: the backend reads head and body of a POST and resets the stream with INTERNAL_ERROR. Directly the client sees INTERNAL_ERROR;
#   through HAProxy, HTTP/2 on both sides, it sees REFUSED_STREAM.
# Matters: clients that repeat refused streams by themselves, as grpc-go does, send a call twice which the backend has begun, an order or a payment
#   too. Behind HAProxy such calls need a key that makes repeating harmless.
# Needs: Debian's package lists (apt-get), Python 3.11 or newer. Nothing is installed outside a temporary folder.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
mkdir "$work/packages"
download() {
    (cd "$work/packages" && apt-get download -qq -o APT::Sandbox::User=root haproxy liblua5.3-0 libopentracing1 libopentracing-c-wrapper0)
}
download 2>/dev/null || { apt-get update -qq && download; }
for package in "$work"/packages/*.deb; do dpkg-deb -x "$package" "$work/root"; done
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check h2==4.4.1

echo "haproxy $(dpkg-deb -f "$work"/packages/haproxy_*.deb Version) of Debian, $("$work/venv/bin/python" -m pip freeze | grep '^h2==')"
cat >"$work/haproxy.cfg" <<CONF
defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend front
  bind unix@$work/front proto h2
  default_backend back
backend back
  server one unix@$work/back proto h2
CONF
cat >"$work/try.py" <<'PYTHON'
import asyncio
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

FRONT, BACK = sys.argv[1:]
HEAD = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", "/orders")]
got: list[str] = []


async def give_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = H2Connection(H2Configuration(client_side=False))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    while data := await reader.read(65536):
        for event in connection.receive_data(data):
            if isinstance(event, DataReceived):
                got.append(event.data.decode())
            elif isinstance(event, StreamEnded):
                connection.reset_stream(event.stream_id, ErrorCodes.INTERNAL_ERROR)
        writer.write(connection.data_to_send())
    writer.close()


async def order(path: str) -> str:
    reader, writer = await asyncio.open_unix_connection(path)
    connection = H2Connection(H2Configuration())
    connection.initiate_connection()
    connection.send_headers(1, HEAD)
    connection.send_data(1, b"one more order", end_stream=True)
    writer.write(connection.data_to_send())
    while data := await asyncio.wait_for(reader.read(65536), 20):
        for event in connection.receive_data(data):
            if isinstance(event, StreamReset | ResponseReceived):
                writer.close()
                return f"RST_STREAM {ErrorCodes(event.error_code).name}" if isinstance(event, StreamReset) else str(event.headers)
        writer.write(connection.data_to_send())
    return "the end of the connection"


async def main() -> None:
    await asyncio.start_unix_server(give_up, BACK)
    for name, path in (("directly", BACK), ("through HAProxy", FRONT)):
        got.clear()
        print(f"{name}: the client saw {await order(path)}, the backend had got: {', '.join(got)}")


asyncio.run(main())
PYTHON
LD_LIBRARY_PATH="$(echo "$work"/root/usr/lib/*-linux-gnu*)" "$work/root/usr/sbin/haproxy" -db -f "$work/haproxy.cfg" >"$work/log" 2>&1 &
haproxy=$!
trap 'kill "$haproxy" 2>/dev/null || :; wait "$haproxy" 2>/dev/null || :; rm -rf "$work"' EXIT
tries=0
until [ -S "$work/front" ]; do tries=$((tries + 1)); [ "$tries" -le 100 ] || { cat "$work/log"; exit 1; }; sleep 0.1; done
"$work/venv/bin/python" "$work/try.py" "$work/front" "$work/back" >"$work/found" 2>"$work/errors" || { cat "$work/errors"; exit 1; }
cat "$work/found"
cat >"$work/expected" <<'TEXT'
directly: the client saw RST_STREAM INTERNAL_ERROR, the backend had got: one more order
through HAProxy: the client saw RST_STREAM REFUSED_STREAM, the backend had got: one more order
TEXT
diff "$work/expected" "$work/found" || { echo "The behaviour has changed."; exit 1; }
