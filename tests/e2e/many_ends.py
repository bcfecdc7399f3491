"""The ends of many WebSockets, in a process of their own: a descriptor each, and 20,000 are all that a process may have.

Usage: many_ends.py backend | many_ends.py clients PORT COUNT HOST. A backend prints its two ports. Clients print `open` when all
sockets are, and answer each line of standard input with a line of JSON: `echo` sends a message over each and tells how many came
back, `report` tells what became of the sockets. Either ends when standard input does.
"""

import asyncio
import base64
import json
import os
import re
import resource
import sys
import time
from typing import Any

from proxy.websocket.handshake import accept_for

AT_ONCE = 200
"""Handshakes under way in a process: the listening queue holds them all."""
KEY = re.compile(rb"(?i)\r\nsec-websocket-key: *([^\r]+)")
HELLO = b"hello"
SECONDS = 60.0
"""That any one step may take."""


def frame(opcode: int, payload: bytes, *, masked: bool) -> bytes:
    """Write a short frame; the mask is of zeros, which leaves the payload as it is."""
    return bytes([0x80 | opcode, len(payload) | masked << 7]) + (bytes(4) if masked else b"") + payload


class End(asyncio.Protocol):
    """One end of a socket: reads the head, then frames."""

    masked = False
    """Whether the frames that it gets are, as those of clients are."""

    def __init__(self) -> None:
        """Start before the handshake."""
        self.opened = asyncio.get_running_loop().create_future()
        self.upgraded = False
        self.lost = False
        self.echoes = 0
        self.closes: list[tuple[float, str]] = []
        self.after = 0
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note."""
        del exc
        self.lost = True

    def data_received(self, data: bytes) -> None:
        """Take the head, then every whole frame."""
        held = self._held + data
        if not self.upgraded and (end := held.find(b"\r\n\r\n")) >= 0:
            self.upgraded = True
            self.began(held[: end + 2])
            held = held[end + 4 :]
        while self.upgraded and len(held) >= 2:
            start = 6 if self.masked else 2
            size = start + (held[1] & 0x7F)
            if len(held) < size:
                break
            mask, payload = held[2:start] or bytes(4), held[start:size]
            self.got(held[0], bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload)))
            held = held[size:]
        self._held = held

    def began(self, head: bytes) -> None:
        """Go on after the handshake."""
        raise NotImplementedError

    def got(self, first: int, payload: bytes) -> None:
        """Take a frame: its first byte and its payload, unmasked."""
        raise NotImplementedError


class Backend(End):
    """Echoes, and answers a close frame."""

    masked = True

    def began(self, head: bytes) -> None:
        """Switch protocols (RFC 6455, 4.2.2)."""
        found = KEY.search(head)
        assert found is not None
        accept = accept_for(found[1].strip().decode())
        answer = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        self.transport.write(answer.encode())

    def got(self, first: int, payload: bytes) -> None:
        """Echo it."""
        self.transport.write(frame(first & 0x0F, payload, masked=False))


class Client(End):
    """Counts echoes and close frames, each of which it answers."""

    def began(self, head: bytes) -> None:
        """Take note that the socket is open."""
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.opened.set_result(None)

    def got(self, first: int, payload: bytes) -> None:
        """Count it."""
        self.after += bool(self.closes)
        if first == 0x88:
            self.closes.append((time.monotonic(), f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}"))
            self.transport.write(frame(0x8, payload[:2], masked=True))
        elif (first, payload) == (0x81, HELLO):
            self.echoes += 1


async def opened(port: int, count: int, host: str) -> list[Client]:
    """Open the sockets, not all at once."""
    limit = asyncio.Semaphore(AT_ONCE)
    key = base64.b64encode(bytes(16)).decode()
    head = f"GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

    async def one() -> Client:
        async with limit, asyncio.timeout(SECONDS):
            transport, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
            transport.write(f"{head}Sec-WebSocket-Key: {key}\r\n\r\n".encode())
            await client.opened
            return client

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def echoes(clients: list[Client]) -> int:
    """Send a message over each socket that is open, and tell how many came back in time."""
    there = [client for client in clients if not client.lost]
    for client in there:
        client.echoes = 0
        client.transport.write(frame(0x1, HELLO, masked=True))
    deadline = time.monotonic() + SECONDS / 2
    while sum(client.echoes for client in there) < len(there) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return sum(client.echoes == 1 for client in there)


def report(clients: list[Client]) -> dict[str, Any]:
    """Tell what became of the sockets: the close frames of each that got one, and how many ended or got more after it."""
    return {
        "lost": sum(client.lost for client in clients),
        "without": sum(client.lost and not client.closes for client in clients),
        "after": sum(client.after for client in clients),
        "closes": [client.closes for client in clients if client.closes],
    }


async def asked(port: int, count: int, host: str) -> None:
    """Be clients, and answer questions about them."""
    clients = await opened(port, count, host)
    print("open", flush=True)
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        print(json.dumps(await echoes(clients) if line == "echo" else report(clients)), flush=True)


async def serve() -> None:
    """Be two endpoints."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Backend, "127.0.0.1", 0, backlog=4096) for _ in range(2)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Be what the command line says."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(serve() if sys.argv[1] == "backend" else asked(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
    # Thousands of sockets need not be closed one by one.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
