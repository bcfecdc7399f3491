"""What was written to a connection and has not arrived yet. Needed before one is cut: the end of an answer must not be lost."""

import asyncio
import fcntl
import struct
import termios


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
