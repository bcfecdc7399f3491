# Compiled by mypyc: see setup.py.
"""Connecting for one request: endpoint after endpoint, until one takes the connection or the time is over."""

import asyncio
import errno
import socket
from collections.abc import Collection
from typing import Final

from proxy.model.config import LoadBalancing
from proxy.shared_memory.counters import Reservation
from proxy.upstream.errors import TlsHandshakeError, TlsHandshakeTimeoutError
from proxy.upstream.http1_connection import UpstreamConnection
from proxy.upstream.pool import EndpointPool, LiveUpstream
from proxy.upstream.rendezvous import NO_KEY

ATTEMPT_SECONDS: Final = 1.0
"""One attempt to connect, while other endpoints remain (docs/wire.md, unreachable endpoint)."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})

_CAUSES: Final = {
    errno.ECONNREFUSED: "connect_refused",
    errno.ECONNRESET: "connect_reset",
    errno.ENETUNREACH: "connect_unreachable",
    errno.EHOSTUNREACH: "connect_unreachable",
    errno.ENETDOWN: "connect_unreachable",
    errno.EHOSTDOWN: "connect_unreachable",
}


class UpstreamUnavailableError(Exception):
    """No endpoint could be reached. `status` is what the client is told: 502, 503 or 504.

    `cause` is a name of causes.py, `endpoint` the one that was tried last.
    """

    def __init__(self, status: int, cause: str, endpoint: str = "") -> None:
        super().__init__(status, cause, endpoint)
        self.status = status
        self.cause = cause
        self.endpoint = endpoint


def _cause_of(error: OSError) -> str:
    """Name why a connection could not be made."""
    if isinstance(error, TlsHandshakeError):
        return "tls_handshake"
    if isinstance(error, socket.gaierror):
        return "name_unresolved"
    if isinstance(error, TlsHandshakeTimeoutError):
        return "tls_timeout"
    if isinstance(error, TimeoutError):
        return "connect_timeout"
    return _CAUSES.get(error.errno or 0, "connect_failed")


async def dial(
    upstream: LiveUpstream,
    policy: LoadBalancing,
    timeout: float,
    first: EndpointPool | None = None,
    *,
    reservation: Reservation | None = None,
    limit: int = 0,
    key: int = NO_KEY,
    strict: bool = False,
) -> UpstreamConnection:
    """Connect to an endpoint, one after the other within `timeout`; raises `UpstreamUnavailableError`.

    `strict`: to `first` or none. `reservation`: of an upgrade; it is counted at an endpoint that has less than `limit` sockets.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    tried: list[EndpointPool] = []
    timed_out, cause = False, "connect_timeout"
    pool = first or _next_endpoint(upstream, policy, reservation, limit, (), key)
    if pool is None:
        raise UpstreamUnavailableError(503, "endpoints_full" if limit and upstream.endpoint_count else "no_endpoint")
    while pool is not None:
        tried.append(pool)
        left = deadline - loop.time()
        if left <= 0:
            timed_out, cause = True, "connect_timeout"
            break
        others = not strict and len(tried) < upstream.endpoint_count
        try:
            return await pool.connect(min(ATTEMPT_SECONDS, timeout / 3, left) if others else left)
        except OSError as error:
            if error.errno in _EXHAUSTED:
                # We have run out of descriptors, ports or memory: no endpoint is to blame.
                raise UpstreamUnavailableError(503, "exhausted", pool.name) from None
            timed_out, cause = isinstance(error, TimeoutError), _cause_of(error)
        pool.record_connect_failure()
        if strict:
            break
        pool = _next_endpoint(upstream, policy, reservation, limit, tried, key)
    raise UpstreamUnavailableError(504 if timed_out else 502, cause, tried[-1].name)


def _next_endpoint(
    upstream: LiveUpstream,
    policy: LoadBalancing,
    reservation: Reservation | None,
    limit: int,
    tried: Collection[EndpointPool],
    key: int,
) -> EndpointPool | None:
    if reservation is None:
        return upstream.choose(policy, tried, key)
    return upstream.reserve(policy, limit, reservation, tried, key)
