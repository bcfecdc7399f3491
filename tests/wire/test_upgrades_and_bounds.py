"""Upgrades in every form, and what stays bounded whatever a peer sends: bodies, series, descriptors, backends that lie."""

import asyncio
import gc
import gzip
import os
import socket

import pytest
from wire.harness import WAIT, config_for, proxying, socketless
from wire.verbs import SWITCH, UPGRADE, closes_of, frame, opened

from proxy.http.message import Request
from proxy.model.policy import Timeouts
from proxy.observability.metrics import HTTP_REQUESTS, WS_HANDSHAKES

HOST = b"Host: a.test\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
MIB = 1024 * 1024


def resident() -> int:
    """Kilobytes of this process, the proxy's worker objects among them."""
    with open("/proc/self/status") as file:  # noqa: PTH123  read while the loop runs: no blocking file
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


async def test_upgrade_over_http_1_0_is_plain_http() -> None:
    async with proxying() as proxy:
        head, status, _ = await proxy.passes(UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n")

        assert status == 204
        assert b"Upgrade" not in head


async def test_fields_nominated_by_an_upgrade_go_and_connection_is_exactly_upgrade() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        fields = b"X-Internal-Auth: admin\r\nCookie: a=b\r\n\r\n"
        await client.sends(UPGRADE.replace(b"keep-alive, Upgrade", b"Upgrade, X-Internal-Auth, X-Real-IP") + fields)
        backend = await proxy.backend.accepts()
        head = await backend.head()

        assert b"X-Internal-Auth" not in head
        assert b"Cookie: a=b\r\n" in head
        assert b"X-Real-IP: 127.0.0.1\r\n" in head
        assert [line for line in head.split(b"\r\n") if line.lower().startswith(b"connection:")] == [b"Connection: Upgrade"]


async def test_names_of_any_case_and_order_make_a_handshake() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(
            b"GET /ws HTTP/1.1\r\nsec-websocket-KEY: dGhlIHNhbXBsZSBub25jZQ==\r\nUPGRADE:websocket\r\nHOST: a.test\r\n"
            b"connection:x,UPGRADE\r\nSEC-WEBSOCKET-VERSION:13\r\n\r\n"
        )
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(
            SWITCH.replace(b"Upgrade: websocket", b"uPGRADE: WebSocket").replace(b"Connection", b"CONNECTION") + b"\r\n"
        )

        assert (await client.head()).startswith(b"HTTP/1.1 101 ")


async def test_interim_answers_before_the_101_pass_and_a_second_101_is_the_sockets_own() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + SWITCH + b"\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 103 ")
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        inside = frame(2, b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        await backend.sends(inside)

        await client.sees(inside)


@pytest.mark.parametrize("how", ["refuses", "closes", "resets", "half a head", "silent"])
async def test_backend_that_does_not_answer_an_upgrade_gives_an_error_in_bounded_time(how: str) -> None:
    policies = (Timeouts(connect=1.0, handshake=0.3),)
    async with proxying(policies=policies) as proxy:
        if how == "refuses":
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                proxy.serves(config_for(probe.getsockname()[1], *policies))
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n")
        if how != "refuses":
            backend = await proxy.backend.accepts()
            await backend.head()
            if how == "closes":
                backend.closes()
            elif how == "resets":
                backend.resets()
            elif how == "half a head":
                await backend.sends(SWITCH)
                backend.closes()
        status, _, _ = await client.answer()

        assert status == (504 if how == "silent" else 502)
        assert proxy.runtime.stats.route("ingress/test/a/0").labelled(WS_HANDSHAKES) == {status: 1}


async def test_open_socket_holds_no_fields_of_its_handshake() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy, b"X-Large: " + b"a" * 2000 + b"\r\n")

        assert [(one.lines, one.fields) for one in gc.get_objects() if isinstance(one, Request)] == [([], b"")]
        backend.closes()
        client.closes()


async def test_lengths_at_every_boundary_pass_unchanged() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        for size in (0, 1, 125, 126, 127, 65535, 65536, 3 * MIB):
            sent = frame(2, os.urandom(min(size, 64)) + bytes(max(0, size - 64)), masked=True)
            writing = asyncio.create_task(client.sends(sent))
            await backend.sees(sent)
            await writing

        assert next(iter(proxy.runtime.tunnels)).client.scanner.messages == 8


async def test_invalid_text_passes_unmodified() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        sent = frame(1, b"\xff\xfe\xed\xa0\x80", masked=True)
        await client.sends(sent)

        await backend.sees(sent)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("who", ["client", "backend"])
