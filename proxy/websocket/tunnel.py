"""A WebSocket after its 101: two legs, each scanning the frames that it receives and writing them, unchanged, to the other.

A tunnel is open; or broken, when one side sent a malformed header and the other may still finish what it was saying; or closing,
when our close frame is on its way to both sides, each at the end of the frame that was under way there. After our close frame
nothing more goes in that direction; the peers' answers are swallowed; whoever does not answer within --close-wait is cut.

The asyncio protocol is a thin shell: its `data_received` is the leg's bound method, set before the transport looks it up.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from proxy.accesslog import AccessLog
from proxy.deadlines import Deadline, Wheel
from proxy.exchange import Request
from proxy.metrics import RouteStats
from proxy.websocket.closing import close_frame
from proxy.websocket.frames import ABNORMAL, FrameScanner

OPEN, BROKEN, CLOSING = 0, 1, 2
BUFFER_HIGH = 64 * 1024
"""Bytes that may wait to be written to one leg before the other is no longer read."""
BROKEN_DRAIN = 1.0
"""Seconds that the innocent direction has after the other one broke (spec/wire.md)."""


class TunnelHost(Protocol):
    """What a tunnel needs of its worker."""

    wheel: Wheel
    accesslog: AccessLog
    tunnels: "set[Tunnel]"
    touched: "list[Tunnel]"
    """Tunnels whose counts are not in the metrics yet."""
    close_wait: float


class TunnelEndpoint(Protocol):
    """The endpoint that a tunnel leads to."""

    address: str
    port: int
    sockets: int


class Leg:
    """One side of a tunnel: what comes from it is scanned and written to the other."""

    __slots__ = ("eof", "lost", "name", "other", "plain", "scanner", "stopped", "transport", "tunnel", "write")

    def __init__(self, tunnel: "Tunnel", name: str, transport: asyncio.Transport, scanner: FrameScanner) -> None:
        self.tunnel = tunnel
        self.name = name
        """client or backend."""
        self.transport = transport
        self.write: Callable[[bytes], None] = transport.write
        self.plain = transport.get_extra_info("ssl_object") is None
        self.scanner = scanner
        self.other = self
        self.stopped = False
        """Nothing of what this side sends is forwarded any more."""
        self.eof = False
        self.lost = False

    def received(self, data: bytes) -> None:
        """Forward what this side sent."""
        tunnel = self.tunnel
        if tunnel.phase:
            self._received_while_ending(data)
            return
        scanner = self.scanner
        good = scanner.scan(data)
        tunnel.idle.at = tunnel.wheel.now + tunnel.idle_seconds
        if tunnel.settled:
            tunnel.settled = False
            tunnel.touched.append(tunnel)
        if good:
            self.other.write(good)
        if scanner.attention:
            tunnel.look(self)

    def _received_while_ending(self, data: bytes) -> None:
        scanner = self.scanner
        if scanner.error:
            return
        if self.tunnel.phase == BROKEN:
            if good := scanner.scan(data):
                self.other.write(good)
        elif self.stopped:
            scanner.scan(data)
        else:
            if good := scanner.scan_to_boundary(data):
                self.other.write(good)
            self.tunnel.insert_close(self)
            rest, scanner.rest = scanner.rest, b""
            if rest:
                scanner.scan(rest)
        self.tunnel.look(self)


class LegProtocol(asyncio.Protocol):
    """The shell of a leg, as asyncio wants it."""

    __slots__ = ("data_received", "leg")

    def __init__(self, leg: Leg) -> None:
        self.leg = leg
        self.data_received = leg.received  # type: ignore[method-assign]

    def eof_received(self) -> bool:
        """Pass a FIN on; keep a plain connection open for the other direction."""
        return self.leg.tunnel.ended(self.leg)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side too."""
        del exc
        self.leg.tunnel.lost(self.leg)

    def pause_writing(self) -> None:
        """Stop reading the other side while this one does not take its bytes."""
        other = self.leg.other
        if not other.lost:
            other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read the other side again."""
        other = self.leg.other
        if not other.lost:
            with contextlib.suppress(RuntimeError):
                other.transport.resume_reading()


class Tunnel:
    """One open WebSocket."""

    __slots__ = (
        "_by",
        "_code",
        "_frames",
        "backend",
        "client",
        "counted",
        "cut",
        "ended_hook",
        "endpoint",
        "host",
        "idle",
        "idle_seconds",
        "opened",
        "phase",
        "request",
        "route_id",
        "service",
        "settled",
        "stats",
        "touched",
        "wheel",
    )

    def __init__(
        self,
        host: TunnelHost,
        *,
        request: Request,
        stats: RouteStats,
        service: str,
        endpoint: TunnelEndpoint,
        idle: float,
        opened: float,
        transports: tuple[asyncio.Transport, asyncio.Transport],
        extensions: bool,
        ended: Callable[[], None],
    ) -> None:
        self.ended_hook = ended
        """Called once when both connections are gone."""
        self.host = host
        self.wheel = host.wheel
        self.touched = host.touched
        self.request = request
        self.stats = stats
        self.route_id = stats.route_id
        self.service = service
        self.endpoint = endpoint
        self.opened = opened
        """Loop time of the 101."""
        self.phase = OPEN
        self.settled = True
        """All counts are in the metrics."""
        self.counted = (0, 0, 0, 0)
        self.idle_seconds = idle
        self.idle = Deadline(self._idle)
        self.cut = Deadline(self._cut)
        self._code = 0
        self._by = ""
        self._frames: tuple[bytes, bytes] = (b"", b"")
        self.client = Leg(self, "client", transports[0], FrameScanner(masked=True, extensions=extensions))
        self.backend = Leg(self, "backend", transports[1], FrameScanner(masked=False, extensions=extensions))
        self.client.other, self.backend.other = self.backend, self.client

    def start(self, head: bytes, client_tail: bytes, backend_tail: bytes) -> None:
        """Take both connections over: send the 101 and what the backend sent behind it, then what the client sent early."""
        host = self.host
        host.tunnels.add(self)
        self.endpoint.sockets += 1
        self.stats.ws_opened(self.service)
        if host.accesslog.enabled:
            host.accesslog.socket_open(self.request, self.route_id, self.service, self._endpoint_name())
        self.wheel.file(self.idle, self.idle_seconds)
        for leg in (self.client, self.backend):
            leg.transport.set_write_buffer_limits(high=BUFFER_HIGH)
            leg.transport.set_protocol(LegProtocol(leg))
        good = self.backend.scanner.scan(backend_tail) if backend_tail else b""
        self.client.write(head + good)
        for leg in (self.client, self.backend):
            with contextlib.suppress(RuntimeError):
                leg.transport.resume_reading()
        if backend_tail:
            self._touch()
            self.look(self.backend)
        if client_tail:
            self.client.received(client_tail)

    def _touch(self) -> None:
        if self.settled:
            self.settled = False
            self.touched.append(self)

    def settle(self) -> None:
        """Add what was counted since the last time to the route's metrics."""
        messages_in, bytes_in, messages_out, bytes_out = self.counted
        client, backend, stats = self.client.scanner, self.backend.scanner, self.stats
        stats.ws_messages_in += client.messages - messages_in
        stats.ws_bytes_in += client.payload_bytes - bytes_in
        stats.ws_messages_out += backend.messages - messages_out
        stats.ws_bytes_out += backend.payload_bytes - bytes_out
        self.counted = (client.messages, client.payload_bytes, backend.messages, backend.payload_bytes)
        self.settled = True

    def look(self, leg: Leg) -> None:
        """Act on a close frame or a malformed header that `leg` sent."""
        scanner = leg.scanner
        if scanner.close_seen and not self._by:
            self._code, self._by = scanner.close_code, leg.name
        if scanner.error and self.phase == OPEN:
            self._break(leg)
        elif self.phase == BROKEN and (scanner.close_seen or scanner.error) and not leg.stopped:
            self._begin_closing()
        if self.client.scanner.close_seen and self.backend.scanner.close_seen and not self.cut.at:
            self.wheel.file(self.cut, self.host.close_wait)
        self._close_if_answered()

    def _break(self, leg: Leg) -> None:
        self.phase = BROKEN
        leg.stopped = True
        if not self._by:
            self._code, self._by = 1002, "proxy:protocol_error"
        towards_client, towards_backend = (1002, 1001) if leg is self.client else (1001, 1002)
        self._frames = (close_frame(towards_client, masked=False), close_frame(towards_backend, masked=True))
        if leg.other.scanner.close_seen:
            self._begin_closing()
        else:
            self.wheel.file(self.cut, BROKEN_DRAIN)

    def close(self, code: int, reason: bytes, cause: str) -> None:
        """Send a close frame to both sides, each at the next frame boundary, and end the connections when they answered."""
        if self.phase != OPEN:
            return
        if not self._by:
            self._code, self._by = code, f"proxy:{cause}"
        self._frames = (close_frame(code, reason, masked=False), close_frame(code, reason, masked=True))
        self._begin_closing()

    def _begin_closing(self) -> None:
        self.phase = CLOSING
        self.wheel.file(self.cut, self.host.close_wait)
        for leg in (self.client, self.backend):
            leg.stopped = False
            self.insert_close(leg)
            # A peer that is not read because the other one is slow could never answer.
            if not leg.lost:
                with contextlib.suppress(RuntimeError):
                    leg.transport.resume_reading()
        self._close_if_answered()

    def insert_close(self, leg: Leg) -> None:
        """Put our close frame behind what `leg` sent, if its current frame is whole."""
        if leg.stopped or not (leg.scanner.at_boundary or leg.scanner.error):
            return
        leg.stopped = True
        if not leg.scanner.close_seen and not leg.other.lost and not leg.eof:
            leg.other.write(self._frames[1] if leg is self.client else self._frames[0])

    def _close_if_answered(self) -> None:
        if self.phase != CLOSING:
            return
        if all(leg.scanner.close_seen or leg.scanner.error or leg.lost for leg in (self.client, self.backend)) and all(
            leg.stopped or leg.lost for leg in (self.client, self.backend)
        ):
            self._close_transports()

    def _close_transports(self) -> None:
        for leg in (self.client, self.backend):
            if not leg.lost:
                leg.transport.close()

    def _idle(self) -> None:
        self.close(1001, b"", "idle")

    def _cut(self) -> None:
        if self.phase == BROKEN:
            self._begin_closing()
            return
        for leg in (self.client, self.backend):
            if not leg.lost:
                # What is written goes out if the peer takes it at once; a second time there is no waiting.
                if leg.transport.is_closing() or leg.transport.get_write_buffer_size():
                    leg.transport.abort()
                else:
                    leg.transport.close()
        self.wheel.file(self.cut, self.host.close_wait)

    def ended(self, leg: Leg) -> bool:
        """Pass on the FIN of `leg`; say whether its connection stays open for the other direction."""
        leg.eof = True
        other = leg.other
        if self.phase == OPEN and self.client.plain and self.backend.plain and not other.lost and not other.eof:
            if not self._by:
                self._note_loss(leg)
            with contextlib.suppress(OSError, RuntimeError):
                other.transport.write_eof()
            return True
        return False

    def _note_loss(self, leg: Leg) -> None:
        self._code, self._by = ABNORMAL, leg.name

    def lost(self, leg: Leg) -> None:
        """Take note that the connection of `leg` is gone; end the other one, and the tunnel when both are gone."""
        leg.lost = True
        if not self._by:
            self._note_loss(leg)
        if not leg.other.lost:
            leg.other.transport.close()
            if not self.cut.at:
                self.wheel.file(self.cut, self.host.close_wait)
            return
        self._finish()

    def _finish(self) -> None:
        self.idle.at = self.cut.at = 0.0
        self.host.tunnels.discard(self)
        self.endpoint.sockets -= 1
        self.settle()
        seconds = asyncio.get_running_loop().time() - self.opened
        self.stats.ws_closed(self.service, self._code, self._by, seconds)
        self.ended_hook()
        log = self.host.accesslog
        if log.enabled:
            messages_in, bytes_in, messages_out, bytes_out = self.counted
            log.socket_close(
                self.request,
                self.route_id,
                self.service,
                self._endpoint_name(),
                code=self._code,
                by=self._by,
                seconds=seconds,
                messages_in=messages_in,
                messages_out=messages_out,
                bytes_in=bytes_in,
                bytes_out=bytes_out,
            )

    def _endpoint_name(self) -> str:
        return f"{self.endpoint.address}:{self.endpoint.port}"
