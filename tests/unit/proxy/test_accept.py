"""Binding, and how many handshakes start per turn of the loop."""

import asyncio
import socket
import ssl
from unittest.mock import Mock

import pytest

from proxy.http.message import Client
from proxy.listeners.accept import HANDSHAKES_PER_TURN, HandshakeQueue, Listener, Termination, TlsHandshake
from proxy.observability.access_log import AccessLog
from proxy.processes.listening_sockets import BindError, bind_all, spoken
from proxy.runtime.state import Runtime
from proxy.settings import Address, Settings
from proxy.tls.certificates import CertificateStore


async def test_handshakes_start_in_order_and_at_most_four_per_turn() -> None:
    loop = asyncio.get_running_loop()
    turns = HandshakeQueue(loop)
    started: list[int] = []
    for number in range(10):
        turns.add(lambda number=number: started.append(number))  # type: ignore[misc]
    seen = []
    for _ in range(4):
        await asyncio.sleep(0)
        seen.append(len(started))

    assert started == list(range(10))
    assert seen == [HANDSHAKES_PER_TURN, 2 * HANDSHAKES_PER_TURN, 10, 10]


async def test_handshakes_that_come_later_start_too() -> None:
    turns = HandshakeQueue(asyncio.get_running_loop())
    started: list[str] = []
    turns.add(lambda: started.append("first"))
    await asyncio.sleep(0)
    turns.add(lambda: started.append("second"))
    await asyncio.sleep(0)

    assert started == ["first", "second"]


async def test_handshake_that_cannot_start_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    told = Mock()
    monkeypatch.setattr(loop, "call_exception_handler", told)
    turns = HandshakeQueue(loop)
    started: list[int] = []
    turns.add(lambda: started.append(1 // 0))
    for number in range(2):
        turns.add(lambda number=number: started.append(number))  # type: ignore[misc]
    for _ in range(3):
        await asyncio.sleep(0)

    assert started == [0, 1]
    assert told.call_count == 1


async def test_client_that_says_more_while_its_handshake_waits_is_not_read() -> None:
    """It would fill our memory: with many that wait, a turn comes late."""
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="a.test").do_handshake()
    loop, store, turns = asyncio.get_running_loop(), CertificateStore(), HandshakeQueue(asyncio.get_running_loop())
    runtime = Runtime(loop, Settings(), accesslog=AccessLog("off", loop), certificates=store, public_https_port=443)
    termination = Termination(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), store, 10.0)
    with socket.socket() as sock:
        listener = Listener(runtime, sock, "https", 443, turns, termination)
    greeting = TlsHandshake(listener, termination, Client(peer="127.0.0.1", secure=True, port=443, trusted=False, listener="https"))
    transport = Mock(spec=asyncio.Transport)
    greeting.connection_made(transport)
    greeting.data_received(outgoing.read())
    assert not transport.pause_reading.called
    greeting.data_received(b"more")

    assert transport.pause_reading.called
    greeting.connection_lost(None)  # before its turn comes


def test_bind_port_0_gives_all_workers_the_same_port() -> None:
    sockets = bind_all(Address("127.0.0.1", 0), "--http", 3)
    ports = {spoken(sock).port for sock in sockets}
    for sock in sockets:
        sock.close()

    assert len(ports) == 1
    assert ports != {0}


def test_bind_does_not_listen_yet() -> None:
    (sock,) = bind_all(Address("127.0.0.1", 0), "--http", 1)

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(sock.getsockname(), 5)
    sock.close()


def test_bind_all_addresses_takes_ipv4() -> None:
    (sock,) = bind_all(Address("", 0), "--http", 1)
    sock.listen()
    with socket.create_connection(("127.0.0.1", spoken(sock).port), 5):
        pass
    sock.close()


def test_bind_port_that_another_instance_shares_willingly_is_in_use() -> None:
    """SO_REUSEPORT would let two proxies of one user share a port in silence."""
    (first,) = bind_all(Address("127.0.0.1", 0), "--https", 1)
    first.listen()
    address = spoken(first)
    with pytest.raises(BindError) as caught:
        bind_all(address, "--https", 1)
    first.close()

    assert str(caught.value) == f"Port {address.port} is in use; --https or SLUICE_HTTPS moves it."


def test_bind_address_of_another_machine_is_said() -> None:
    with pytest.raises(BindError, match=r"The address 192\.0\.2\.1:0 cannot be bound .*; --admin or SLUICE_ADMIN moves it\."):
        bind_all(Address("192.0.2.1", 0), "--admin", 1)
