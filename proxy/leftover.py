"""What was written to a connection and has not arrived yet. Needed before one is cut: the end of an answer must not be lost."""

import asyncio
import fcntl
import socket
import struct
import termios

_TCP_INFO_BYTES = 128
_BYTES_ACKED = struct.Struct("120xQ")
"""`tcpi_bytes_acked` of `struct tcp_info` (linux/tcp.h), as of Linux 4.1."""


def unsent(transport: asyncio.Transport) -> int:
    """Return the bytes that the peer has not acknowledged, in our buffers and in the kernel's (tcp(7), SIOCOUTQ).

    Over TLS a part of what waits in between is not seen; nothing waits there unless something waits in the kernel.
    """
    sock = transport.get_extra_info("socket")
    descriptor = sock.fileno() if sock is not None else -1
    if descriptor < 0:
        return 0
    try:
        queued: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
    except OSError:
        queued = 0
    return transport.get_write_buffer_size() + queued


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
