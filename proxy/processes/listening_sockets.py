"""Listening sockets: bound by the supervisor before anything else runs, one per worker and listener."""

import errno
import os
import socket

from proxy.settings import Address

BACKLOG = 4096
"""Connections that may wait for a worker; the kernel cuts it to net.core.somaxconn."""


class BindError(Exception):
    """An address cannot be had; the message says which, and what moves it."""


def bind_all(address: Address, flag: str, count: int) -> list[socket.socket]:
    """Bind `count` sockets to one address with SO_REUSEPORT, without listening yet; port 0 picks one port for all.

    Raises `BindError`, whose sentence names the flag and the variable that move the port.
    """
    try:
        family, name = _resolve(address)
        if address.port:
            _probe(family, name)
        first = _bind(family, name)
        bound = (name[0], first.getsockname()[1], *name[2:])
        return [first, *(_bind(family, bound) for _ in range(count - 1))]
    except OSError as error:
        raise BindError(_sentence(address, flag, error)) from None


def bound_address(sock: socket.socket) -> Address:
    """Return where a socket is bound."""
    host, port, *_ = sock.getsockname()
    return Address(host, port)


def _resolve(address: Address) -> tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]:
    if not address.host:
        if socket.has_dualstack_ipv6():
            return socket.AF_INET6, ("::", address.port, 0, 0)
        return socket.AF_INET, ("0.0.0.0", address.port)
    family, _, _, _, name = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    return family, name  # type: ignore[return-value]  # AF_INET and AF_INET6 have no other names


def _probe(family: socket.AddressFamily, name: tuple[object, ...]) -> None:
    # SO_REUSEPORT lets another process of our user share the port in silence; without it the kernel refuses.
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        _prepare(probe)
        probe.bind(name)
        probe.listen(1)


def _bind(family: socket.AddressFamily, name: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        _prepare(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(name)
    except OSError:
        sock.close()
        raise
    return sock


def _prepare(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def _sentence(address: Address, flag: str, error: OSError) -> str:
    variable = "SLUICE_" + flag.removeprefix("--").replace("-", "_").upper()
    if error.errno == errno.EADDRINUSE:
        what = f"Port {address.port} is in use"
    elif error.errno == errno.EACCES:
        what = f"Port {address.port} needs a privilege that this process does not have"
    elif isinstance(error, socket.gaierror):
        what = f"The address {address.host!r} cannot be resolved"
    else:
        what = f"The address {address} cannot be bound ({os.strerror(error.errno or 0)})"
    return f"{what}; {flag} or {variable} moves it."
