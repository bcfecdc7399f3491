# Compiled by mypyc: see setup.py.
"""Bytes of a connection that wait in buffers, ours and the kernel's. Asked before one is cut: no end of an answer may be lost."""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from typing import Final

_TCP_INFO_BYTES: Final = 128
_MOST_UNREAD: Final = 1024 * 1024
"""Bytes that are taken from a lost connection."""
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_BYTES_ACKED: Final = struct.Struct("120xQ")
"""`tcpi_bytes_acked` of `struct tcp_info` (linux/tcp.h), as of Linux 4.1."""


def unsent(transport: asyncio.Transport) -> int:
    """Return the bytes that the peer has not acknowledged, in our buffers and in the kernel's (tcp(7), SIOCOUTQ)."""
    return transport.get_write_buffer_size() + _ask(transport, termios.TIOCOUTQ)


def unread(transport: asyncio.Transport) -> int:
    """Return the bytes of the peer that wait in the kernel (tcp(7), SIOCINQ)."""
    return _ask(transport, termios.FIONREAD)


def _ask(transport: asyncio.Transport, request: int) -> int:
    sock = transport.get_extra_info("socket")
    descriptor = sock.fileno() if sock is not None else -1
    if descriptor < 0:
        return 0
    try:
        number: int = struct.unpack("i", fcntl.ioctl(descriptor, request, b"\0\0\0\0"))[0]
    except OSError:
        return 0
    return number


def reset(transport: asyncio.Transport) -> None:
    """End a connection by a RST (socket(7), SO_LINGER), for peers that take a FIN for the end of what was to be sent."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()


def take_unread(transport: asyncio.Transport) -> bytes:
    """Take the peer's bytes that wait in the kernel of a lost connection: a RST leaves them, and a write that fails hides them."""
    sock = transport.get_extra_info("socket")
    descriptor = sock.fileno() if sock is not None else -1
    data_read = b""
    with contextlib.suppress(OSError):
        while descriptor >= 0 and len(data_read) < _MOST_UNREAD and (data := os.read(descriptor, _MOST_UNREAD)):
            data_read += data
    return data_read


def acknowledged(transport: asyncio.Transport) -> int:
    """Return how many bytes the peer's kernel has taken since the connection was made; 0: that cannot be known."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return 0
    try:
        info: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return 0
    return int(_BYTES_ACKED.unpack(info)[0]) if len(info) == _TCP_INFO_BYTES else 0
