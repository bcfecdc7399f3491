# Compiled by mypyc: see setup.py.
"""One request on its way to a backend, and the answer on its way back. The request's half is http1_request.py.

The common case is one write to a pooled connection and one write to the client. A connection returns to the pool only when
request and answer ended whole and nothing followed; otherwise it is closed.
"""

from typing import Final

from proxy.exchange.http1_request import BODY_GRACE, Downstream, RequestForwarding
from proxy.http.message import Failure, Request
from proxy.http1.chunked import LAST_CHUNK, ChunkDecoder, ChunkError, chunk
from proxy.http1.fields import RequestFraming, ResponseFraming, read_response, split_fields
from proxy.http1.head_scanner import MAX_FIELDS, MAX_HEAD, scan_status_line
from proxy.http1.partial_head import find_end
from proxy.http1.reference_parser import parse_response
from proxy.model.config import LoadBalancing
from proxy.runtime.routes import ActiveRoute
from proxy.upstream.affinity import Selection
from proxy.upstream.pool import LiveUpstream
from proxy.websocket.handshake import check_switch, extension_names
from proxy.websocket.tunnel import Tunnel

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
MAX_INTERIM = 16
"""1xx answers that one request may bring."""
WRITE_STALL = 60.0
"""Seconds that a client may leave an answer unread, and a backend a body (nginx: send_timeout, proxy_send_timeout)."""

CLIENT_CLOSED = 499
"""In the access log, where the client left before there was an answer (as nginx has it)."""

UNTIL_CLOSE: Final = 0
SIZED: Final = 1
DECHUNK: Final = 2
BODYLESS: Final = 3


