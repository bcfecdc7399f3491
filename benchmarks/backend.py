"""The backend of the benchmarks: raw, on uvloop, never the limit.

Answers 12 bytes to any request, echoes WebSocket messages, or sends each to all sockets of /broadcast.
Usage: backend.py. Prints its port, ends when standard input closes.
"""

import asyncio
import base64
import hashlib
import re
import sys

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello world\n"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]+)")
CLOSING = ANSWER.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
KEY = re.compile(rb"(?i)\r\nsec-websocket-key: *([^\r]+)")


def unmask(payload: bytes, mask: bytes) -> bytes:
    """XOR a payload with its mask (RFC 6455, 5.3)."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


class Backend(asyncio.Protocol):
    """One connection: HTTP until an upgrade, an echo after it."""

    everybody: "set[Backend]" = set()  # noqa: RUF012  all connections share it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.held = b""
        self.upgraded = False
        self.unread = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the broadcast."""
        del exc
        self.everybody.discard(self)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        if self.unread:
            taken = min(self.unread, len(data))
            self.unread -= taken
            data = data[taken:]
            if self.unread:
                return
            self.transport.write(ANSWER)
        self.held += data
        if self.upgraded:
            self.echo()
            return
        while (end := self.held.find(b"\r\n\r\n")) >= 0:
            head, self.held = self.held[: end + 2], self.held[end + 4 :]
            key = KEY.search(head)
            if key is None:
                length = LENGTH.search(head)
                self.unread = max(0, int(length[1]) - len(self.held)) if length else 0
                self.held = self.held[int(length[1]) :] if length else self.held
                if b"\r\nConnection: close\r\n" in head:  # no proxy passes it on, but for the relay
                    self.transport.write(CLOSING)
                    self.transport.close()
                    return
                if not self.unread:
                    self.transport.write(ANSWER)
                continue
            if head.startswith(b"GET /broadcast"):
                self.everybody.add(self)
            accept = base64.b64encode(hashlib.sha1(key[1].strip() + GUID).digest())  # noqa: S324  RFC 6455, 4.2.2
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                + accept
                + b"\r\n\r\n"
            )
            self.upgraded = True
            self.echo()
            return

    def echo(self) -> None:
        """Send back every whole frame, unmasked."""
        held = self.held
        while len(held) >= 6:
            short = held[1] & 0x7F
            start, size = (6, short) if short < 126 else (8, int.from_bytes(held[2:4], "big")) if short == 126 else (14, -1)
            if size < 0:
                if len(held) < 14:
                    break
                size = int.from_bytes(held[2:10], "big")
            if len(held) < start + size:
                break
            message = held[:1] + bytes([short]) + held[2 : start - 4] + unmask(held[start : start + size], held[start - 4 : start])
            for one in list(self.everybody) if self in self.everybody else (self,):
                one.transport.write(message)
            held = held[start + size :]
        self.held = held


async def main() -> None:
    """Serve until standard input closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Backend, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
