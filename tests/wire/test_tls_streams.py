"""TLS on either side: the same bytes, but no half-close, and nothing that was written is lost at the end."""

import asyncio
import contextlib
import gc
import ssl
import time

import msgspec
import pytest
from wire.harness import AUTHORITY, CERTIFICATE, WAIT, Peer, Proxy, config_for, proxying, socketless, trusting
from wire.verbs import SWITCH, UPGRADE, closes_of, frame

from proxy.http.message import Request
from proxy.model.sensitive import Sensitive
from proxy.observability.metrics import TLS_HANDSHAKES
from proxy.settings import Settings
from proxy.tls.stream import TlsStream
from proxy.upstream.http1_connection import UpstreamConnection
from proxy.websocket.closer import SocketEntry
from proxy.websocket.frames import FrameScanner
from proxy.websocket.side import Side
from proxy.websocket.socket_stats import SocketStats
from proxy.websocket.tunnel import Tunnel

MIB = 1024 * 1024
BIG = 10 * MIB
REQUEST = b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Padding: %s\r\n\r\n" % (b"x" * 100)
MANY = 60_000


async def opened(proxy: Proxy, *, secure: bool) -> tuple[Peer, Peer]:
    client = await proxy.client(secure=secure)
    await client.sends(UPGRADE + b"\r\n")
    backend = await proxy.backend.accepts()
    head = await backend.head()
    assert (b"X-Forwarded-Proto: https" if secure else b"X-Forwarded-Proto: http\r\n") in head
    await backend.sends(SWITCH + b"\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    return client, backend


SIDES = pytest.mark.parametrize(("secure", "backend_tls"), [(True, False), (False, True), (True, True)])


@SIDES
async def test_request_and_answer_pass_over_tls(secure: bool, backend_tls: bool) -> None:
    async with proxying(backend_tls=backend_tls) as proxy:
        client = await proxy.client(secure=secure)
        body = bytes(range(256)) * 1024
        await client.sends(b"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        backend = await proxy.backend.accepts()
        assert (await backend.head()).startswith(b"POST /x HTTP/1.1\r\n")
        await backend.sees(body)
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        status, _, answer = await client.answer()
        assert (status, answer) == (200, body)


@SIDES
async def test_messages_pass_unchanged_over_tls_and_are_counted(secure: bool, backend_tls: bool) -> None:
    async with proxying(backend_tls=backend_tls) as proxy:
        client, backend = await opened(proxy, secure=secure)
        for size in (0, 5, 125, 126, 1024, 65535, 300_000):
            sent, answered = frame(2, b"x" * size, masked=True), frame(1, b"y" * size)
            await client.sends(sent)
            await backend.sees(sent)
            await backend.sends(answered)
            await client.sees(answered)
        tunnel = next(iter(proxy.runtime.tunnels))

        assert (tunnel.client.scanner.messages, tunnel.backend.scanner.messages) == (7, 7)


@SIDES
async def test_end_of_one_side_delivers_what_it_said_and_ends_the_other(secure: bool, backend_tls: bool) -> None:
    """Over TLS there is no half-close (design): what was said is flushed, then both connections end."""
    async with proxying(backend_tls=backend_tls) as proxy:
        client, backend = await opened(proxy, secure=secure)
        last = frame(1, b"last words")
        await backend.sends(last)
        backend.closes()

        assert await client.rest() == last
        await socketless(proxy)
        assert list(closes_of(proxy)) == [("1006", "backend")]


@SIDES
async def test_close_handshake_passes_over_tls(secure: bool, backend_tls: bool) -> None:
    async with proxying(backend_tls=backend_tls) as proxy:
        client, backend = await opened(proxy, secure=secure)
        said = frame(8, b"\x03\xe8bye", masked=True)
        await client.sends(said)
        await backend.sees(said)
        answer = frame(8, b"\x03\xe8")
        await backend.sends(answer)
        await client.sees(answer)
        backend.closes()
        await client.ends()
        await socketless(proxy)

        assert list(closes_of(proxy)) == [("1000", "client")]


@pytest.mark.slow
async def test_thousand_certificates_in_turn_fail_no_handshake_and_touch_no_socket() -> None:
    issued = AUTHORITY.issue_cert("a.test")
    chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
    other = msgspec.structs.replace(CERTIFICATE, chain=chain, key=Sensitive(issued.private_key_pem.bytes()))
    async with proxying() as proxy:
        client, backend = await opened(proxy, secure=True)
        plain = config_for(proxy.backend.port)
        serials: list[str] = []
        swapped = False

        async def visit() -> None:
            while not swapped:
                visitor = await proxy.client(secure=True)
                serials.append(visitor.writer.get_extra_info("peercert")["serialNumber"])
                await visitor.gone()

        async def swap() -> None:
            nonlocal swapped
            for number in range(1000):
                certificate = (CERTIFICATE, other)[number % 2]
                proxy.serves(msgspec.structs.replace(plain, certificates={"test/tls": certificate}))
                seen = len(serials)
                while number % 20 == 0 and len(serials) < seen + 2:
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
            swapped = True

        async with asyncio.timeout(60):
            await asyncio.gather(swap(), *(visit() for _ in range(4)))
        await client.sends(frame(1, b"hello", masked=True))
        sent = await backend.reads(11)
        await backend.sends(frame(1, b"hello"))
        await client.sees(frame(1, b"hello"))

        assert sent[:2] == b"\x81\x85"
        assert len(serials) >= 100
        assert len(set(serials)) == 2


async def test_handshake_that_openssl_refuses_gets_its_alert() -> None:
    """RFC 8446, 6.2: a client that learns nothing but that the connection ended would try again."""
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-SHA")  # nothing that we speak
    async with proxying() as proxy, asyncio.timeout(WAIT):
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            await asyncio.open_connection("127.0.0.1", proxy.tls_port, ssl=context, server_hostname="a.test")
        await proxy.is_innocent()


def read_slowly(proxy: Proxy, *, secure: bool) -> int:
    """Ask for the answer with a blocking socket, and rest again and again; return how many bytes of it came.

    The kernels hold megabytes: where in the answer the proxy holds its last bytes itself cannot be told.
    """
    with proxy.blocking_client(secure=secure) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        got = -HEAD_SIZE
        rests = [*range(0, BIG, MIB // 2)]
        while piece := sock.recv(64 * 1024):
            got += len(piece)
            if rests and got >= rests[0]:
                rests.pop(0)
                time.sleep(0.12)
        return got


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % BIG
HEAD_SIZE = len(HEAD + b"Connection: close\r\n\r\n")


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True])
async def test_last_answer_arrives_whole_at_a_client_slower_than_close_wait(secure: bool) -> None:
    """The connection ends after it, so nothing but its own bytes keeps it open."""
    async with proxying(Settings(close_wait=0.05)) as proxy, asyncio.timeout(30):
        reading = asyncio.create_task(asyncio.to_thread(read_slowly, proxy, secure=secure))
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(HEAD + b"\r\n" + bytes(BIG))

        assert await reading == BIG


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True])
async def test_client_that_reads_no_answers_of_ours_gets_no_more_of_them(secure: bool) -> None:
    """Pipelined requests that the proxy answers itself are held back too: memory is bounded."""
    async with proxying() as proxy:
        proxy.serves(config_for(proxy.backend.port, path="/served"))
        client = await proxy.client(secure=secure)
        await client.sends(REQUEST)
        assert (await client.answer())[0] == 404
        (connection,) = proxy.runtime.connections
        client.writer.transport.pause_reading()
        writing = asyncio.create_task(client.sends(REQUEST * MANY))
        async with asyncio.timeout(WAIT):
            while not (connection.write_paused and connection.read_paused):  # type: ignore[attr-defined]
                await asyncio.sleep(0)
        assert connection.transport.get_write_buffer_size() < MIB  # type: ignore[attr-defined]
        assert connection.unread_bytes < MIB  # type: ignore[attr-defined]
        client.writer.transport.resume_reading()
        for _ in range(MANY):
            status, _, _ = await client.answer()
            assert status == 404
        await writing


