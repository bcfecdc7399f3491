# Compiled by mypyc: see setup.py.
"""A WebSocket after its 101: two sides, each scanning the frames that it receives and writing them, unchanged, to the other.

A tunnel is open; or broken, when one side sent a malformed header: the other has our close frame and may still finish what it was
saying, up to its answer; or closing, when our close frame is on its way to both sides, each at the end of the frame that was under
way there. After our close frame nothing more goes in that direction; the peers' answers are swallowed; a side that does not answer
within --close-wait is cut. No answer is awaited of a side that sent a malformed header (RFC 6455, 7.1.7). A connection that is lost
while the tunnel is open ends the other one, when what is still to be written there is written.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol

from proxy.http.message import Request
from proxy.model.policy import Keepalive, MessageLimits
from proxy.observability.access_log import AccessLog
from proxy.observability.worker_stats import RouteStats
from proxy.platform.socket_queues import unsent
from proxy.transport.lingering import Lingering
from proxy.transport.protocol_adapter import CLOSED_TRANSPORT
from proxy.transport.run_queue import RunQueue
from proxy.transport.timer_wheel import Deadline, TimerWheel
from proxy.websocket.closer import SocketEntry
from proxy.websocket.control_frames import close_frame
from proxy.websocket.frames import ABNORMAL, TOO_BIG, FrameScanner
from proxy.websocket.message_rate import MessageRate
from proxy.websocket.pings import Pinger
from proxy.websocket.side import BROKEN, CLOSING, OPEN, Side, SideOwner
from proxy.websocket.socket_stats import SocketInfo, SocketStats, TunnelEndpoint

BROKEN_DRAIN = 0.25
"""Seconds that a side has to finish its message after the other one broke the protocol; none if no message is under way."""


class TunnelHost(Protocol):
    """The worker, as far as a tunnel needs it."""

    wheel: TimerWheel
    accesslog: AccessLog
    tunnels: "set[Tunnel]"
    run_queue: RunQueue
    unflushed: "list[Tunnel]"
    """Tunnels whose counts are not in the metrics yet."""
    close_wait: float


class Tunnel(SideOwner):
    """One open WebSocket."""

    __slots__ = (
        "_cause",
        "_close_frames",
        "_closed_by",
        "_code",
        "_failed_side",
        "backend",
        "client",
        "close_deadline",
        "endpoint",
        "entry",
        "host",
        "idle_deadline",
        "idle_timeout",
        "stats",
        "unsent",
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
        super().__init__(host.wheel, host.run_queue, opened)
        self.host = host
        self.endpoint = endpoint
        self.entry: SocketEntry | None = None
        """The closer's record of it."""
        self.idle_timeout = idle
        self.idle_deadline = Deadline(self._idle_timed_out)
        self.close_deadline = Deadline(self._close_timed_out)
        self.unsent = 1 << 62
        """Bytes that were not written yet when the end was last due."""
        self._code = 0
        self._closed_by = ""
        self._cause = ""
        """Name (causes.py) of the fault that a side was closed for; empty: there was none."""
        self._failed_side = ""
        """Which side: client or backend."""
        self._close_frames: tuple[bytes, bytes] = (b"", b"")
        self.client = Side(self, "client", transports[0], FrameScanner(masked=True, extensions=extensions))
        self.backend = Side(self, "backend", transports[1], FrameScanner(masked=False, extensions=extensions))
        self.client.other, self.backend.other = self.backend, self.client
        self.stats = SocketStats(
            SocketInfo(request, stats, service, endpoint, opened), host.accesslog, self.client.scanner, self.backend.scanner, ended
        )
        """`ended` is called once when both connections are gone."""

    def limit(self, limits: MessageLimits) -> None:
        """Limit messages; before `start`. The size of both sides' ones, and how often the client sends them."""
        rate = MessageRate(limits.rate, limits.burst, time.monotonic) if limits.rate else None
        self.client.scanner.limit(limits.size, rate)
        self.backend.scanner.limit(limits.size, None)

    def keep_alive(self, policy: Keepalive, stats: RouteStats) -> None:
        """Ping; before `start`."""
        # Not the loop's clock: uvloop's counts milliseconds, and stands still within a turn.
        for side in (self.client, self.backend):
            side.scanner.track_pings = True
            if policy.to in (side.name, "both"):
                side.pinger = Pinger(
                    side,
                    policy,
                    masked=side is self.backend,
                    wheel=self.wheel,
                    clock=time.monotonic,
                    stats=stats,
                    on_timeout=self._ping_timed_out,
                )

    def start(self, head: bytes, client_tail: bytes, backend_tail: bytes) -> None:
        """Take both connections over: send the 101 and what the backend sent behind it, then what the client sent early."""
        self.host.tunnels.add(self)
        self.stats.open()
        if not self.host.accesslog.enabled:
            self.stats.forget_fields()
        self.wheel.schedule(self.idle_deadline, self.idle_timeout)
        for side in (self.client, self.backend):
            if side.pinger is not None:
                side.pinger.start()
        self.client.take_over()
        self.backend.take_over()
        good = self.backend.scanner.scan(backend_tail) if backend_tail else b""
        self.client.write(head + good)
        for side in (self.client, self.backend):
            if not side.read_paused:
                side.resume()
        if backend_tail:
            self.mark_unflushed()
            self.handle_attention(self.backend)
        if client_tail:
            self.client.data_received(client_tail)

    def mark_unflushed(self) -> None:
        """Have the counts brought into the metrics at the next flush."""
        if self.flushed:
            self.flushed = False
            self.host.unflushed.append(self)

    def flush_stats(self) -> None:
        """Add what was counted since the last time to the route's metrics."""
        self.stats.flush_stats()
        self.flushed = True

    def handle_attention(self, side: Side) -> None:
        """Act on what `side` sent: a close frame, a malformed header, a message that a limit forbids, a ping or a pong."""
        scanner = side.scanner
        if scanner.close_seen and not self._closed_by:
            self._code, self._closed_by = scanner.close_code, side.name
        if self.phase == OPEN:
            self._notify_pingers(side)
            if scanner.error:
                self._fail_protocol(side)
            elif scanner.violation_code:
                self._close_over_limit(side)
            elif not scanner.close_seen:
                scanner.clear_attention()
                return
        elif self.phase == BROKEN and (scanner.close_seen or scanner.error or scanner.violation_code) and not side.stopped:
            self._begin_closing()
        if self.client.scanner.close_seen and self.backend.scanner.close_seen and not self.close_deadline.at:
            self.wheel.schedule(self.close_deadline, self.host.close_wait)
        self._close_if_answered()

    def _fail_protocol(self, side: Side) -> None:
        self.phase = BROKEN
        self._cause, self._failed_side = side.scanner.error, side.name
        if not self._closed_by:
            self._code, self._closed_by = 1002, "proxy:protocol_error"
        towards_client, towards_backend = (1002, 1001) if side is self.client else (1001, 1002)
        self._close_frames = (close_frame(towards_client, masked=False), close_frame(towards_backend, masked=True))
        other = side.other
        self.insert_close(side)
        # Its answer tells that nothing more comes; who broke the protocol gets our code instead of it, unless it has one already.
        other.scanner.withhold_close = not other.scanner.close_seen
        now = self.wheel.now
        quiet = other.scanner.between_messages and all(
            now - each_side.last_heard > BROKEN_DRAIN or each_side.last_heard == self.opened for each_side in (side, other)
        )
        if other.answered or quiet:
            self._begin_closing()
        else:
            self.wheel.schedule(self.close_deadline, BROKEN_DRAIN)

    def _close_over_limit(self, side: Side) -> None:
        """Close over a message of `side` that a limit forbids."""
        code = side.scanner.violation_code
        self._cause, self._failed_side = "message_too_large" if code == TOO_BIG else "too_many_messages", side.name
        if not self._closed_by:
            self._code, self._closed_by = code, "proxy:limit"
        towards_client, towards_backend = (code, 1001) if side is self.client else (1001, code)
        self._close_frames = (close_frame(towards_client, masked=False), close_frame(towards_backend, masked=True))
        self._begin_closing()

    def _notify_pingers(self, side: Side) -> None:
        scanner, asking = side.scanner, side.other.pinger
        if side.pinger is not None:
            side.pinger.pong_received(scanner.pong_number, pong=scanner.pong_seen)
        if asking is not None:
            if scanner.ping_seen:
                asking.application_pinged()
            if not scanner.frame_to_insert:
                asking.ping_inserted()
        scanner.pong_number, scanner.ping_seen, scanner.pong_seen = 0, False, False

    def _ping_timed_out(self) -> None:
        self.close(1001, b"", "ping_timeout")

    def close(self, code: int, reason: bytes, cause: str) -> None:
        """Send a close frame to both sides, each at the next frame boundary, and end the connections when they answered."""
        if self.phase != OPEN:
            return
        if not self._closed_by:
            self._code, self._closed_by = code, f"proxy:{cause}"
        self._close_frames = (close_frame(code, reason, masked=False), close_frame(code, reason, masked=True))
        self._begin_closing()

    def _begin_closing(self) -> None:
        self.phase = CLOSING
        self.wheel.schedule(self.close_deadline, self.host.close_wait)
        for side in (self.client, self.backend):
            if not side.other.close_sent:
                side.stopped = False
                self.insert_close(side)
                side.scan_pending()
        self._close_if_answered()

    def insert_close(self, side: Side) -> None:
        """Put our close frame behind what `side` sent, if its current frame is whole."""
        if side.stopped:
            return
        if side.eof_forwarded or side.other.lost:
            side.stop()
        elif side.scanner.at_boundary:
            side.stop()
            side.other.close_sent = True
            if not side.scanner.close_seen or side.scanner.withhold_close:
                side.other.write(self._close_frames[1] if side is self.client else self._close_frames[0])
            if side.other.scanner.error:
                self._end(side.other)
        elif side.eof or side.lost:
            side.stop()  # its last frame will never be whole

    def _close_if_answered(self) -> None:
        if self.phase != CLOSING:
            return
        sides = (self.client, self.backend)
        if all(side.stopped and (side.answered or not side.close_sent) for side in sides):
            for side in sides:
                self._end(side)

    def _end(self, side: Side) -> None:
        """End a connection behind our close frame; who broke the protocol may go on sending, and must not lose it to a reset."""
        if side.lost or side.lingering:
            return
        if side.scanner.error:
            side.lingering = True
            side.transport = Lingering(side.transport, self.wheel, self.host.close_wait, side.connection_lost).transport
            side.write = CLOSED_TRANSPORT.write
        else:
            side.transport.close()

    def _idle_timed_out(self) -> None:
        left = max(self.client.last_heard, self.backend.last_heard) + self.idle_timeout - self.wheel.now
        if left > 0:
            self.wheel.schedule(self.idle_deadline, left)
        else:
            self.close(1001, b"", "idle")

    def _close_timed_out(self) -> None:
        if self.phase == BROKEN:
            self._begin_closing()
            return
        sides = (self.client, self.backend)
        left = sum([unsent(side.transport) for side in sides if not side.lost])
        if self.phase == OPEN and 0 < left < self.unsent:
            # A slow peer that still takes what the other one said at last.
            self.unsent = left
            self.wheel.schedule(self.close_deadline, self.host.close_wait)
            return
        if self.phase == CLOSING and not all(side.answered for side in sides if side.close_sent):
            self.stats.count_unanswered()
        for side in sides:
            if not side.lost and not side.lingering:
                # What is written goes out if the peer takes it at once; a second time there is no waiting.
                if side.transport.is_closing() or side.transport.get_write_buffer_size():
                    side.transport.abort()
                else:
                    side.transport.close()
        self.wheel.schedule(self.close_deadline, self.host.close_wait)

    def side_ended(self, side: Side) -> bool:
        """Pass on the FIN of `side`; say whether its connection stays open for the other direction."""
        side.eof = True
        other = side.other
        if self.phase == OPEN:
            if not (self.client.plain and self.backend.plain) or other.lost or other.eof:
                return False
            self._record_abnormal_end(side)
            side.eof_forwarded = True
            with contextlib.suppress(OSError, RuntimeError):
                other.transport.write_eof()
            return True
        self._continue_closing(side)
        return side.plain

    def _continue_closing(self, side: Side) -> None:
        if self.phase == BROKEN:
            if not side.scanner.error or side.lost:
                self._begin_closing()
        else:
            self.insert_close(side)
            self.insert_close(side.other)
            self._close_if_answered()

    def _record_abnormal_end(self, side: Side) -> None:
        if not self._closed_by:
            self._code, self._closed_by = ABNORMAL, side.name

    def side_lost(self, side: Side) -> None:
        """End the other side of one whose connection is gone, and the tunnel when both are gone."""
        side.lost = True
        side.transport, side.write = CLOSED_TRANSPORT, CLOSED_TRANSPORT.write
        self._record_abnormal_end(side)
        other = side.other
        if other.lost:
            self._finish()
            return
        if self.phase == OPEN:
            other.transport.close()
            if not self.close_deadline.at:
                self.wheel.schedule(self.close_deadline, self.host.close_wait)
            return
        self._continue_closing(side)

    def _finish(self) -> None:
        self.wheel.cancel(self.idle_deadline)
        self.wheel.cancel(self.close_deadline)
        self.host.tunnels.discard(self)
        if self.entry is not None:
            self.entry.end(self.wheel)
            self.entry = None
        self.stats.close(self._code, self._closed_by, self._cause, self._failed_side)
        # Without this a tunnel that ended would stay until a full collection, and for ever if it was frozen before that.
        for side in (self.client, self.backend):
            if side.pinger is not None:
                side.pinger.end()
                side.pinger = None
            del side.tunnel, side.other
