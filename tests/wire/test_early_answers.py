"""Answers that come before a request has ended: they arrive, whole, at clients that go on sending (RFC 9112, 9.6)."""

import asyncio
import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from wire.harness import CERTIFICATE, WAIT, Proxy, config_for, connectionless, proxying, trusting

from proxy.model.policy import ClientAddresses, HttpsRedirect, Policy
from proxy.settings import Settings
from proxy.tls.contexts import make_context
from proxy.transport import lingering

SIZE = 24 * 1024 * 1024
"""Bytes of the uploads: more than both kernels keep."""
PIECE = bytes(64 * 1024)
HOST = b"Host: a.test\r\n"
OTHER = b"Host: other.test\r\n"
LENGTH = b"Content-Length: %d\r\n" % SIZE
CHUNKED = b"Transfer-Encoding: chunked\r\n"
TOO_MUCH = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large"

REFUSED: dict[str, tuple[int, bytes]] = {
    "no_route": (404, b"POST / HTTP/1.1\r\n" + OTHER + LENGTH + b"\r\n"),
    "no_route_chunked": (404, b"POST / HTTP/1.1\r\n" + OTHER + CHUNKED + b"\r\n"),
    "no_route_1_0": (404, b"POST / HTTP/1.0\r\n" + OTHER + LENGTH + b"\r\n"),
    "expectation": (417, b"POST / HTTP/1.1\r\n" + HOST + b"Expect: y\r\n" + LENGTH + b"\r\n"),
    "two_lengths": (400, b"POST / HTTP/1.1\r\n" + HOST + LENGTH + LENGTH + b"\r\n"),
    "no_host": (400, b"POST / HTTP/1.1\r\n" + LENGTH + b"\r\n"),
    "request_line": (400, b"POST /\r\n"),
    "method": (501, b"P" * 40 + b" / HTTP/1.1\r\n"),
    "version": (505, b"POST / HTTP/1.9\r\n"),
    "connect": (405, b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "long_line": (414, b"POST /" + b"a" * 20_000),
    "long_head": (431, b"POST / HTTP/1.1\r\n" + HOST + b"X: "),
    "broken_chunk": (400, b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\nzz\r\n"),
    "handshake_with_a_body": (
        400,
        b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n" + LENGTH + b"\r\n",
    ),
}


def upload(sock: socket.socket, head: bytes, size: int = SIZE) -> bytes:
    """Send everything first, as clients do that do not look; then read to the end, which must be no reset."""
    sock.sendall(head)
    for _ in range(0, size, len(PIECE)):
        sock.sendall(PIECE)
    found = []
    while data := sock.recv(65536):
        found.append(data)
    return b"".join(found)


def status_of(answer: bytes) -> int:
    """The answer is one, and whole."""
    head, end, body = answer.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert end
    assert fields[b"connection"] == b"close"
    assert len(body) == int(fields[b"content-length"])
    return int(head.split(b" ")[1])


async def uploads(proxy: Proxy, head: bytes, *, secure: bool, size: int = SIZE) -> int:
    def run() -> bytes:
        with proxy.blocking_client(secure=secure) as sock:
            return upload(sock, head, size)

    return status_of(await asyncio.to_thread(run))


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("name", REFUSED)
async def test_own_answer_arrives_at_a_client_that_sends_on(name: str, secure: bool) -> None:
    status, head = REFUSED[name]
    async with proxying() as proxy:
        assert await uploads(proxy, head, secure=secure) == (421 if secure and status == 404 else status)
        await connectionless(proxy)
        await proxy.is_innocent()


@pytest.mark.parametrize(
    ("policy", "status", "secure"),
    [
        (ClientAddresses(allow=("192.0.2.0/24",)), 403, False),
        (ClientAddresses(allow=("192.0.2.0/24",)), 403, True),
        (HttpsRedirect(), 308, False),
    ],
)
async def test_answer_of_a_filter_arrives_at_a_client_that_sends_on(policy: Policy, status: int, secure: bool) -> None:
    async with proxying(policies=(policy,)) as proxy:
        assert await uploads(proxy, b"POST / HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n", secure=secure) == status
        assert proxy.backend.count == 0


@pytest.mark.parametrize("secure", [False, True])
async def test_unreachable_backends_502_arrives_at_a_client_that_sends_on(secure: bool) -> None:
    async with proxying() as proxy:
        proxy.backend.stop()
        assert await uploads(proxy, b"POST / HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n", secure=secure) == 502


async def test_plain_http_on_the_tls_port_is_told_so_while_it_sends() -> None:
    async with proxying() as proxy:
        proxy.port = proxy.tls_port
        assert await uploads(proxy, b"POST / HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n", secure=False) == 400


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("framing", [LENGTH, CHUNKED])
@pytest.mark.parametrize("backend_tls", [False, True])
async def test_early_answer_of_a_backend_arrives_and_its_connection_ends(secure: bool, framing: bytes, backend_tls: bool) -> None:
    """The backend reads nothing of the body."""
    async with proxying(backend_tls=backend_tls) as proxy:
        head = b"POST / HTTP/1.1\r\n" + HOST + framing + b"\r\n"
        uploading = asyncio.create_task(uploads(proxy, head + b"1000000\r\n" * (framing == CHUNKED), secure=secure))
        backend = await proxy.backend.accepts()
        await backend.head()
        backend.writer.transport.pause_reading()
        await backend.sends(TOO_MUCH)

        assert await uploading == 413
        backend.writer.transport.resume_reading()
        assert len(await backend.rest()) < SIZE
        await connectionless(proxy)
        await proxy.is_innocent()


def fast_client(port: int, secure: bool) -> tuple[int, bytes]:
    """http.client, which sends all of a body before it looks for an answer."""
    made = (
        http.client.HTTPSConnection("a.test", port, timeout=WAIT, context=trusting())
        if secure
        else http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    )
    if secure:
        made.sock = trusting().wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="a.test")
    try:
        made.request("POST", "/", bytes(SIZE), {"Host": "a.test"})
        answer = made.getresponse()
        return answer.status, answer.read()
    finally:
        made.close()


@pytest.mark.parametrize("secure", [False, True])
async def test_http_client_of_python_reads_a_backends_413(secure: bool) -> None:
    async with proxying() as proxy:
        asking = asyncio.create_task(asyncio.to_thread(fast_client, proxy.tls_port if secure else proxy.port, secure))
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(TOO_MUCH)

        assert await asking == (413, b"too large")


def resetting(sock: socket.socket, context: ssl.SSLContext | None) -> None:
    """Serve as a backend that answers at once, reads nothing of the body and closes: its kernel resets the connection."""
    while True:
        try:
            plain, _ = sock.accept()
        except OSError:
            return
        plain.settimeout(WAIT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the reset may overtake the answer
        with context.wrap_socket(plain, server_side=True) if context is not None else plain as connection:
            found = b""
            while b"\r\n\r\n" not in found:
                found += connection.recv(4096)
            connection.sendall(TOO_MUCH)


@pytest.mark.parametrize("backend_tls", [False, True])
async def test_early_answer_of_a_backend_that_resets_its_connection_arrives(backend_tls: bool) -> None:
    """A write to such a backend fails, mostly before its answer was read; so there are many tries."""
    async with proxying() as proxy:
        sock = socket.create_server(("127.0.0.1", 0), backlog=100)
        serving = asyncio.create_task(asyncio.to_thread(resetting, sock, make_context(CERTIFICATE) if backend_tls else None))
        proxy.serves(config_for(sock.getsockname()[1], tls=backend_tls))
        answers = [
            answer
            for _ in range(5)
            for answer in await asyncio.gather(*[asyncio.to_thread(fast_client, proxy.port, False) for _ in range(4)])
        ]
        sock.shutdown(socket.SHUT_RDWR)
        await serving
        sock.close()

    assert answers == [(413, b"too large")] * 20


@pytest.mark.programs
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_curl_reads_an_early_404(tmp_path: Path, secure: bool, method: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl")
    body = tmp_path / "body"
    body.write_bytes(bytes(SIZE))
    async with proxying() as proxy:
        port = proxy.tls_port if secure else proxy.port
        command = [curl, "-sSk", "-X", method, "-H", "Expect:", "-H", "Host: other.test", "--data-binary", f"@{body}"]
        url = f"{'https' if secure else 'http'}://a.test:{port}/"
        ran = await asyncio.to_thread(
            subprocess.run,
            [*command, "--resolve", f"a.test:{port}:127.0.0.1", "-w", "%{http_code}", "-m", str(WAIT), url],
            capture_output=True,
        )

    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.endswith(b"404") or (secure and ran.stdout.endswith(b"421"))


@pytest.mark.parametrize("secure", [False, True])
async def test_answer_arrives_though_the_worker_drains(secure: bool) -> None:
    async with proxying() as proxy:
        uploading = asyncio.create_task(uploads(proxy, b"POST / HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n", secure=secure))
        backend = await proxy.backend.accepts()
        await backend.head()
        proxy.runtime.draining = True
        for connection in list(proxy.runtime.connections):
            connection.drain()
        await backend.sends(TOO_MUCH)

        assert await uploading == 413
        await connectionless(proxy)


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True])
async def test_answer_arrives_at_a_client_that_sends_for_much_longer_than_close_wait(secure: bool) -> None:
    async with proxying(Settings(close_wait=0.2)) as proxy:

        def run() -> bytes:
            with proxy.blocking_client(secure=secure) as sock:
                sock.sendall(b"POST / HTTP/1.1\r\n" + HOST + LENGTH + LENGTH + b"\r\n")
                for _ in range(20):
                    sock.sendall(PIECE)
                    time.sleep(0.05)
                return upload(sock, b"")

        assert status_of(await asyncio.to_thread(run)) == 400


@pytest.mark.parametrize("secure", [False, True])
async def test_client_that_is_silent_after_its_early_answer_is_closed(secure: bool) -> None:
    async with proxying(Settings(close_wait=0.2)) as proxy:
        client = await proxy.client(secure=secure)
        await client.sends(b"POST / HTTP/1.1\r\n" + OTHER + LENGTH + b"\r\n")
        assert (await client.answer())[0] == (421 if secure else 404)
        await client.ends()
        await connectionless(proxy)


async def drips(proxy: Proxy) -> None:
    """A byte at a time, for ever."""
    client = await proxy.client()
    await client.sends(b"POST / HTTP/1.1\r\n" + OTHER + LENGTH + b"\r\n")
    await client.head()
    with contextlib.suppress(ConnectionError):
        while True:
            await client.sends(b"x")
            await asyncio.sleep(0.02)


async def floods(proxy: Proxy) -> None:
    """As fast as it can, for ever."""
    client = await proxy.client()
    await client.sends(b"POST / HTTP/1.1\r\n" + OTHER + LENGTH + b"\r\n")
    await client.head()
    with contextlib.suppress(ConnectionError):
        while True:
            await client.sends(PIECE)


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "limit", "value"), [(drips, "LINGER_SECONDS", 0.5), (floods, "LINGER_BYTES", 8 * 1024 * 1024)])
async def test_client_that_never_stops_sending_is_cut_and_an_innocent_is_served_meanwhile(
    monkeypatch: pytest.MonkeyPatch, attack: Callable[[Proxy], Awaitable[None]], limit: str, value: float
) -> None:
    monkeypatch.setattr(lingering, limit, value)
    async with proxying(Settings(close_wait=0.2)) as proxy, asyncio.timeout(WAIT):
        attacking = [asyncio.ensure_future(attack(proxy)) for _ in range(4)]
        while len(proxy.runtime.connections) < len(attacking):
            await asyncio.sleep(0)
        await proxy.is_innocent()
        await asyncio.gather(*attacking)
        await connectionless(proxy)


@pytest.mark.parametrize("secure", [False, True])
async def test_nothing_is_kept_of_what_is_dropped(secure: bool) -> None:
    async with proxying() as proxy:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            status = await uploads(proxy, b"POST / HTTP/1.1\r\n" + OTHER + LENGTH + b"\r\n", secure=secure, size=64 * 1024 * 1024)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    assert status == (421 if secure else 404)
    assert peak < 4 * 1024 * 1024


async def test_tls_client_is_told_the_end_of_the_answer_by_a_close_notify() -> None:
    """So that it can tell a whole answer from one that somebody cut."""
    async with proxying() as proxy:

        def run() -> bytes:
            with proxy.blocking_client(secure=True) as sock:
                assert isinstance(sock, ssl.SSLSocket)
                sock.suppress_ragged_eofs = False
                return upload(sock, b"POST / HTTP/1.1\r\n" + HOST + LENGTH + LENGTH + b"\r\n")

        assert status_of(await asyncio.to_thread(run)) == 400
