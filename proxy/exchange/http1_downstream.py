# Compiled by mypyc: see setup.py.
"""The client's side: one accepted connection, its requests in order, its deadlines.

`ServerConnection` is plain and synchronous: bytes in, calls out. One request is under way at a time; what the client pipelines
behind it waits in a bounded buffer while its connection is not read.

What came is in `buffer` from `at` on, and behind that in `_late`: what came while something was in `buffer`, or the beginning of a
head whose end is not here. So no byte is copied more than twice, however small the pieces are in which it comes.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable

from proxy.exchange.accounting import count_answer, no_endpoint, refusal
from proxy.exchange.http1_response import WRITE_STALL, HttpForwarding
from proxy.http.local_replies import BAD_REQUEST, GATEWAY, NO_CONTENT, TIMED_OUT, UNRESOLVED
from proxy.http.message import Answer, Client, Failure, Request
from proxy.http1.fields import NO_BODY, RequestFraming, read_request, without
from proxy.http1.head_scanner import MAX_FIELDS, MAX_HEAD, MAX_LINE, scan_request_line
from proxy.http1.partial_head import PartialHead, find_end
from proxy.http1.reference_parser import parse_request
from proxy.http1.render import render
from proxy.platform.socket_queues import reset, unsent
from proxy.runtime.routes import ActiveRoute
from proxy.runtime.state import Runtime
from proxy.shared_memory.counters import Reservation
from proxy.transport.lingering import Lingering
from proxy.transport.protocol_adapter import CLOSED_TRANSPORT, not_connected
from proxy.transport.timer_wheel import Deadline, nothing
from proxy.upstream.affinity import Affinity
from proxy.upstream.pool import EndpointPool, LiveUpstream

BUFFER_LIMIT = 64 * 1024
"""Bytes of pipelined requests that may wait."""
REQUESTS_PER_TURN = 16
"""Requests of one client that are begun before others have their turn: about 0.4 ms,"""
TURN_SECONDS = 0.002
"""and behind the first one for so long: some take a hundred times as long as others."""


class ServerConnection:
    """One client's connection."""

    __slots__ = (
        *("_busy", "_deferred", "_filtering", "_head", "_late", "_stalls", "_unsent"),
        *("_memo_facts", "_memo_fields", "_memo_forward", "_memo_lines", "_memo_read", "_memo_version"),
        *("at", "buffer", "client", "clogged", "closing", "deadline", "eof", "forwarding", "reservation"),
        *("lingering", "lost", "more", "paused", "runtime", "served", "transport", "unframed", "write"),
    )

    def __init__(self, runtime: Runtime, client: Client) -> None:
        self.runtime = runtime
        self.client = client
        self.transport: asyncio.Transport
        self.write = not_connected
        self.buffer = b""
        self.at = 0
        """Where in `buffer` that begins which was not read yet. When all was read, there is no buffer."""
        self._late: bytearray | None = None
        """What came behind `buffer`."""
        self._head: PartialHead | None = None
        """What `_late` begins with is a head whose end is not here."""
        self._deferred = False
        """Requests wait in the worker's queue for their turn."""
        self.forwarding: HttpForwarding | None = None
        self.reservation: Reservation | None = None
        """What the request under way counts for."""
        self.closing = False
        """The connection ends after the answer under way."""
        self.unframed = False
        """That answer lasts until the connection ends: cut by a FIN it would look whole (RFC 9112, 8)."""
        self.more = False
        """The client may send more than will be read: a body that is not waited for, or what follows what is no request."""
        self.lingering: Lingering | None = None
        self.lost = False
        self.eof = False
        """The client's FIN came: what came before it is all that there will be."""
        self.clogged = False
        """The client does not take what is written."""
        self.paused = False
        self.served = False
        """At least one request was answered."""
        self.deadline = Deadline(nothing)
        self._busy = False
        self._unsent = 0
        """Bytes that had not arrived when this was last looked at, at the end; and how often it did not get less."""
        self._stalls = 0
        self._filtering: asyncio.Task[None] | None = None
        self._memo_facts: RequestFraming | None = None
        """Of the last head: what its fields said, its bytes behind the request line, its lines, those that were read, its version,
        and what of it went to the backend."""
        self._memo_fields = b""
        self._memo_lines: list[bytes] = []
        self._memo_read: list[bytes] = []
        self._memo_version = 0
        self._memo_forward = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin: the first head must be here within the header timeout."""
        self.transport = transport
        self.write = transport.write
        # Not before: of a connection whose handshake fails, nobody would ever drop it.
        self.deadline.callback = self._expired
        self.runtime.connections.add(self)
        self.runtime.stats.connection_opened(self.client.listener)
        # The time of a TLS handshake counts (docs/wire.md, slow head).
        spent = self.runtime.loop.time() - self.client.accepted_at if self.client.accepted_at is not None else 0.0
        self.arm(max(0.1, self.runtime.settings.header_timeout - spent))
        if self.runtime.draining:
            self.closing = True

    def arm(self, seconds: float) -> None:
        """Let the deadline be `seconds` from now."""
        self.runtime.wheel.schedule(self.deadline, seconds)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        forwarding = self.forwarding
        if forwarding is not None and forwarding.wants_body:
            forwarding.body_data(data)
            return
        if self._late is not None:
            self._late += data
        elif self.buffer:
            self._late = bytearray(data)
        else:
            self.buffer, self.at = data, 0
        if forwarding is None and not self._busy and not self._deferred and self._filtering is None:
            self.proceed()
        if (self.buffer or self._late is not None) and self.waiting > BUFFER_LIMIT:
            self.pause()

    @property
    def waiting(self) -> int:
        """Bytes that came and were not read yet."""
        late = self._late
        return len(self.buffer) - self.at + (len(late) if late is not None else 0)

    def take_rest(self) -> bytes:
        """Take what came and was not read yet."""
        rest = self.buffer[self.at :]
        if self._late is not None:
            rest += self._late
        self._drop_rest()
        return rest

    def put_back(self, data: bytes, at: int) -> None:
        """Take back what follows the body of a request, `data` from `at` on; nothing waits meanwhile."""
        if at < len(data):
            self.buffer, self.at = data, at

    def _drop_rest(self) -> None:
        self.buffer, self.at, self._late, self._head = b"", 0, None, None

    def pause(self) -> None:
        """Stop reading the client."""
        if not self.paused and not self.lost:
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read the client again, unless there are requests enough that wait already."""
        if self.paused and not self.lost and self.waiting <= BUFFER_LIMIT:
            self.paused = False
            with contextlib.suppress(RuntimeError):
                self.transport.resume_reading()

    def proceed(self) -> None:
        """Begin the requests that are here, one after the other, until one has to wait or this client had its turn."""
        if self._deferred:
            return
        self._busy = True
        left, end = REQUESTS_PER_TURN, 0.0
        while (
            (self.buffer or self._late is not None)
            and not self.clogged
            and self.forwarding is None
            and self._filtering is None
            and not self.lost
            and not self.transport.is_closing()
        ):
            if left < REQUESTS_PER_TURN:  # one that comes alone costs no look at the clock
                now = time.monotonic()
                end = end or now + TURN_SECONDS
                if not left or now >= end:
                    self._deferred = True
                    self.runtime.run_queue.add(self._go_on)
                    break
            left -= 1
            if not self._next():
                break
        self._busy = False
        if self.eof and not self._unread_requests and self.forwarding is None and self._filtering is None:
            self._end()

    @property
    def _unread_requests(self) -> bool:
        """Requests are here that have to wait for their turn, or for the client to take the answers before them."""
        return self._deferred or (self.clogged and self.waiting > 0)

    def _go_on(self) -> None:
        """Begin what was left over in a turn before this one."""
        self._deferred = False
        if not self.lost:
            self.proceed()
            self.resume()

    def _next(self) -> bool:
        """Begin the first request that is here; False: its head is not whole yet."""
        if self._late is not None and not self._join():
            return False
        data, at = self.buffer, self.at
        if data[at : at + 1] in b"\r\n":
            # RFC 9112, 2.2: an empty line before a request is to be ignored; one CRLF is.
            if data.startswith(b"\r\n", at) and len(data) > at + 2 and not data.startswith(b"\r\n\r\n", at):
                at += 2
            elif len(data) - at <= 2 and b"\r\n".startswith(data[at:]):
                return self._wait()
        line_end = data.find(b"\r\n", at)
        memo = self._memo_fields
        # Clients repeat their fields byte for byte; what is remembered ends with the empty line.
        if memo and at < line_end <= at + MAX_LINE and data.startswith(memo, line_end):
            line = scan_request_line(data[at:line_end])
            facts = self._memo_facts
            if line is not None and facts is not None and line[2] == self._memo_version:
                end = line_end + len(memo)
                self.buffer, self.at = (data, end) if end < len(data) else (b"", 0)
                self._begin(line, self._memo_lines, facts, self._memo_forward)
                return True
        end = data.find(b"\r\n\r\n", max(at, line_end))
        if end < 0:
            self.at = at
            return self._wait()
        self.buffer, self.at = (data, end + 4) if end + 4 < len(data) else (b"", 0)
        if at:
            data, line_end, end = data[at : end + 4], line_end - at, end - at
        return self._read_head(data, line_end, end)

    def _join(self) -> bool:
        """Bring what came late to what it belongs to; False: that is a head whose end is still not here."""
        late, head = self._late, self._head
        assert late is not None  # noqa: S101  the caller looked
        if head is None:
            if self.buffer:
                if self.buffer.find(b"\r\n\r\n", self.at) >= 0:
                    return True  # a whole head comes first
                late[:0] = self.buffer[self.at :]
        elif find_end(late, head.seen) < 0:
            return self._judge(late, head)
        self.buffer, self.at, self._late, self._head = bytes(late), 0, None, None
        return True

    def _wait(self) -> bool:
        """Wait for the rest of a head that has begun."""
        late, head = bytearray(self.buffer[self.at :]), PartialHead()
        self.buffer, self.at, self._late, self._head = b"", 0, late, head
        return self._judge(late, head)

    def _judge(self, late: bytearray, head: PartialHead) -> bool:
        """Refuse a head that can become nothing any more; False always: it cannot be read yet."""
        wrong = head.look(late)
        if wrong is not None:
            self.refuse(wrong)
        elif self.served and self.deadline.at:
            self.served = False
            self.arm(self.runtime.settings.header_timeout)
        return False

    def _read_head(self, data: bytes, line_end: int, end: int) -> bool:
        """Read a head whose line ends at `line_end` and whose fields end at `end`; False: it is refused."""
        runtime = self.runtime
        line: tuple[str, str, int] | None = None
        lines = data[line_end + 2 : end].split(b"\r\n") if line_end < end else []
        kept: list[bytes] = []
        read: list[bytes] = []
        if end <= MAX_HEAD - 4 and line_end <= MAX_LINE and len(lines) <= MAX_FIELDS:
            line = scan_request_line(data[:line_end])
        if line is None or not runtime.request_lines.sort(lines, kept, read):
            judged = parse_request(data[: end + 4], runtime.loop)
            if isinstance(judged, Answer):
                self.refuse(judged, data)
                return False
            line, lines = judged[:3], judged[3]
            kept, read = [], []
            if not runtime.request_lines.sort(lines, kept, read):
                self.refuse(BAD_REQUEST, data)
                return False
        facts = self._memo_facts
        # What the fields say depends on the method only where it is judged as a handshake.
        if facts is None or read != self._memo_read or line[2] != self._memo_version or facts.attempt:
            found = read_request(read, line[0], line[2], self.client, trusts=runtime.trusts, forwarded=runtime.settings.forwarded)
            if isinstance(found, Answer):
                self.refuse(found, data)
                return False
            facts = self._memo_facts = found
            self._memo_read, self._memo_version = read, line[2]
        if facts.dropped:
            kept = without(kept, facts.dropped)
        kept.append(facts.added)
        forward = b"\r\n".join(kept)
        # Whether an attempt is well-formed depends on its method too.
        self._memo_fields = b"" if facts.attempt else data[line_end : end + 4]
        self._memo_lines, self._memo_forward = lines, forward
        self._begin(line, lines, facts, forward)
        return True

    def _begin(self, line: tuple[str, str, int], lines: list[bytes], facts: RequestFraming, forward: bytes) -> None:
        """Begin a request; `forward` is the part of its fields that goes to the backend."""
        runtime = self.runtime
        method, target, version = line
        request = Request(
            self.client, method, target, version, facts.host, facts.authority, lines, upgrade=facts.attempt and facts.wrong is None
        )
        request.address = facts.address
        request.id = facts.request_id or runtime.make_id()
        if not facts.keep_alive or (self.eof and not self.waiting):
            self.closing = True
        if facts.wrong is not None:
            self.answer(facts.wrong, request, None, body_follows=facts.length != NO_BODY)
            return
        if target == "*":
            self.answer(NO_CONTENT, request, None, body_follows=facts.length != NO_BODY)
            return
        decided = runtime.handle(request)
        self.reservation = request.reservation
        if isinstance(decided, Answer):
            self.answer(decided, request, None, body_follows=facts.length != NO_BODY)
            return
        route, verdict = decided
        if verdict is None:
            self._forward(request, route, facts, forward)
        elif isinstance(verdict, Answer):
            self.answer(verdict, request, route, body_follows=facts.length != NO_BODY)
        else:
            self._filtering = runtime.loop.create_task(self._filter(verdict, request, route, facts, forward))

    async def _filter(
        self, verdict: Awaitable[Answer | None], request: Request, route: ActiveRoute, facts: RequestFraming, forward: bytes
    ) -> None:
        answer = await verdict
        self._filtering = None
        if self.lost:
            return
        if answer is None:
            self._forward(request, route, facts, forward)
        else:
            self.answer(answer, request, route, body_follows=facts.length != NO_BODY)
        self.proceed()

    def _forward(self, request: Request, route: ActiveRoute, facts: RequestFraming, forward: bytes) -> None:
        target = route.websocket if request.upgrade else route.http
        if target is not None and target.affinity is not None:
            self._select(target.affinity, request, route, facts, forward)
            return
        upstream = target.pick() if target is not None else None
        if target is None or upstream is None:
            self.answer(UNRESOLVED, request, route, body_follows=facts.length != NO_BODY)
            return
        pool = (
            upstream.reserve(target.policy, route.sockets_per_endpoint, self._reserve(request))
            if request.upgrade
            else upstream.choose(target.policy)
        )
        if pool is None:
            self._without_endpoint(upstream, request, route, facts)
            return
        self._start(HttpForwarding(self, request, route, upstream, target.policy, facts, forward), pool, facts)

    def _select(self, affinity: Affinity, request: Request, route: ActiveRoute, facts: RequestFraming, forward: bytes) -> None:
        selection = affinity.select(request)
        if selection is None or isinstance(selection, Answer):
            self.answer(selection or UNRESOLVED, request, route, body_follows=facts.length != NO_BODY)
            return
        upstream = selection.upstream
        pool = selection.reserve(route.sockets_per_endpoint, self._reserve(request)) if request.upgrade else selection.pool
        if pool is None:
            self._without_endpoint(upstream, request, route, facts)
            return
        forward = affinity.forwarded_fields(request, forward)
        self._start(HttpForwarding(self, request, route, upstream, selection.policy, facts, forward, selection), pool, facts)

    def _without_endpoint(self, upstream: LiveUpstream, request: Request, route: ActiveRoute, facts: RequestFraming) -> None:
        refusal, failed = no_endpoint(upstream, request, self.runtime)
        self.answer(refusal, request, route, failed, body_follows=facts.length != NO_BODY)

    def _reserve(self, request: Request) -> Reservation:
        if self.reservation is None:
            self.reservation = request.reservation = Reservation(self.runtime.counters)
        return self.reservation

    def _start(self, forwarding: HttpForwarding, pool: EndpointPool, facts: RequestFraming) -> None:
        self.forwarding = forwarding
        if facts.length == NO_BODY:
            forwarding.start(pool, b"", 0)
        elif self._late is None:
            early, at = self.buffer, self.at
            self.buffer, self.at = b"", 0
            forwarding.start(pool, early, at)
        else:
            forwarding.start(pool, self.take_rest(), 0)

    def answer(
        self,
        answer: Answer,
        request: Request,
        route: ActiveRoute | None,
        failed: Failure | None = None,
        *,
        body_follows: bool = False,
    ) -> None:
        """Answer a request ourselves; `failed` where a backend should have."""
        if answer.close or body_follows:
            # A body that nobody reads would be taken for the next request.
            self.closing = self.more = True
        elif request.version < 11 or self.runtime.draining:
            self.closing = True
        data, size = render(answer, request, request_id=request.id, close=self.closing)
        self.write(data)
        count_answer(self.runtime, request, route, failed or Failure(answer.status, answer.cause, ""), size)
        self.finished()

    def refuse(self, answer: Answer, head: bytes = b"") -> None:
        """Answer what is no request, and end the connection. `head`: how it begins; else it is what was not read yet."""
        self.closing = self.more = True
        rest = self.take_rest()
        self.write(refusal(answer, head or rest, self.client, self.runtime))
        self._end()

    def finished(self) -> None:
        """Take note that the request under way is answered; go on with the next, or end."""
        self.forwarding = None
        self.served = True
        self._give_back()
        if self.closing or self.runtime.draining:
            self._end()
            return
        self.arm(self.runtime.settings.keepalive_timeout)
        self.resume()
        if not self._busy and (self.buffer or self._late is not None or self.eof):
            self.proceed()

    def _give_back(self) -> None:
        reservation, self.reservation = self.reservation, None
        if reservation is not None:
            reservation.release()

    def _end(self) -> None:
        """Close when what was written has arrived; a peer that does not take it is cut."""
        if self.lost or self.lingering is not None or self.transport.is_closing():
            return
        if (self.more or self.waiting) and not self.eof:
            self._drop_rest()
            self.runtime.wheel.cancel(self.deadline)
            self.lingering = Lingering(self.transport, self.runtime.wheel, self.runtime.close_wait, self.connection_lost, self._cut)
            self.transport, self.write = self.lingering.transport, CLOSED_TRANSPORT.write
            return
        self.transport.close()
        self._unsent, self._stalls = 1 << 62, 0
        self.arm(self.runtime.close_wait)

    def _linger(self) -> None:
        """Cut a connection that is closed already, unless its peer still takes what was written."""
        left = unsent(self.transport)
        self._stalls = self._stalls + 1 if left >= self._unsent else 0
        self._unsent = left
        if left and self._stalls * self.runtime.close_wait < WRITE_STALL:
            self.arm(self.runtime.close_wait)
        elif left:
            self._cut()
        else:
            self.transport.abort()

    def _cut(self) -> None:
        """End at once, and so that an answer that is not whole does not look whole."""
        reset(self.transport) if self.unframed else self.transport.abort()

    def _expired(self) -> None:
        if self.lost:
            return
        if self.transport.is_closing():
            self._linger()
        elif self.forwarding is not None:
            self.forwarding.expired()
        elif self.clogged:
            self._cut()
        elif self._filtering is not None:
            self._filtering.cancel()
            self.transport.abort()
        elif self.waiting:
            self.refuse(TIMED_OUT)
        else:
            self._end()

    def retire(self) -> None:
        """Let the next answer say that it is the last: a client that knows loses no request to a closed connection."""
        if self.forwarding is None or not self.forwarding.answering:
            self.closing = True

    def drain(self) -> None:
        """End when the request under way is answered; at once if there is none."""
        self.closing = True
        if self.forwarding is None and self._filtering is None and not self.waiting:
            self._end()

    def abort(self) -> None:
        """End at once."""
        if not self.lost:
            self._cut()

    def fail(self, failure: Failure, request: Request, route: ActiveRoute) -> None:
        """Answer a request that no backend answered."""
        self.forwarding = None
        self.answer(GATEWAY[failure.status], request, route, failure)
        if not self._busy:
            self.proceed()

    def release(self) -> None:
        """Let go of the connection: a tunnel has taken it."""
        self.runtime.wheel.cancel(self.deadline)
        self.forwarding = None
        self.reservation = None
        self.lost = True
        self.transport, self.write = CLOSED_TRANSPORT, CLOSED_TRANSPORT.write
        self.runtime.connections.discard(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the client is gone."""
        del exc
        self.lost = True
        self.runtime.wheel.cancel(self.deadline)
        self.runtime.connections.discard(self)
        self.runtime.stats.connection_closed(self.client.listener)
        if self._filtering is not None:
            self._filtering.cancel()
        if self.forwarding is not None:
            self.forwarding.client_lost()
            self.forwarding = None
        self._give_back()
        self.lingering = None
        self.transport, self.write = CLOSED_TRANSPORT, CLOSED_TRANSPORT.write

    def eof_received(self) -> bool:
        """Take the client's FIN: requests that came before it are still answered; over TLS, those of which none is under way."""
        self.eof = True
        forwarding = self.forwarding
        if forwarding is None and self._filtering is None:
            if self._unread_requests:
                return True
            self.closing = True
            return False
        if self.client.secure or (forwarding is not None and (forwarding.wants_body or forwarding.request.upgrade)):
            self.closing = True
            return False
        if not self.waiting:
            self.closing = True
        return True

    def pause_writing(self) -> None:
        """Stop reading the backend, and begin no further request: the client does not take its answers."""
        self.clogged = True
        if self.forwarding is not None:
            self.forwarding.client_full()
        elif not self.transport.is_closing():
            self.arm(WRITE_STALL)

    def resume_writing(self) -> None:
        """Go on."""
        self.clogged = False
        if self.forwarding is not None:
            self.forwarding.client_ready()
        elif self._filtering is None and not self.lost and not self.transport.is_closing():
            self.arm(self.runtime.settings.keepalive_timeout)
            self.resume()
            if not self._busy:
                self.proceed()
