"""Echo load over WebSockets: each socket sends a message, waits for its echo, sends the next.

Usage: websocket_load.py PORT TLS(0|1) SOCKETS SIZE SECONDS. Prints the number of round trips.
"""

import asyncio
import os
import ssl
import sys

import uvloop

REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: bench.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(size: int) -> tuple[bytes, int]:
    """Make a masked binary message, and the size of its unmasked echo."""
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x82" + length + os.urandom(4) + os.urandom(size), 1 + len(length) + size


class Socket(asyncio.Protocol):
    """One socket of the load."""

    total = 0

    def __init__(self, message: bytes, wanted: int, opened: asyncio.Future[None]) -> None:
        self.message = message
        self.wanted = wanted
        self.opened = opened
        self.seen = b""
        self.got = -1
        self.running = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        """Count an echo and send the next."""
        if self.got < 0:
            self.seen += data
            if self.seen.endswith(b"\r\n\r\n"):
                if not self.seen.startswith(b"HTTP/1.1 101"):
                    raise SystemExit(f"upgrade refused: {self.seen[:100]!r}")
                self.got = 0
                self.opened.set_result(None)
            return
        self.got += len(data)
        if self.got >= self.wanted:
            self.got -= self.wanted
            Socket.total += 1
            if self.running:
                self.transport.write(self.message)

    def start(self) -> None:
        """Send the first message."""
        self.running = True
        self.transport.write(self.message)


async def main(port: int, sockets: int, size: int, seconds: float, *, tls: bool) -> None:
    """Open the sockets, run the load, print what was counted."""
    loop = asyncio.get_running_loop()
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    message, wanted = frame(size)
    opened = []
    for _ in range(sockets):
        future = loop.create_future()
        _, protocol = await loop.create_connection(
            lambda future=future: Socket(message, wanted, future),
            "127.0.0.1",
            port,
            ssl=context,
            server_hostname="bench.localhost" if tls else None,
        )
        await future
        opened.append(protocol)
    print("open", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    for protocol in opened:
        protocol.start()
    await asyncio.sleep(seconds)
    print(Socket.total, flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(
        main(int(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), tls=sys.argv[2] == "1")
    )
