"""Handshakes before they begin: how many start per turn of the loop, and what a client may say while its own waits."""

import asyncio
import ssl
from unittest.mock import Mock

import pytest

from proxy.http.message import Client
from proxy.listeners.tls import HANDSHAKES_PER_TURN, HandshakeQueue, TlsHandshake, TlsTermination
from proxy.observability.access_log import AccessLog
from proxy.runtime.state import Runtime
from proxy.settings import Settings
from proxy.tls.certificates import CertificateStore


async def test_handshakes_start_in_order_and_at_most_four_per_turn() -> None:
    loop = asyncio.get_running_loop()
    queue = HandshakeQueue(loop)
    started: list[int] = []
    for number in range(10):
        queue.add(lambda number=number: started.append(number))  # type: ignore[misc]
    seen = []
    for _ in range(4):
        await asyncio.sleep(0)
        seen.append(len(started))

    assert started == list(range(10))
    assert seen == [HANDSHAKES_PER_TURN, 2 * HANDSHAKES_PER_TURN, 10, 10]


async def test_handshakes_that_come_later_start_too() -> None:
    queue = HandshakeQueue(asyncio.get_running_loop())
    started: list[str] = []
    queue.add(lambda: started.append("first"))
    await asyncio.sleep(0)
    queue.add(lambda: started.append("second"))
    await asyncio.sleep(0)

    assert started == ["first", "second"]


async def test_handshake_that_cannot_start_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    handler = Mock()
    monkeypatch.setattr(loop, "call_exception_handler", handler)
    queue = HandshakeQueue(loop)
    started: list[int] = []
    queue.add(lambda: started.append(1 // 0))
    for number in range(2):
        queue.add(lambda number=number: started.append(number))  # type: ignore[misc]
    for _ in range(3):
        await asyncio.sleep(0)

    assert started == [0, 1]
    assert handler.call_count == 1


async def test_client_that_says_more_while_its_handshake_waits_is_not_read() -> None:
    """It would fill our memory: with many that wait, a turn comes late."""
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="a.test").do_handshake()
    loop, store = asyncio.get_running_loop(), CertificateStore()
    runtime = Runtime(loop, Settings(), accesslog=AccessLog("off", loop), certificates=store, public_https_port=443)
    termination = TlsTermination(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), store, HandshakeQueue(loop), 10.0)
    client = Client(peer="127.0.0.1", secure=True, port=443, trusted=False, listener="https")
    handshake = TlsHandshake(runtime, termination, client, set())
    transport = Mock(spec=asyncio.Transport)
    handshake.connection_made(transport)
    handshake.data_received(outgoing.read())
    assert not transport.pause_reading.called
    handshake.data_received(b"more")

    assert transport.pause_reading.called
    handshake.connection_lost(None)  # before its turn comes
