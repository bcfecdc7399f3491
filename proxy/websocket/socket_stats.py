# Compiled by mypyc: see setup.py.
"""Metrics and access log of one socket: its counts, and its two lines."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.http.addresses import host_and_port
from proxy.http.message import Request
from proxy.observability.access_log import AccessLog
from proxy.observability.worker_stats import RouteStats
from proxy.shared_memory.counters import EndpointCounter
from proxy.websocket.frames import FrameScanner


class TunnelEndpoint(Protocol):
    """The endpoint that a tunnel leads to."""

    address: str
    port: int
    sockets: int
    counter: EndpointCounter


@dataclass(frozen=True, slots=True)
class SocketInfo:
    """Identity of a socket: its request, route, Service and endpoint."""

    request: Request
    stats: RouteStats
    service: str
    endpoint: TunnelEndpoint
    opened: float
    """Loop time of the 101."""


class SocketStats:
    """The counts of one socket, from its 101 to the end of both connections."""

    __slots__ = ("_backend", "_client", "_ended", "_flushed", "_info", "_log", "_unanswered")

    def __init__(
        self, info: SocketInfo, log: AccessLog, client: FrameScanner, backend: FrameScanner, ended: Callable[[], None]
    ) -> None:
        self._info = info
        self._log = log
        self._client = client
        self._backend = backend
        self._ended = ended
        self._flushed = (0, 0, 0, 0)
        self._unanswered = False

    @property
    def info(self) -> SocketInfo:
        """Identity of a socket: its request, route, Service and endpoint."""
        return self._info

    def move_to_route(self, stats: RouteStats) -> None:
        """Count on another route from now on, or on what belongs to no route."""
        info = self._info
        self.flush_stats()
        info.stats.ws_left(info.service)
        stats.ws_opened(info.service)
        self._info = SocketInfo(info.request, stats, info.service, info.endpoint, info.opened)

    def move_to_service(self, service: str, endpoint: TunnelEndpoint) -> None:
        """Count on another port of the Service from now on, which leads to the same endpoint."""
        info = self._info
        self.flush_stats()
        info.stats.ws_left(info.service)
        info.stats.ws_opened(service)
        info.endpoint.sockets -= 1
        endpoint.sockets += 1
        reservation = info.request.reservation
        if reservation is not None and reservation.endpoint_counter is not None and endpoint.counter.acquire(0):
            reservation.release_endpoint()
            reservation.endpoint_counter = endpoint.counter
        self._info = SocketInfo(info.request, info.stats, service, endpoint, info.opened)

    def open(self) -> None:
        """Count the socket as open."""
        info = self._info
        info.endpoint.sockets += 1
        info.stats.ws_opened(info.service)
        if self._log.enabled:
            self._log.socket_open(info.request, info.stats.route_id, info.service, self._endpoint_name())

    def forget_fields(self) -> None:
        """Drop the request's field lines: half a kilobyte that an idle socket need not hold."""
        self._info.request.forget_fields()

    def flush_stats(self) -> None:
        """Add what was counted since the last time to the route's metrics."""
        messages_in, bytes_in, messages_out, bytes_out = self._flushed
        client, backend, stats = self._client, self._backend, self._info.stats
        stats.ws_traffic(
            client.messages - messages_in,
            client.payload_bytes - bytes_in,
            backend.messages - messages_out,
            backend.payload_bytes - bytes_out,
        )
        self._flushed = (client.messages, client.payload_bytes, backend.messages, backend.payload_bytes)

    def count_unanswered(self) -> None:
        """Count that an end did not answer our close frame in time; once."""
        if not self._unanswered:
            self._unanswered = True
            self._info.stats.ws_unanswered()

    def close(self, code: int, by: str, cause: str, side: str) -> None:
        """Count the socket as gone: its close code, and who closed it (client, backend, proxy:CAUSE).

        `cause` and `side`, for the log: what a side sent that it was closed for, and which.
        """
        info = self._info
        info.endpoint.sockets -= 1
        self.flush_stats()
        seconds = asyncio.get_running_loop().time() - info.opened
        info.stats.ws_closed(info.service, code, by, seconds)
        self._ended()
        if self._log.enabled:
            messages_in, bytes_in, messages_out, bytes_out = self._flushed
            self._log.socket_close(
                info.request,
                info.stats.route_id,
                info.service,
                self._endpoint_name(),
                code=code,
                by=by,
                cause=cause,
                side=side,
                seconds=seconds,
                messages_in=messages_in,
                messages_out=messages_out,
                bytes_in=bytes_in,
                bytes_out=bytes_out,
            )

    def _endpoint_name(self) -> str:
        return host_and_port(self._info.endpoint.address, self._info.endpoint.port)
