#!/bin/sh
# aiohttp's WebSocket client takes a close frame without a status for a close handshake that has not begun: it waits 10 s and says 1006.
#
# Expected: RFC 6455, 5.5.1: a close frame may be empty, and the handshake is complete when both sides have sent one; 7.1.5: the close code is
#   then 1005. 1006 is for connections that ended without a close frame (7.4.1). A Socket.IO server that closes sends an empty one.
# Happens: receive() returns a CLOSE message with data 0 and the client answers, but then it waits for another close frame until the timeout
#   for closing (10 s by default), drops the connection and reports 1006. With a status in the frame it ends at once and reports it. The answer has
#   the status 1000 in both cases, where 5.5.1 says that an endpoint typically echoes what it received.
# Matters: "async for message in socket" ends 10 s late, an ordinary close is counted as a broken connection, and what stands between (a proxy
#   that drains, a server that waits for the client to go) sees a connection which outlives its close handshake. A relay can give 1000 instead.
# Needs: Python 3.11 or newer. Takes 10 s.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check aiohttp==3.14.5 wsproto==1.3.2

"$work/venv/bin/python" -c 'import sys, importlib.metadata as m; print("Python", sys.version.split()[0] + ", aiohttp", m.version("aiohttp"))'
cat >"$work/try.py" <<'PYTHON'
import asyncio
import time

import aiohttp
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request
from wsproto.frame_protocol import CloseReason

answers: asyncio.Queue[int] = asyncio.Queue()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept, close with the status that the path names, and leave the end of the connection to the client."""
    connection = WSConnection(ConnectionType.SERVER)
    while data := await reader.read(65536):
        connection.receive_data(data)
        for event in connection.events():
            if isinstance(event, Request):
                code = CloseReason.NO_STATUS_RCVD if event.target == "/empty" else int(event.target[1:])
                writer.write(connection.send(AcceptConnection()) + connection.send(CloseConnection(code=code)))
            elif isinstance(event, CloseConnection):
                answers.put_nowait(int(event.code))
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host = "127.0.0.1:{}".format(server.sockets[0].getsockname()[1])
    async with aiohttp.ClientSession() as session:
        for path in ("4001", "empty"):
            start = time.monotonic()
            async with session.ws_connect(f"ws://{host}/{path}") as socket:
                message = await asyncio.wait_for(socket.receive(), 30)
                took = round(time.monotonic() - start)
                answer = await asyncio.wait_for(answers.get(), 5)
                print(f"close frame, status {path}: {message.type.name} {message.data}, close_code {socket.close_code}, after {took} s, answer {answer}")
    server.close()


asyncio.run(main())
PYTHON
"$work/venv/bin/python" "$work/try.py" >"$work/found"
cat "$work/found"
cat >"$work/expected" <<'TEXT'
close frame, status 4001: CLOSE 4001, close_code 4001, after 0 s, answer 1000
close frame, status empty: CLOSE 0, close_code 1006, after 10 s, answer 1000
TEXT
diff "$work/expected" "$work/found" || { echo "The behaviour has changed."; exit 1; }