async def test_reader_that_stops_costs_under_a_megabyte(secure: bool, who: str) -> None:
    """The writer is held back: what waits is in the kernels, not in the proxy."""
    async with proxying(backend_tls=secure) as proxy:
        client = await proxy.client(secure=secure)
        await client.sends(UPGRADE + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(SWITCH + b"\r\n")
        await client.head()
        tunnel = next(iter(proxy.runtime.tunnels))
        reader, writer = (client, backend) if who == "client" else (backend, client)
        reader.writer.transport.pause_reading()
        side, source = (tunnel.client, tunnel.backend) if who == "client" else (tunnel.backend, tunnel.client)
        piece = frame(2, bytes(MIB), masked=who == "backend")
        writer.writer.transport.set_write_buffer_limits(high=0)
        most = 0
        async with asyncio.timeout(WAIT):
            while not source.read_paused:
                writer.writer.write(piece)
                await asyncio.sleep(0)
                most = max(most, side.transport.get_write_buffer_size())
        for _ in range(100):
            writer.writer.write(piece)
            await asyncio.sleep(0)
            most = max(most, side.transport.get_write_buffer_size())

        assert source.read_paused
        assert most < MIB
        # A reset is not seen on a connection that is not read: let both go on to their end.
        reader.writer.transport.resume_reading()
        writer.resets()
        await socketless(proxy)


@pytest.mark.parametrize("framing", [b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"])
async def test_body_without_an_end_streams_and_is_not_held(framing: bytes) -> None:
    piece = bytes(8 * MIB) if framing.startswith(b"Content") else b"10000\r\n%b\r\n" % bytes(65536) * 128
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"POST / HTTP/1.1\r\n" + HOST + framing + b"\r\n\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()

        async def drain(wanted: int) -> None:
            while wanted > 0:
                wanted -= len(await backend.reader.read(MIB))

        await asyncio.gather(client.sends(piece), drain(8 * MIB))
        before = resident()
        async with asyncio.timeout(30):
            for _ in range(8):
                await asyncio.gather(client.sends(piece), drain(8 * MIB))

        assert resident() - before < 16 * 1024


async def test_compressed_body_passes_untouched_both_ways() -> None:
    packed = gzip.compress(bytes(100_000))
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
        )
        backend = await proxy.backend.accepts()
        assert b"Content-Encoding: gzip\r\n" in await backend.head()
        await backend.sees(packed)
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)
        _, fields, body = await client.answer()

        assert (fields["content-encoding"], body) == ("gzip", packed)


async def test_random_hosts_paths_and_methods_make_no_series() -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        for number in range(200):
            method = ("GET", "PROPFIND", "LOCK", "REPORT")[number % 4]
            await client.sends(f"{method} /p{number} HTTP/1.1\r\nHost: h{number}.test\r\n\r\n".encode())
            assert (await client.answer())[0] == 404
        stats = proxy.runtime.stats

        assert {key[1] for key in stats.unmatched.labelled(HTTP_REQUESTS)} == {"GET", "other"}
        assert len(stats.unmatched.labelled(HTTP_REQUESTS)) == 2
        assert len(stats.routes) == 1


async def test_interim_answers_pass_up_to_a_bound() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + hint + OK)
        for status in (b"100", b"100", b"103", b"200"):
            assert (await client.head()).startswith(b"HTTP/1.1 " + status)
        await client.sends(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await backend.head()
        await backend.sends(hint * 1000)
        heads = 0
        while True:
            head = await client.head()
            if not head.startswith(b"HTTP/1.1 103 "):
                break
            heads += 1

        assert head.startswith(b"HTTP/1.1 502 ")
        assert heads <= 16


@pytest.mark.parametrize(
    "body",
    [
        *(b"zz\r\nabc\r\n", b"5\r\nabc", b"-1\r\n", b"ffffffffffffffffff\r\n", b"3\r\nabcX\r\n"),
        *(b"3;" + b"x" * 5000 + b"\r\nabc\r\n", b"0\r\n" + b"X: %s\r\n" % (b"x" * 1000) * 20),
    ],
)
async def test_malformed_chunks_of_a_backend_abort_the_client(body: bytes) -> None:
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.head()
        await backend.sends(body)
        backend.closes()
        seen = await client.rest()

        assert not seen.endswith(b"0\r\n\r\n")
        await proxy.is_innocent()


@pytest.mark.slow
async def test_backend_that_sends_garbage_for_ever_is_bounded_and_ended() -> None:
    async with proxying() as proxy:
        client, backend = await opened(proxy)
        await backend.sends(b"\xff\xff" + os.urandom(1000))

        async def flood() -> None:
            while True:
                backend.writer.write(bytes(64 * 1024))
                await backend.writer.drain()

        flooding = asyncio.create_task(flood())
        before = resident()
        await socketless(proxy)
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        told = await client.rest()

        assert told == frame(8, b"\x03\xe9")
        assert resident() - before < 8 * 1024
        assert list(closes_of(proxy)) == [("1002", "proxy:protocol_error")]


async def test_descriptors_are_as_many_as_before() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  no file is touched

    async with proxying() as proxy:
        before = count()
        for _ in range(50):
            client, backend = await opened(proxy)
            await client.gone()
            await backend.gone()
            await socketless(proxy)
        async with asyncio.timeout(WAIT):
            while count() > before:
                await asyncio.sleep(0)

        assert count() <= before
