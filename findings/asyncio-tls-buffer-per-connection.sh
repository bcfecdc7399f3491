#!/bin/sh
# An idle TLS connection of asyncio holds 256 KiB that nothing was ever read into; the same connection on uvloop does not.
#
# Expected: what OpenSSL needs for a connection, some tens of KiB, and buffers that grow with what is read, up to the `limit` of
#   asyncio.open_connection, whose default is 64 KiB.
# Happens: asyncio.sslproto.SSLProtocol makes bytearray(256 KiB) in its constructor, to have room for one recv_into. CPython fills it with
#   zeros, so all of it is in memory from then on, for each connection, on either side. uvloop's copy of the same class takes the same room
#   by malloc and does not touch it: pages that nothing is read into cost nothing.
# Matters: a program that holds a thousand quiet connections (watches of an API server, WebSockets) pays 250 MiB for them, and a sixth of that
#   on uvloop: whoever measures on one loop and runs on the other is wrong by a factor.
# Needs: Python 3.11 or newer with uvloop's wheels, Linux.
set -eu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check uvloop==0.23.0 trustme==1.2.1

"$work/venv/bin/python" -c 'import importlib.metadata as m, ssl, sys; print("Python", sys.version.split()[0] + ", uvloop", m.version("uvloop") + ",", ssl.OPENSSL_VERSION)'
cat >"$work/try.py" <<'PYTHON'
import asyncio
import gc
import multiprocessing
import re
import ssl
import sys

import trustme
import uvloop

CONNECTIONS = 200
authority = trustme.CA()
loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def own_kib() -> int:
    with open("/proc/self/smaps_rollup") as found:
        return int(re.search(r"^Pss_Anon: +([0-9]+) kB", found.read(), re.MULTILINE)[1])


def serve(ports) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    held = []

    async def main() -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held.append(writer)
            writer.write(b"ready\n")
            await writer.drain()

        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context, backlog=CONNECTIONS)
        ports.send(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    asyncio.run(main())


async def measure(port: int) -> int:
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    held = []

    async def connect() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        await reader.readline()
        held.append((reader, writer))

    await connect()
    gc.collect()
    before = own_kib()
    for _ in range(CONNECTIONS):
        await connect()
    gc.collect()
    taken = (own_kib() - before) / CONNECTIONS
    for _, writer in held:
        writer.transport.abort()
    return round(taken)


def run(name: str, port: int, answer) -> None:
    with asyncio.Runner(loop_factory=loops[name]) as runner:
        answer.send(runner.run(measure(port)))


def main() -> None:
    forked = multiprocessing.get_context("fork")
    near, far = forked.Pipe()
    server = forked.Process(target=serve, args=(far,), daemon=True)
    server.start()
    port = near.recv()
    found = {}
    for name in loops:
        near, far = forked.Pipe()
        child = forked.Process(target=run, args=(name, port, far))
        child.start()
        found[name] = near.recv()
        child.join()
    server.kill()
    print(f"KiB of an idle connection: {found}", file=sys.stderr)
    print("asyncio: more than 256 KiB:", found["asyncio"] > 256)
    print("uvloop: less than 128 KiB:", found["uvloop"] < 128)


main()
PYTHON
"$work/venv/bin/python" "$work/try.py" >"$work/found"
cat "$work/found"
cat >"$work/expected" <<'TEXT'
asyncio: more than 256 KiB: True
uvloop: less than 128 KiB: True
TEXT
diff "$work/expected" "$work/found" || { echo "The behaviour has changed."; exit 1; }
