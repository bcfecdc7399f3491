"""A bounded load, as a process of its own: requests on kept and on new connections, and WebSockets. It repairs nothing.

Usage: load.py JSON (`Plan`). Prints a line when every client was answered once, and what it saw (`Seen`) when its input ends.
A request fails unless its whole answer, a 200, is there within ten seconds; one that found its kept connection closed fails too.

Each load has a source address of its own, where the kernel finds free ports. What a client of the node itself sends while no pod
is ready stays in the kernel's table for two minutes, without a pod's address, and the next connection from that address and port
is refused too.
"""

import asyncio
import collections
import contextlib
import json
import ssl
import sys
from dataclasses import dataclass, field

import websockets.asyncio.client
import websockets.exceptions

TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to load, and how much."""

    address: str
    http: int
    https: int
    """Ports of the address."""
    source: str
    """The address that all connections come from."""
    plain_host: str
    """Host of the requests over plain HTTP; those over TLS and the sockets have the other."""
    secure_host: str
    authority: str
    """Path of the certificate that signs those of `secure_host`."""
    kept: int = 6
    """Clients that keep their connection, half of them over TLS."""
    fresh: int = 4
    """Clients that make a connection for each request, half of them over TLS."""
    sockets: int = 20
    pause: float = 0.03
    """Seconds between two requests or messages of a client."""
    fresh_pause: float = 0.1
    """The same for clients that make a connection for each request."""


@dataclass
class Seen:
    """What became of it."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    pods: collections.Counter[str] = field(default_factory=collections.Counter)
    """Answers by pod, requests only."""
    messages: int = 0
    closes: collections.Counter[str] = field(default_factory=collections.Counter)
    """Ends of sockets by the code of the close frame; 1006: there was none."""
    ends: list[str] = field(default_factory=list)
    """Ends without a close frame: when, and how."""
    upgrades: list[str] = field(default_factory=list)
    """Upgrades that were not answered with 101."""
    open: int = 0
    """Sockets at the end."""


class Load:
    """All clients."""

    def __init__(self, plan: Plan) -> None:
        self.seen = Seen()
        self._plan = plan
        self._trust = ssl.create_default_context(cafile=plan.authority)
        self._began = 0.0
        self._source = plan.source, 0
        self._unanswered = set(range(plan.kept + plan.fresh + plan.sockets))

    async def run(self) -> None:
        """Go on until standard input closes."""
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(self._client(number)) for number in self._unanswered]
            await loop.run_in_executor(None, sys.stdin.read)
            for client in clients:
                client.cancel()

    async def _client(self, number: int) -> None:
        plan = self._plan
        if number < plan.kept + plan.fresh:
            await self._requests(number, keep=number < plan.kept, secure=number % 2 == 0)
        else:
            await self._socket(number)

    def _answered(self, number: int) -> None:
        if number in self._unanswered:
            self._unanswered.remove(number)
            if not self._unanswered:
                say("answered")

    def _when(self) -> str:
        return f"{asyncio.get_running_loop().time() - self._began:.2f} s"

    async def _requests(self, number: int, *, keep: bool, secure: bool) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        used = 0
        while True:
            try:
                async with asyncio.timeout(TIMEOUT):
                    if connection is None:
                        connection, used = await self._connect(secure=secure), 0
                    status, pod, kept = await self._ask(*connection, keep=keep, secure=secure)
                used += 1
                if status == 200:
                    self.seen.requests += 1
                    self.seen.pods[pod] += 1
                    self._answered(number)
                else:
                    self._fail(f"status {status}", keep, secure, used)
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                self._fail(repr(error), keep, secure, used)
                kept = False
            if connection is not None and not kept:
                # At once: what TLS says at the end would have the other end close first.
                connection[1].transport.abort()
                connection = None
            await asyncio.sleep(self._plan.pause if keep else self._plan.fresh_pause)

    def _fail(self, how: str, keep: bool, secure: bool, used: int) -> None:
        kind = f"{'kept' if keep else 'fresh'} {'https' if secure else 'http'}"
        self.seen.failures.append(f"{self._when()}, {kind}, after {used} answers: {how}")

    async def _connect(self, *, secure: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        plan = self._plan
        if secure:
            return await asyncio.open_connection(
                plan.address, plan.https, local_addr=self._source, ssl=self._trust, server_hostname=plan.secure_host
            )
        return await asyncio.open_connection(plan.address, plan.http, local_addr=self._source)

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep: bool, secure: bool
    ) -> tuple[int, str, bool]:
        host = self._plan.secure_host if secure else self._plan.plain_host
        writer.write(f"GET /load HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        lines = head.split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        body = await reader.readexactly(length)
        status = int(lines[0].split()[1])
        return status, json.loads(body)["pod"] if status == 200 else "", keep and "connection: close" not in lines

    async def _socket(self, number: int) -> None:
        plan = self._plan
        while True:
            try:
                async with websockets.asyncio.client.connect(
                    f"wss://{plan.secure_host}/ws",
                    ssl=self._trust,
                    host=plan.address,
                    port=plan.https,
                    local_addr=self._source,
                    proxy=None,
                ) as opened:
                    await self._talk(opened, number)
            except (OSError, EOFError, TimeoutError, websockets.exceptions.InvalidHandshake) as error:
                self.seen.upgrades.append(f"{self._when()}: {error!r}")
            await asyncio.sleep(plan.pause)

    async def _talk(self, opened: websockets.asyncio.client.ClientConnection, number: int) -> None:
        self.seen.open += 1
        try:
            while True:
                await opened.send("hello")
                async with asyncio.timeout(TIMEOUT):
                    await opened.recv()
                self.seen.messages += 1
                self._answered(number)
                await asyncio.sleep(self._plan.pause)
        except websockets.exceptions.ConnectionClosed as closed:
            self.seen.closes[str(closed.rcvd.code if closed.rcvd else 1006)] += 1
            if closed.rcvd is None:
                self.seen.ends.append(f"{self._when()}: {closed.__cause__!r}")
            self.seen.open -= 1
        except TimeoutError:
            self.seen.closes["silent"] += 1
            self.seen.open -= 1


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(plan: Plan) -> None:
    """Load, and print what was seen."""
    load = Load(plan)
    with contextlib.suppress(asyncio.CancelledError):
        await load.run()
    say(json.dumps(vars(load.seen)))


if __name__ == "__main__":
    asyncio.run(main(Plan(**json.loads(sys.argv[1]))))
