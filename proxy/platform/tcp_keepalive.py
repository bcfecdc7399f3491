"""TCP's own keepalive: the kernel asks a silent peer, below TLS and WebSockets, and ends a connection to nobody."""

import socket
from typing import Protocol

PROBE_SECONDS = 15
"""Between two probes that were not answered."""
PROBES = 4
"""That are not answered end the connection: a minute after the first."""


class Socket(Protocol):
    """A socket, or what an event loop shows of one."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set an option; see socket(7)."""


def enable_tcp_keepalive(sock: Socket, seconds: float) -> None:
    """Have the kernel ask the peer after that many seconds of silence; 0: never. A listening socket's connections inherit it."""
    if seconds:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(seconds)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
