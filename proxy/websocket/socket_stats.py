# Compiled by mypyc: see setup.py.
"""What is kept of one socket for others to see: its counts in the metrics, its two lines in the access log."""

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
    """Which socket it is."""

    request: Request
    stats: RouteStats
    service: str
    endpoint: TunnelEndpoint
    opened: float
    """Loop time of the 101."""


class SocketStats:
    """The account of one socket, from its 101 to the end of both connections."""

    __slots__ = ("_backend", "_client", "_counted", "_cut", "_ended", "_facts", "_log")

    def __init__(
        self, facts: SocketInfo, log: AccessLog, client: FrameScanner, backend: FrameScanner, ended: Callable[[], None]
    ) -> None:
        self._facts = facts
        self._log = log
        self._client = client
        self._backend = backend
        self._ended = ended
        self._counted = (0, 0, 0, 0)
        self._cut = False

    @property
    def facts(self) -> SocketInfo:
        """Which socket it is."""
        return self._facts

    def move(self, stats: RouteStats) -> None:
        """Count on another route from now on, or on what belongs to no route."""
        facts = self._facts
        self.settle()
        facts.stats.ws_left(facts.service)
        stats.ws_opened(facts.service)
        self._facts = SocketInfo(facts.request, stats, facts.service, facts.endpoint, facts.opened)

    def move_to(self, service: str, endpoint: TunnelEndpoint) -> None:
        """Count on another port of the Service from now on, which leads to the same endpoint."""
        facts = self._facts
        self.settle()
        facts.stats.ws_left(facts.service)
        facts.stats.ws_opened(service)
        facts.endpoint.sockets -= 1
        endpoint.sockets += 1
        reservation = facts.request.reservation
        if reservation is not None and reservation.endpoint_counter is not None and endpoint.counter.acquire(0):
            reservation.release_endpoint()
            reservation.endpoint_counter = endpoint.counter
        self._facts = SocketInfo(facts.request, facts.stats, service, endpoint, facts.opened)

    def open(self) -> None:
        """Count the socket as open."""
        facts = self._facts
        facts.endpoint.sockets += 1
        facts.stats.ws_opened(facts.service)
        if self._log.enabled:
            self._log.socket_open(facts.request, facts.stats.route_id, facts.service, self._endpoint_name())

    def forget_fields(self) -> None:
        """Let go of the request's field lines: half a kilobyte that an idle socket need not hold."""
        self._facts.request.forget_fields()

    def settle(self) -> None:
        """Add what was counted since the last time to the route's metrics."""
        messages_in, bytes_in, messages_out, bytes_out = self._counted
        client, backend, stats = self._client, self._backend, self._facts.stats
        stats.ws_messages_in += client.messages - messages_in
        stats.ws_bytes_in += client.payload_bytes - bytes_in
        stats.ws_messages_out += backend.messages - messages_out
        stats.ws_bytes_out += backend.payload_bytes - bytes_out
        self._counted = (client.messages, client.payload_bytes, backend.messages, backend.payload_bytes)

    def cut(self) -> None:
        """Count that an end did not answer our close frame in time; once."""
        if not self._cut:
            self._cut = True
            self._facts.stats.ws_unanswered()

    def close(self, code: int, by: str, cause: str, side: str) -> None:
        """Count the socket as gone: its close code, and who closed it (client, backend, proxy:CAUSE).

        `cause` and `side`, for the log: what a side sent that it was closed for, and which.
        """
        facts = self._facts
        facts.endpoint.sockets -= 1
        self.settle()
        seconds = asyncio.get_running_loop().time() - facts.opened
        facts.stats.ws_closed(facts.service, code, by, seconds)
        self._ended()
        if self._log.enabled:
            messages_in, bytes_in, messages_out, bytes_out = self._counted
            self._log.socket_close(
                facts.request,
                facts.stats.route_id,
                facts.service,
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
        return host_and_port(self._facts.endpoint.address, self._facts.endpoint.port)