class HttpForwarding(RequestForwarding):
    """One request and its answer."""

    __slots__ = (
        "_answer_bytes",
        "_answer_deferred",
        "_backend_paused",
        "_decoder",
        "_held",
        "_held_seen",
        "_interim",
        "_mode",
        "_remaining",
        "_response",
        "_retried",
        "_stalled",
    )

    def __init__(
        self,
        side: Downstream,
        request: Request,
        route: ActiveRoute,
        upstream: LiveUpstream,
        policy: LoadBalancing,
        facts: RequestFraming,
        forward: bytes,
        selection: Selection | None = None,
    ) -> None:
        super().__init__(side, request, route, upstream, policy, facts, forward, selection)
        self._retried = False
        self._held: bytearray | None = None
        """The beginning of a head whose end is not here."""
        self._held_seen = 0
        self._interim = 0
        self._response: ResponseFraming | None = None
        self._mode = BODYLESS
        self._remaining = 0
        self._decoder: ChunkDecoder | None = None
        self._answer_bytes = 0
        self._stalled = False
        self._answer_deferred = False
        """More of the answer is here and waits in the worker's queue for its turn."""
        self._backend_paused = False
        """The backend's connection is not read."""

    def answer_data(self, data: bytes) -> None:
        """Take bytes of the backend."""
        if self._response is not None:
            self._answer_body(data)
        elif self._held is None:
            self._answer_head(data)
        else:
            self._late_head(self._held, data)

    def _late_head(self, held: bytearray, data: bytes) -> None:
        held += data
        if find_end(held, self._held_seen) >= 0:
            self._held = None
            self._answer_head(bytes(held))
            return
        self._held_seen = len(held)
        if len(held) > MAX_HEAD:
            self._bad_answer("head_too_large")

    def _answer_head(self, data: bytes) -> None:
        connection = self._connection
        assert connection is not None  # noqa: S101  bytes come by a connection
        memo = connection.memo
        if memo is not None and data.startswith(connection.memo_head):
            self._begin_answer(memo, data[len(connection.memo_head) :])
            return
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._held, self._held_seen = bytearray(data), len(data)
            if len(data) > MAX_HEAD:
                self._bad_answer("head_too_large")
            return
        rest = data[end + 4 :]
        facts, regular = self._read_answer(data, end)
        if isinstance(facts, str):
            self._bad_answer(facts)
        elif facts.status < 200:
            self._interim_answer(facts, rest)
        else:
            if regular:
                connection.memo_head, connection.memo = data[: end + 4], facts
            self._begin_answer(facts, rest)

    def _read_answer(self, data: bytes, end: int) -> tuple[ResponseFraming | str, bool]:
        """Read the head that ends at `end`: what it says, or the cause why it says nothing; and whether it is strictly regular."""
        runtime = self._side.runtime
        line_end = data.find(b"\r\n")
        lines = data[line_end + 2 : end].split(b"\r\n") if line_end < end else []
        kept: list[bytes] = []
        read: list[bytes] = []
        line = scan_status_line(data[:line_end]) if end <= MAX_HEAD - 4 and len(lines) <= MAX_FIELDS else None
        if line is not None and runtime.response_lines.sort(lines, kept, read):
            return read_response(*line, kept, read) or "malformed_framing", True
        parsed = parse_response(data[: end + 4], runtime.loop)
        kept, read = [], []
        if parsed is None or not runtime.response_lines.sort(parsed[3], kept, read):
            return "head_too_large" if end > MAX_HEAD - 4 or len(lines) > MAX_FIELDS else "malformed_head", False
        return read_response(*parsed[:3], kept, read) or "malformed_framing", False

    def _interim_answer(self, facts: ResponseFraming, rest: bytes) -> None:
        self._interim += 1
        if facts.status == 101:
            if not self.request.upgrade:
                self._bad_answer("unexpected_switch")
            else:
                self._switch(facts, rest)
            return
        if self._interim > MAX_INTERIM or facts.length > 0 or facts.chunked or facts.codings:
            self._bad_answer("too_many_interim" if self._interim > MAX_INTERIM else "interim_body")
            return
        if self.request.version >= 11:
            self._side.write(facts.forward + b"\r\n")
        if rest:
            self._answer_head(rest)

    def _switch(self, facts: ResponseFraming, rest: bytes) -> None:
        request_fields, answer_fields = split_fields(self.request.lines), split_fields(facts.lines)
        connection, pool = self._connection, self._pool
        assert connection is not None  # noqa: S101  the 101 came by it
        assert pool is not None  # noqa: S101  as it has an endpoint
        wrong = check_switch(request_fields, answer_fields)
        if wrong is not None:
            self._bad_answer(wrong)
            return
        side = self._side
        now = side.runtime.loop.time()
        stats = self.route.stats
        stats.in_flight -= 1
        if now >= pool.outlier_detection.successes_from:
            pool.record_status(101, self.request.address)
        stats.ws_handshake(101, now - self._started)
        stats.first_byte(self._upstream.key, now - self._started)
        pool.in_flight -= 1
        self._connection = None
        connection.turn = None
        early, client = side.take_rest(), side.transport
        side.release()
        runtime, listener, service = side.runtime, side.client.listener, self._upstream.stats
        reservation = self.request.reservation

        def ended() -> None:
            if reservation is not None:
                reservation.release()
            runtime.stats.connection_closed(listener)
            service.connections -= 1

        tunnel = Tunnel(
            runtime,
            request=self.request,
            stats=stats,
            service=self._upstream.key,
            endpoint=pool,
            idle=self._timeouts.idle,
            opened=now,
            transports=(client, connection.transport),
            extensions=bool(extension_names(answer_fields)),
            ended=ended,
        )
        if self.route.message_limits is not None:
            tunnel.limit(self.route.message_limits)
        if self.route.keepalive is not None:
            tunnel.keep_alive(self.route.keepalive, stats)
        head = facts.forward
        if self._selection is not None:
            head += self._selection.answer_fields(101, head, pool)
        tunnel.start(head + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", early, rest)
        runtime.closer.opened(tunnel, self.route)

    def _begin_answer(self, facts: ResponseFraming, rest: bytes) -> None:
        request, side = self.request, self._side
        bodyless = request.method == "HEAD" or facts.status in (204, 304)
        pieces: list[bytes] = []
        if not bodyless and request.version < 11 and facts.codings:
            # Nothing of this endpoint's: its codings may go to no client of HTTP/1.0 (RFC 9112, 6.1), and are not undone here.
            self._fail(502, "unsupported_coding")
            return
        if facts.chunked and not bodyless:
            # Before anything is sent: what is broken from the start is still answered for.
            self._decoder = ChunkDecoder()
            try:
                pieces = self._decoder.feed(rest)
            except ChunkError:
                self._bad_answer("bad_chunk")
                return
        self._response = facts
        self._answer = True
        stats, pool = self.route.stats, self._pool
        now = side.runtime.loop.time()
        seconds = now - self._started
        stats.first_byte(self._upstream.key, seconds)
        # Now, since it may go on for hours. What becomes of its body says nothing either way: a client may be the cause.
        if pool is not None and (facts.status >= 500 or now >= pool.outlier_detection.successes_from):
            pool.record_status(facts.status, request.address)
        if self._policy == "ewma" and pool is not None and facts.status < 500 and not self._body_bytes:
            # A body's time is the client's. An error may come faster than any answer, and is health's business.
            pool.ewma.observe(seconds, side.runtime.wheel.now)
        if request.upgrade:
            stats.ws_handshake(facts.status)
        if self.wants_body or side.runtime.draining:
            # An early answer: the rest of the body is not waited for, and neither connection serves again.
            side.closing = True
        close_delimited = False
        if bodyless:
            self._mode = BODYLESS
        elif facts.chunked:
            self._mode = DECHUNK
            close_delimited = request.version < 11
        elif facts.length >= 0:
            self._mode = SIZED
            self._remaining = facts.length
        else:
            self._mode = UNTIL_CLOSE
            close_delimited = request.version < 11
        if close_delimited:
            side.closing = side.unframed = True
        head = facts.forward
        if self._selection is not None and pool is not None:
            head += self._selection.answer_fields(facts.status, head, pool)
        if self._mode in (DECHUNK, UNTIL_CLOSE) and not close_delimited:
            head += b"Transfer-Encoding: %bchunked\r\n" % facts.codings
        if side.closing:
            head += b"Connection: close\r\n\r\n"
        elif request.version < 11:
            head += b"Connection: keep-alive\r\n\r\n"
        else:
            head += b"\r\n"
        if not facts.chunked:
            side.arm(self._timeouts.idle) if self._timeouts.idle < self._timeouts.response else self._push()
        if self._mode == DECHUNK:
            self._put_pieces(pieces, head)
        else:
            self._answer_body(rest, head)

    def _push(self) -> None:
        self._side.deadline.at = self._side.runtime.wheel.now + self._timeouts.idle

    def _answer_body(self, data: bytes, head: bytes = b"") -> None:
        mode = self._mode
        if self._selection is not None and mode != DECHUNK:
            self._show(data)
        if mode == SIZED:
            size = len(data)
            if size < self._remaining:
                self._remaining -= size
                self._put(head + data if head else data, size)
                return
            clean = size == self._remaining
            if not clean:
                data = data[: self._remaining]
            self._put(head + data if head else data, len(data))
            self._answered(clean=clean)
        elif mode == BODYLESS:
            self._put(head, 0)
            self._answered(clean=not data)
        elif mode == UNTIL_CLOSE:
            self._put(head + self._encode(data), len(data))
        else:
            self._answer_chunks(data)

    def _show(self, data: bytes) -> None:
        """Let the body be looked at before it goes on: the client's next request may come to another worker at once."""
        if self._selection is not None and self._selection.expects_sid and data and self._pool is not None:
            self._selection.read_answer(data, self._pool)

    def _encode(self, data: bytes) -> bytes:
        return data if self.request.version < 11 or not data else chunk(data)

    def _answer_chunks(self, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None  # noqa: S101  made with the mode
        try:
            pieces = decoder.feed(data)
        except ChunkError:
            self._broken("bad_chunk")
            return
        self._put_pieces(pieces, b"")

    def _put_pieces(self, pieces: list[bytes], head: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None  # noqa: S101  it gave the pieces
        if self._selection is not None:
            self._show(b"".join(pieces))
        out = head + b"".join([self._encode(piece) for piece in pieces])
        size = sum(map(len, pieces))
        if decoder.done:
            self._put(out + LAST_CHUNK if self.request.version >= 11 else out, size)
            self._answered(clean=not decoder.rest)
            return
        self._put(out, size)
        if decoder.more:
            self._defer_answer()

    def _defer_answer(self) -> None:
        """Let others have their turn before more chunks are decoded."""
        if not self._answer_deferred:
            self._answer_deferred = True
            self._pause_backend()
            self._side.runtime.run_queue.add(self._go_on_with_answer)

    def _go_on_with_answer(self) -> None:
        self._answer_deferred = False
        if self._over or self._stalled:
            return  # `client_ready` goes on
        self._answer_chunks(b"")
        if not self._over and not self._answer_deferred:
            if self._connection is None:
                self._broken("truncated")  # it ended before the answer did
            elif not self._stalled:
                self._resume_backend()

    def _put(self, data: bytes, size: int) -> None:
        if data:
            self._answer_bytes += size
            self._side.write(data)
            if not self._stalled and self._mode != BODYLESS and self._response is not None:
                self._push()

    def _answered(self, *, clean: bool) -> None:
        """End: the answer is whole."""
        self._over = True
        connection = self._connection
        facts = self._response
        assert facts is not None  # noqa: S101  it was read
        self._connection = None
        whole = clean and not self.wants_body and facts.keep_alive and not self.request.upgrade and not self._login
        if connection is not None:
            if whole and connection.alive:
                connection.transport.resume_reading() if self._backend_paused else None
                connection.pool.release(connection)
            else:
                connection.turn = None
                connection.close()
        if self.wants_body or (self.request.upgrade and self._side.waiting):
            self._side.closing = self._side.more = True
            self.wants_body = False
        self._account(facts.status)
        self._side.finished()

    def _account(self, status: int, cause: str = "") -> None:
        runtime, request, stats = self._side.runtime, self.request, self.route.stats
        seconds = runtime.loop.time() - self._started
        stats.in_flight -= 1
        endpoint = self._pool.name if self._pool is not None else ""
        if cause:
            self._report(Failure(status, cause, self._upstream.key, endpoint, seconds))
        self._take_pool(None)
        stats.request_done(self._upstream.key, request.method, status, seconds, self._body_bytes, self._answer_bytes)
        if runtime.accesslog.enabled:
            runtime.accesslog.request(
                request, status, self._upstream.key, self._answer_bytes, seconds, self.route.id, endpoint, cause
            )

    def _report(self, failure: Failure) -> None:
        self._side.runtime.upstream_errors.record(self._upstream.stats, failure, self.request.id)

    # What goes wrong

    def upstream_lost(self, exc: Exception | None) -> None:
        """Act on the end of the backend's connection."""
        connection = self._connection
        self._connection = None
        if self._response is None:
            retry = (
                connection is not None
                and connection.reused
                and not self._retried
                and self._held is None
                and not self._interim
                and self._sent_all
                and self.request.method in IDEMPOTENT
            )
            if retry:
                self._retried = True
                self._dial(None)
            elif self._held is not None:
                self._bad_answer("truncated_head")
            else:
                self._bad_answer("closed_before_answer" if exc is None else "reset_before_answer")
        elif self._mode == UNTIL_CLOSE and exc is None:
            self._side.write(LAST_CHUNK if self.request.version >= 11 else b"")
            self._answered(clean=False)
        elif self._decoder is None or not self._decoder.more:
            self._broken("truncated")

    def _bad_answer(self, cause: str, status: int = 502) -> None:
        """Answer for a backend that answered badly or not at all, and hold it against the endpoint."""
        if self._pool is not None:
            self._pool.record_status(status, self.request.address)
            if status == 504 and self._policy == "ewma":
                runtime = self._side.runtime
                self._pool.ewma.observe(runtime.loop.time() - self._started, runtime.wheel.now)
        self._fail(status, cause)

    def _broken(self, cause: str) -> None:
        """Abort the client: an answer that is not whole must not look whole."""
        self._over = True
        self._drop()
        self._account(self._response.status if self._response is not None else 502, cause)
        self._side.abort()

    def _fail(self, status: int, cause: str, endpoint: str = "") -> None:
        """Answer for the backend, of which nothing was passed on yet. `endpoint`: where it is another than the present one."""
        self._over = True
        self._drop()
        self.route.stats.in_flight -= 1
        if not endpoint and self._pool is not None:
            endpoint = self._pool.name
        self._take_pool(None)
        failure = Failure(status, cause, self._upstream.key, endpoint, self._side.runtime.loop.time() - self._started)
        self._report(failure)
        if self.wants_body:
            self._side.closing = self._side.more = True
        self._side.fail(failure, self.request, self.route)

    def _drop(self) -> None:
        connection = self._connection
        self._connection = None
        if connection is not None:
            connection.turn = None
            connection.close()
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None

    def client_lost(self) -> None:
        """End: nobody waits for the answer any more. The request is logged all the same: the backend may have it, with its id."""
        if not self._over:
            self._over = True
            self._drop()
            self.route.stats.in_flight -= 1
            endpoint = self._pool.name if self._pool is not None else ""
            self._take_pool(None)
            runtime = self._side.runtime
            if runtime.accesslog.enabled:
                status = self._response.status if self._response is not None else CLIENT_CLOSED
                seconds = runtime.loop.time() - self._started
                runtime.accesslog.request(
                    self.request, status, self._upstream.key, self._answer_bytes, seconds, self.route.id, endpoint, self._end_cause
                )

    def expired(self) -> None:
        """Act on the deadline: which one it was, the state tells."""
        side = self._side
        if self._stalled or self._answer:
            self._broken("client_stalled" if self._stalled else "idle_timeout")
        elif self._dialling is not None:
            side.arm(1.0)  # it has a deadline of its own, and counts what comes of each attempt
        elif self.wants_body:
            rate = side.runtime.settings.min_body_rate
            now = side.runtime.loop.time()
            elapsed = now - self._started - self._waited
            if self._blocked:
                if now - self._blocked >= WRITE_STALL:
                    self._bad_answer("body_not_taken", 504)
                else:
                    side.arm(1.0)
            elif elapsed >= BODY_GRACE and self._body_bytes < rate * elapsed:
                self._over = True
                self._drop()
                self._account(408, "body_too_slow")
                side.abort()
            else:
                side.arm(1.0)
        else:
            self._bad_answer("handshake_timeout" if self.request.upgrade else "answer_timeout", 504)

    # Backpressure

    def client_full(self) -> None:
        """Stop reading the backend: the client does not take its answer."""
        if self._connection is not None or self._answer_deferred:
            self._stalled = True
            self._pause_backend()
            self._side.arm(WRITE_STALL)

    def client_ready(self) -> None:
        """Read the backend again."""
        self._stalled = False
        if self._decoder is not None and self._decoder.more:
            self._defer_answer()
        else:
            self._resume_backend()
        self._push()

    def _pause_backend(self) -> None:
        self._backend_paused = True
        if self._connection is not None:
            self._connection.transport.pause_reading()

    def _resume_backend(self) -> None:
        self._backend_paused = False
        if self._connection is not None:
            self._connection.transport.resume_reading()
