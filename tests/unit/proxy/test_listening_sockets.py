"""Binding of listening sockets."""

import socket

import pytest

from proxy.processes.listening_sockets import BindError, bind_all, bound_address
from proxy.settings import Address


def test_bind_port_0_gives_all_workers_the_same_port() -> None:
    sockets = bind_all(Address("127.0.0.1", 0), "--http", 3)
    ports = {bound_address(sock).port for sock in sockets}
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
    with socket.create_connection(("127.0.0.1", bound_address(sock).port), 5):
        pass
    sock.close()


def test_bind_port_that_another_instance_shares_willingly_is_in_use() -> None:
    """SO_REUSEPORT would let two proxies of one user share a port in silence."""
    (first,) = bind_all(Address("127.0.0.1", 0), "--https", 1)
    first.listen()
    address = bound_address(first)
    with pytest.raises(BindError) as caught:
        bind_all(address, "--https", 1)
    first.close()

    assert str(caught.value) == f"Port {address.port} is in use; --https or SLUICE_HTTPS moves it."


def test_bind_address_of_another_machine_is_said() -> None:
    with pytest.raises(BindError, match=r"The address 192\.0\.2\.1:0 cannot be bound .*; --admin or SLUICE_ADMIN moves it\."):
        bind_all(Address("192.0.2.1", 0), "--admin", 1)
