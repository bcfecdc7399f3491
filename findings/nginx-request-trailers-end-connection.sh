#!/bin/sh
# nginx answers trailers of an HTTP/2 request by GOAWAY(PROTOCOL_ERROR), so that all other requests of the connection are lost with it.
#
# Expected: RFC 9113, 8.1: a request may end with a HEADERS frame of trailer fields; one who does not use them may drop them (RFC 9110,
#   6.5.1). An error of one request would be a stream error and leave its neighbours alone (5.4.2).
# Happens: nginx ends the whole connection with PROTOCOL_ERROR; a request of another stream, which waits for its backend, gets
#   no answer. Without the trailers both are answered.
# Matters: a client or proxy that sends several requests over one connection loses the neighbours of one that has trailers. Towards such
#   servers they have to be dropped, and what they carry, a checksum for instance, is lost.
# Needs: Debian's package lists (apt-get), Python 3.11 or newer. Nothing is installed outside a temporary folder.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
mkdir "$work/packages"
download() { (cd "$work/packages" && apt-get download -qq -o APT::Sandbox::User=root nginx); }
download 2>/dev/null || { apt-get update -qq && download; }
dpkg-deb -x "$work"/packages/nginx_*.deb "$work/root"
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check h2==4.4.1

echo "nginx $(dpkg-deb -f "$work"/packages/nginx_*.deb Version) of Debian, $("$work/venv/bin/python" -m pip freeze | grep '^h2==')"
cat >"$work/nginx.conf" <<CONF
daemon off;
master_process off;
pid $work/pid;
events {}
http {
  access_log off;
  client_body_temp_path $work/body; proxy_temp_path $work/proxy; fastcgi_temp_path $work/fastcgi; uwsgi_temp_path $work/uwsgi; scgi_temp_path $work/scgi;
  server {
    listen unix:$work/front http2;
    location / { proxy_pass http://unix:$work/back:; }
  }
}
CONF
cat >"$work/try.py" <<'PYTHON'
import asyncio
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, ResponseReceived, StreamEnded

FRONT, BACK = sys.argv[1:]
HEAD = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", "/")]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.5)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def ask(*, trailers: bool) -> list[str]:
    """Stream 1 is ordinary, stream 3 of the same connection has the trailers."""
    reader, writer = await asyncio.open_unix_connection(FRONT)
    connection = H2Connection(H2Configuration())
    connection.initiate_connection()
    for stream in (1, 3):
        connection.send_headers(stream, HEAD)
        connection.send_data(stream, b"body", end_stream=not (trailers and stream == 3))
    if trailers:
        connection.send_headers(3, [("x-checksum", "841a2d68")], end_stream=True)
    writer.write(connection.data_to_send())
    found: list[str] = []
    ended = 0
    while ended < 2 and (data := await asyncio.wait_for(reader.read(65536), 10)):
        for event in connection.receive_data(data):
            if isinstance(event, ResponseReceived):
                found.append(f"stream {event.stream_id} {dict(event.headers)[b':status'].decode()}")
            elif isinstance(event, StreamEnded):
                ended += 1
            elif isinstance(event, ConnectionTerminated):
                found.append(f"GOAWAY {event.error_code.name}")
        writer.write(connection.data_to_send())
    writer.close()
    return [*found, "connection ended by nginx"] if ended < 2 else found


async def main() -> None:
    await asyncio.start_unix_server(answer, BACK)
    for trailers in (False, True):
        print("with trailers:" if trailers else "without trailers:", ", ".join(await ask(trailers=trailers)))


asyncio.run(main())
PYTHON
"$work/root/usr/sbin/nginx" -p "$work" -c "$work/nginx.conf" -e stderr 2>"$work/log" &
nginx=$!
trap 'kill "$nginx" 2>/dev/null || :; wait "$nginx" 2>/dev/null || :; rm -rf "$work"' EXIT
tries=0
until [ -S "$work/front" ]; do tries=$((tries + 1)); [ "$tries" -le 100 ] || { cat "$work/log"; exit 1; }; sleep 0.1; done
"$work/venv/bin/python" "$work/try.py" "$work/front" "$work/back" >"$work/found" 2>"$work/errors" || { cat "$work/errors"; exit 1; }
cat "$work/found"
cat >"$work/expected" <<'TEXT'
without trailers: stream 1 200, stream 3 200
with trailers: GOAWAY PROTOCOL_ERROR, connection ended by nginx
TEXT
diff "$work/expected" "$work/found" || { echo "The behaviour has changed."; exit 1; }
