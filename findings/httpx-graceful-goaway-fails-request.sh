#!/bin/sh
# httpx fails the request that it waits for when an HTTP/2 server announces its shutdown gracefully.
#
# Expected: RFC 9113, 6.8: a GOAWAY stops new streams only; those up to its last stream identifier are still answered. A server that shuts down
#   gracefully says 2^31-1 and NO_ERROR first, so that nothing in flight is lost.
# Happens: any GOAWAY raises RemoteProtocolError in the request under way, whether it names 2^31-1 or just that request's stream, although
#   the answer follows on the same connection. Without the GOAWAY the same answer arrives.
# Matters: a server or proxy that announces its drain as the RFC advises loses exactly the requests that it wanted to finish. For such clients the
#   GOAWAY has to wait until the streams have ended, and a client cannot repeat a POST by itself.
# Needs: Python 3.11 or newer. Plain HTTP/2 on loopback.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check httpx==0.28.1 httpcore==1.0.9 h2==4.4.1 hyperframe==6.1.0

"$work/venv/bin/python" -c 'import importlib.metadata as m; print(", ".join(f"{n} {m.version(n)}" for n in ("httpx", "httpcore", "h2")))'
cat >"$work/try.py" <<'PYTHON'
import asyncio

import httpx
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from hyperframe.frame import GoAwayFrame

GOAWAYS = {"no GOAWAY": None, "GOAWAY, last stream 2^31-1": 2**31 - 1, "GOAWAY, last stream that of the request": 1}


def server(last_stream: int | None):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if not isinstance(event, StreamEnded):
                    continue
                if last_stream is not None:
                    writer.write(GoAwayFrame(stream_id=0, last_stream_id=last_stream, error_code=0).serialize())
                    await asyncio.sleep(0.2)
                connection.send_headers(event.stream_id, [(":status", "200")])
                connection.send_data(event.stream_id, b"the whole answer", end_stream=True)
            writer.write(connection.data_to_send())
        writer.close()

    return serve


async def main() -> None:
    for name, last_stream in GOAWAYS.items():
        listener = await asyncio.start_server(server(last_stream), "127.0.0.1", 0)
        url = "http://127.0.0.1:{}/".format(listener.sockets[0].getsockname()[1])
        async with httpx.AsyncClient(http1=False, http2=True, trust_env=False, timeout=10) as client:
            try:
                found = (await client.get(url)).text
            except httpx.HTTPError as error:
                found = type(error).__name__
        print(f"{name}: {found}")
        listener.close()


asyncio.run(main())
PYTHON
"$work/venv/bin/python" "$work/try.py" >"$work/found" 2>"$work/log" || { cat "$work/log"; exit 1; }
cat "$work/found"
cat >"$work/expected" <<'TEXT'
no GOAWAY: the whole answer
GOAWAY, last stream 2^31-1: RemoteProtocolError
GOAWAY, last stream that of the request: RemoteProtocolError
TEXT
diff "$work/expected" "$work/found" || { echo "The behaviour has changed."; exit 1; }