def hello() -> bytes:
    """What a client says first."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="a.test").do_handshake()
    return outgoing.read()


async def test_handshakes_that_fail_are_counted_and_leave_nothing_behind() -> None:
    """`proxying` ends with a look at what only a collector could free."""
    async with proxying() as proxy:
        for _ in range(3):
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(
                    "127.0.0.1", proxy.tls_port, ssl=ssl.create_default_context(), server_hostname="a.test"
                )
            client = Peer(*await asyncio.open_connection("127.0.0.1", proxy.tls_port))
            await client.sends(hello())
            assert await client.reads(1) == b"\x16"
            await client.gone()
        async with asyncio.timeout(WAIT):
            while proxy.runtime.stats.labelled(TLS_HANDSHAKES) != {"failed": 6}:
                await asyncio.sleep(0)


OURS = (TlsStream, Tunnel, Side, FrameScanner, SocketStats, SocketEntry, Request)
KINDS = ("SSLObject", "MemoryBIO", "TCPTransport", *(kind.__name__ for kind in OURS))


def alive(*names: str) -> dict[str, int]:
    found = dict.fromkeys(names, 0)
    for one in gc.get_objects():
        name = type(one).__name__
        if name in found:
            found[name] += 1
    return found


@SIDES
async def test_ended_sockets_are_gone_without_a_collection(secure: bool, backend_tls: bool) -> None:
    """Collections are rare, and what is frozen after a change of configuration is never collected."""
    async with proxying(backend_tls=backend_tls) as proxy:
        for turn in range(12):
            if turn == 2:
                gc.collect()
                gc.disable()
                before = alive(*KINDS)
            client, backend = await opened(proxy, secure=secure)
            await client.gone()
            await backend.gone()
            await socketless(proxy)
            proxy.peers.clear()
            proxy.backend.peers.clear()
        del client, backend
        for _ in range(5):
            await asyncio.sleep(0)
        after = alive(*KINDS)
        gc.enable()

    assert all(after[name] <= before[name] for name in KINDS), (before, after)


async def test_backend_connection_that_nobody_waits_for_any_more_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxying(backend_tls=True) as proxy:
        [upstream] = proxy.runtime.upstreams.values()
        [pool] = upstream._pools.values()
        connecting = asyncio.ensure_future(pool.connect(WAIT))
        really = UpstreamConnection.connection_made
        given_up: list[UpstreamConnection] = []

        def connection_made(self: UpstreamConnection, transport: asyncio.Transport) -> None:
            really(self, transport)
            connecting.cancel()
            given_up.append(self)

        monkeypatch.setattr(UpstreamConnection, "connection_made", connection_made)
        with pytest.raises(asyncio.CancelledError):
            await connecting
        async with asyncio.timeout(WAIT):
            while given_up[0].alive:
                await asyncio.sleep(0)

        assert pool.stats.connections == 0
