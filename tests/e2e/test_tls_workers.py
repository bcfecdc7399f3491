"""TLS of real processes: sessions across workers, certificates that change, what is refused and how."""

import asyncio
import os
import signal
import socket
import ssl

import pytest
import trustme
from e2e.harness import HOST, Hub, backend, config, issue, ok, proxy, trusting, until


class Tls:
    """Clients that trust one authority, and remember their sessions."""

    def __init__(self, authority: trustme.CA, port: int) -> None:
        self.context = trusting(authority)
        self.port = port

    def visit(self, session: ssl.SSLSession | None = None, name: str = HOST) -> tuple[bool, ssl.SSLSession | None, int]:
        """Make a request; tell whether the session was resumed, and give its successor and the certificate's serial number."""
        with (
            socket.create_connection(("127.0.0.1", self.port), 10) as plain,
            self.context.wrap_socket(plain, server_hostname=name, session=session) as secure,
        ):
            secure.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while data := secure.recv(65536):
                answer += data
            assert ok(answer)
            reused = bool(secure.session_reused)
            serial = 0 if reused else int(str(secure.getpeercert()["serialNumber"]), 16)  # type: ignore[index]
            return reused, secure.session, serial


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_session_resumes_in_another_worker_and_after_a_new_certificate(hub: Hub, version: ssl.TLSVersion) -> None:
    authority = trustme.CA()
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        client = Tls(authority, one.https)
        client.context.maximum_version = version
        hub.publish(config(port, issue(authority, HOST)))
        await one.ready()
        _, session, first = await asyncio.to_thread(client.visit)
        resumed = [(await asyncio.to_thread(client.visit, session))[0] for _ in range(10)]
        before = one.workers()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        await until(lambda: len(set(one.workers()) - set(before)) == 2)
        elsewhere, _, _ = await asyncio.to_thread(client.visit, session)
        hub.publish(config(port, issue(authority, HOST)))
        await hub.acknowledged()
        afterwards, _, _ = await asyncio.to_thread(client.visit, session)
        _, _, second = await asyncio.to_thread(client.visit)

    assert resumed == [True] * 10
    assert (elsewhere, afterwards) == (True, True)
    assert first != second


async def test_tls_certificate_that_does_not_load_keeps_the_one_before(hub: Hub) -> None:
    authority = trustme.CA()
    good, other = issue(authority, HOST), issue(authority, HOST)
    broken = type(good)(good.chain, other.key, good.not_after)
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        client = Tls(authority, one.https)
        hub.publish(config(port, good))
        await one.ready()
        _, _, first = await asyncio.to_thread(client.visit)
        hub.publish(config(port, broken))
        await hub.acknowledged()
        _, _, second = await asyncio.to_thread(client.visit)

    assert first == second


async def _raw(port: int, data: bytes, seconds: float = 5) -> bytes:
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if data:
            writer.write(data)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""  # closed on bytes that nobody read
        finally:
            writer.close()


async def test_tls_port_refuses_plain_http_h2_only_and_silence_each_in_its_way(hub: Hub) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    async with backend() as port, proxy(hub, "--workers", "1", "--tls-handshake-timeout", "300ms") as one:
        hub.publish(config(port))
        await one.ready()
        plain = await _raw(one.https, b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        silence = await _raw(one.https, b"")
        partial = await _raw(one.https, b"\x16\x03\x01\x02\x00\x01")
        garbage = await _raw(one.https, b"\x16\x03\x01\x00\x05\x02aaaa")
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            async with asyncio.timeout(5):
                await asyncio.open_connection("127.0.0.1", one.https, ssl=context, server_hostname=HOST)
        _, metrics = await one.ask("/metrics")

    assert plain.startswith(b"HTTP/1.1 400 ")
    assert b"text/plain" in plain
    assert (silence, partial, garbage) == (b"", b"", bytes.fromhex("15030300020232"))
    assert 'sluice_tls_handshakes_total{result="refused"} 3.0' in metrics
    assert 'sluice_tls_handshakes_total{result="timeout"} 2.0' in metrics


async def test_tls_hello_in_pieces_is_served(hub: Hub) -> None:
    """Post-quantum key shares spread a ClientHello over segments."""
    authority = trustme.CA()
    context = trusting(authority)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port, issue(authority, HOST)))
        await one.ready()
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", one.https)
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in (hello[:1], hello[1:7], hello[7:100], hello[100:]):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)  # so that each piece is a segment; the outcome does not depend on it
            answer = await reader.read(5)
            writer.close()

    assert answer[:2] == b"\x16\x03"


@pytest.mark.parametrize("strict", [True, False])
async def test_tls_unknown_name_gets_the_default_or_is_refused_under_strict_sni(hub: Hub, *, strict: bool) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with backend() as port, proxy(hub, "--workers", "1", "--strict-sni" if strict else "--no-strict-sni") as one:
        hub.publish(config(port, issue(trustme.CA(), HOST)))
        await one.ready()
        refusal = ""
        try:
            async with asyncio.timeout(5):
                _, writer = await asyncio.open_connection("127.0.0.1", one.https, ssl=context, server_hostname="nobody.example")
            writer.close()
        except ssl.SSLError as error:
            refusal = error.reason

    assert ("UNRECOGNIZED_NAME" in refusal) == strict
