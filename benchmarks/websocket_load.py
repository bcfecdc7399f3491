"""WebSocket loads.

Usage: websocket_load.py echo|broadcast|idle|answer PORT TLS(0|1) SOCKETS SIZE SECONDS.
echo: each socket sends a message, waits for its echo, sends the next. broadcast: one socket sends, all get it, then the next.
idle: the sockets stay open. answer: the same, and pings get their pongs. Says `open` when all are open, waits for a line, runs,
prints how many messages came, ends; idle and answer print after the line and then wait for the end of standard input, when they
print how many pings were answered.
"""

import asyncio
import os
import resource
import ssl
import sys

import uvloop

REQUEST = (
    b"GET /%s HTTP/1.1\r\nHost: bench.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
AT_ONCE = 64


def frame(size: int) -> tuple[bytes, int]:
    """Make a masked binary message, and the size of its unmasked echo."""
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x82" + length + os.urandom(4) + os.urandom(size), 1 + len(length) + size


class Socket(asyncio.Protocol):
    """One socket of the load."""

    total = 0

    def __init__(self, path: bytes, wanted: int) -> None:
        self.path = path
        self.wanted = wanted
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.seen = b""
        self.got = -1
        self.message = b""
        """Sent again at each answer; empty: nothing is sent."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(REQUEST % self.path)

    def data_received(self, data: bytes) -> None:
        """Count what came and send the next."""
        if self.got < 0:
            self.seen += data
            if self.seen.endswith(b"\r\n\r\n"):
                if not self.seen.startswith(b"HTTP/1.1 101"):
                    raise SystemExit(f"upgrade refused: {self.seen[:100]!r}")
                self.got = 0
                self.opened.set_result(None)
            return
        self.got += len(data)
        while self.got >= self.wanted:
            self.got -= self.wanted
            Socket.total += 1
            self.answered()

    def answered(self) -> None:
        """Go on."""
        if self.message:
            self.transport.write(self.message)


class Answering(Socket):
    """A socket that is silent but for pongs, as a browser's is. Pings come alone and whole: nothing else is sent to it."""

    def data_received(self, data: bytes) -> None:
        """Answer a ping."""
        if self.got < 0 or data[0] != 0x89:
            super().data_received(data)
            return
        Socket.total += 1
        # A mask of zeros leaves the payload as it is.
        self.transport.write(bytes([0x8A, 0x80 | data[1], 0, 0, 0, 0]) + data[2:])


class Listener(Socket):
    """A socket of the broadcast: the last one that got the message has the first one send the next."""

    sockets = 0
    waiting = 0
    first: Socket

    def answered(self) -> None:
        """Count down."""
        Listener.waiting -= 1
        if Listener.waiting == 0:
            Listener.waiting = Listener.sockets
            Listener.first.transport.write(Listener.first.message)


async def main(kind: str, port: int, tls: bool, count: int, size: int, seconds: float) -> None:  # noqa: FBT001  a command line
    """Open the sockets, run the load, print what was counted."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = asyncio.get_running_loop()
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    message, wanted = frame(size)
    make = {"broadcast": Listener, "answer": Answering}.get(kind, Socket)
    limit = asyncio.Semaphore(AT_ONCE)

    async def opened() -> Socket:
        async with limit:
            _, protocol = await loop.create_connection(
                lambda: make(kind.encode(), wanted),
                "127.0.0.1",
                port,
                ssl=context,
                server_hostname="bench.localhost" if tls else None,
            )
            await protocol.opened
            return protocol

    sockets = await asyncio.gather(*(opened() for _ in range(count)))
    print("open", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    if kind in ("idle", "answer"):
        print(0, flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        print(Socket.total, flush=True)
        os._exit(0)
    if kind == "broadcast":
        Listener.sockets = Listener.waiting = count
        Listener.first = sockets[0]
        sockets[0].message = message
        sockets[0].transport.write(message)
    else:
        for one in sockets:
            one.message = message
            one.answered()
    await asyncio.sleep(seconds)
    print(Socket.total, flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(
        main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1", int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
    )
