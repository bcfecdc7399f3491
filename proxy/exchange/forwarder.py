# Compiled by mypyc: see setup.py.
"""One request on its way to an endpoint, and the answer on its way back: endpoint, retry, deadlines, backpressure, accounting.

No version of HTTP is in here: the two sides are codecs (contract.py). Its states and deadlines are explained in states.py. The
common case is one write to a pooled connection and one write to the client. Synchronous but for dialling.

It is one machine, and so one long module: each event may meet each state.
"""

import asyncio

from proxy.exchange import states
from proxy.exchange.accounting import CLIENT_CLOSED, log_abandoned, record_upstream_error
from proxy.exchange.answer_filters import FilteredAnswer
from proxy.exchange.contract import NO_BODY_LENGTH, NO_PIECES, DownstreamCodec, UpstreamCodec
from proxy.exchange.early_body import EarlyBody
from proxy.exchange.upgrade import open_tunnel, refuse_switch
from proxy.exchange.upstream_codec import open_upstream
from proxy.http.message import UNKNOWN_LENGTH, Failure, Request, ResponseHead
from proxy.model.config import LoadBalancing
from proxy.runtime.routes import ActiveRoute
from proxy.runtime.state import Runtime
from proxy.transport.timer_wheel import Deadline
from proxy.upstream.affinity import Selection
from proxy.upstream.dial import UpstreamUnavailableError, dial
from proxy.upstream.http1_connection import UpstreamConnection
from proxy.upstream.pool import EndpointPool, LiveUpstream
from proxy.upstream.rendezvous import NO_KEY


class Exchange:
    """One request and its answer."""

    __slots__ = (
        *("_answer_bytes", "_began", "_body_bytes", "_connection_auth", "_deadline", "_dialling", "_downstream", "_early"),
        *("_filtered", "_interims", "_load_balancing", "_paused_at", "_pool", "_replayable", "_retried"),
        *("_runtime", "_selection", "_status", "_switch_lines", "_switch_rest", "_timeouts", "_upstream", "_upstream_codec"),
        *("_waited", "_whole", "answer_state", "end", "phase", "request", "request_state", "route"),
    )

    def __init__(
        self,
        downstream: DownstreamCodec,
        runtime: Runtime,
        deadline: Deadline,
        request: Request,
        route: ActiveRoute,
        upstream: LiveUpstream,
        pool: EndpointPool,
        load_balancing: LoadBalancing,
        selection: Selection | None,
        connection_auth: bool,  # noqa: FBT001  keywords cost the hot path
    ) -> None:
        """Begin, with the head of the request. `deadline` is lent by the client's side, and calls `expired`.

        `connection_auth`: it logs the backend's connection in, which then serves nobody else. A body's pieces come before
        `start` and after it.
        """
        self._downstream = downstream
        self._runtime = runtime
        self._deadline = deadline
        self.request = request
        self.route = route
        self._timeouts = route.timeouts
        self._upstream = upstream
        self._pool: EndpointPool | None = pool
        self._load_balancing = load_balancing
        self._selection = selection
        """Where affinity, hashing or the pod's name put it; None: only load balancing did."""
        self._connection_auth = connection_auth
        self.request_state = states.NONE
        self.answer_state = states.NONE
        self.end = states.OPEN
        self.phase = states.CONNECT
        self._upstream_codec: UpstreamCodec | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._whole = not request.length
        """The request's body has ended, on the client's side."""
        self._early: EarlyBody | None = None
        """What of the body waits for a connection, or may be sent again; None: nothing."""
        self._replayable = False
        """All that was sent of the request is still here."""
        self._retried = False
        self._body_bytes = 0
        self._answer_bytes = 0
        self._interims = 0
        self._filtered: FilteredAnswer | None = None
        """The answer within the route's answer filters; None: it has none."""
        self._status = 0
        """Of the final answer."""
        self._switch_lines: list[bytes] = NO_PIECES
        """Lines of a 101 that matter, and what came behind it."""
        self._switch_rest = b""
        self._paused_at = 0.0
        """Loop time since which the backend takes no more of the body; 0: it does."""
        self._waited = 0.0
        """Seconds that the body waited for the backend before that, or for a connection to it: not the client's fault."""
        self._began = runtime.loop.time()
        route.stats.begin_request()
        pool.in_flight += 1
        if not request.upgrade:  # an upgrade counts by its `Reservation`
            pool.counter.begin_request()

    def _take_pool(self, pool: EndpointPool | None) -> None:
        before, self._pool = self._pool, pool
        if before is not None:
            before.in_flight -= 1
            if not self.request.upgrade:
                before.counter.end_request()
        if pool is not None:
            pool.in_flight += 1
            if not self.request.upgrade:
                pool.counter.begin_request()

    def _enter(self, phase: int, seconds: float) -> None:
        self.phase = phase
        self._runtime.wheel.schedule(self._deadline, seconds)

    def _await_answer(self) -> None:
        if self.request.upgrade:
            self._enter(states.HANDSHAKE, self._timeouts.handshake)
        else:
            self._enter(states.RESPONSE, self._timeouts.response)

    # The request

    def start(self) -> None:
        """Send the request, over a pooled connection or a new one."""
        pool = self._pool
        assert pool is not None  # noqa: S101  it begins with one
        connection = pool.take()
        if connection is None:
            self._dial(pool)
            return
        if not self._whole:
            self._enter(states.BODY_RATE, min(states.BODY_GRACE, self._timeouts.response))
        elif self.request.upgrade:
            self._enter(states.HANDSHAKE, self._timeouts.handshake)
        else:
            self.phase = states.RESPONSE
            self._runtime.wheel.schedule(self._deadline, self._timeouts.response)
        self._send(connection)

    def _dial(self, pool: EndpointPool | None) -> None:
        self.phase = states.CONNECT
        self._deadline.at = 0.0  # the dial has one of its own, for all attempts, and counts what comes of each
        self._dialling = self._runtime.loop.create_task(self._connect(pool))

    async def _connect(self, pool: EndpointPool | None) -> None:
        selection, began = self._selection, self._runtime.loop.time()
        key, strict = (NO_KEY, False) if selection is None else (selection.key, selection.strict)
        if selection is not None and pool is None:
            pool = self._pool or selection.pool
        try:
            connection = await dial(
                self._upstream,
                self._load_balancing,
                self._timeouts.connect,
                pool,
                reservation=self.request.reservation if self.request.upgrade else None,
                limit=self.route.sockets_per_endpoint,
                key=key,
                strict=strict,
            )
        except UpstreamUnavailableError as error:
            self._dialling = None
            self._replace(error.status, error.cause, error.endpoint)
            return
        self._dialling = None
        if isinstance(connection.pool, EndpointPool) and connection.pool is not self._pool:
            self._take_pool(connection.pool)
        # The time to connect is neither the client's to send its body in, nor the backend's to answer in.
        if self._whole:
            self._await_answer()
        else:
            self._waited += self._runtime.loop.time() - began
            self._enter(states.BODY_RATE, states.RATE_INTERVAL)
        self._send(connection)
        if self._downstream.write_paused:
            self.downstream_paused()

    def _send(self, connection: UpstreamConnection) -> None:
        codec = self._upstream_codec = open_upstream(connection, self, self._runtime)
        early = self._early
        pieces, trailers = (early.pieces, early.trailers) if early is not None else (NO_PIECES, b"")
        if self._whole:
            self.request_state = states.DONE
            self._replayable = True
            codec.send_whole(self.request, pieces, trailers)
        else:
            self.request_state = states.STREAMING
            self._early = None
            codec.send(self.request, pieces)
        if self.request.length and not self._paused_at:  # the backend may have had enough with what was sent at once
            self._downstream.resume_request()

    def request_data(self, pieces: list[bytes]) -> None:
        """Take more of the request's body."""
        size = sum(map(len, pieces))
        self._body_bytes += size
        if self._body_bytes > self.route.body_limit:
            self._refuse_body(413, "body_grew_too_large")
            return
        if self._upstream_codec is not None:
            self._upstream_codec.send_data(pieces)
        elif self._early_body().add(pieces, size):
            self._downstream.pause_request()

    def request_end(self, pieces: list[bytes], trailers: bytes) -> None:
        """Take the last of the request's body."""
        size = sum(map(len, pieces))
        self._body_bytes += size
        if self._body_bytes > self.route.body_limit:
            self._refuse_body(413, "body_grew_too_large")
            return
        self._whole = True
        if self._upstream_codec is None:
            early = self._early_body()
            early.add(pieces, size)
            early.trailers = trailers
            return
        self.request_state = states.DONE
        if self.answer_state < states.HEAD and self.phase != states.DOWNSTREAM_WRITE_STALL:
            self._await_answer()
        self._upstream_codec.send_end(pieces, trailers)

    def _early_body(self) -> EarlyBody:
        if self._early is None:
            self._early = EarlyBody()
        return self._early

    def request_malformed(self) -> None:
        """Act on a body whose framing is broken: 400 if nothing was answered yet; both connections end."""
        self._refuse_body(400, "request_body_malformed")

    def _refuse_body(self, status: int, cause: str) -> None:
        if self.answer_state < states.BODY:
            self._replace(status, cause)
        else:
            self._abandon(cause)
            self._downstream.abort()

    def client_lost(self) -> None:
        """End: nobody waits for the answer any more. The request is logged all the same: the backend may have it, with its id."""
        if self.end == states.OPEN:
            self._abandon("client_gone")

    def upstream_paused(self) -> None:
        """Stop reading the client: the backend does not take its body."""
        if self._whole:
            return
        self._paused_at = self._runtime.loop.time()
        if self.phase == states.BODY_RATE:
            self._enter(states.UPSTREAM_WRITE_STALL, self._timeouts.send)
        self._downstream.pause_request()

    def upstream_resumed(self) -> None:
        """Read the client again."""
        if not self._paused_at:
            return
        self._waited += self._runtime.loop.time() - self._paused_at
        self._paused_at = 0.0
        if self.phase == states.UPSTREAM_WRITE_STALL:
            self._enter(states.BODY_RATE, states.RATE_INTERVAL)
        self._downstream.resume_request()

    # The answer

    def interim(self, head: ResponseHead) -> None:
        """Pass a 1xx answer on."""
        self._interims += 1
        if self._interims > states.MAX_INTERIM:
            self.upstream_malformed("too_many_interim")
            return
        self.answer_state = states.INTERIM
        self._downstream.respond_interim(head)

    def switched(self, head: ResponseHead, lines: list[bytes], rest: bytes) -> None:
        """Make a tunnel of the two connections, if a 101 may."""
        problem = refuse_switch(self.request, lines)
        if problem is not None:
            self.upstream_malformed(problem)
            return
        self._switch_lines, self._switch_rest = lines, rest
        if self.route.answer_filters:
            self._filter(head, b"", NO_BODY_LENGTH).proceed()
        else:
            self.switch(head)

    def switch(self, head: ResponseHead) -> None:
        """Make a tunnel of the two connections, behind a 101 that was judged."""
        codec, pool = self._upstream_codec, self._pool
        assert codec is not None  # noqa: S101  the 101 came by it
        assert pool is not None  # noqa: S101  as it has an endpoint
        self.end = states.SWITCHED
        self._upstream_codec = self._filtered = None
        whose = self._runtime, self.request, self.route, self._upstream, pool, self._selection, self._began
        open_tunnel(*whose, (self._downstream, codec), head, self._switch_lines, self._switch_rest)

    def answer(self, head: ResponseHead, length: int, pieces: list[bytes]) -> None:
        """Pass the final head on, with what is here of the body."""
        added = self._begin_answer(head, length)
        if self.end != states.OPEN:
            return
        if self._selection is not None:
            self._learn_session(pieces)
        if self.route.answer_filters:
            self._filter(head, added, length).data(pieces)
        else:
            self.respond(head, added, length, pieces)

    def respond(self, head: ResponseHead, added: bytes, length: int, pieces: list[bytes]) -> None:
        """Send the head, with the fields `added`, and what is here of the body."""
        self._status = head.status
        if self.request.upgrade:
            self.route.stats.ws_handshake(head.status)
        if self.phase != states.DOWNSTREAM_WRITE_STALL:
            self._enter(states.IDLE, self._timeouts.idle)
        self._count_answer(pieces)
        self._downstream.respond(head, added, length, pieces)
        self.answer_state = states.BODY

    def answer_whole(self, head: ResponseHead, length: int, pieces: list[bytes], trailers: bytes) -> None:
        """Pass an answer on that is here in full."""
        added = self._begin_answer(head, length)
        if self.end != states.OPEN:
            return
        if self._selection is not None:
            self._learn_session(pieces)
        if self.route.answer_filters:
            filtered = self._filter(head, added, length)
            self._release_upstream()
            filtered.end(pieces, trailers)
        else:
            self.respond_whole(head, added, length, pieces, trailers)

    def respond_whole(self, head: ResponseHead, added: bytes, length: int, pieces: list[bytes], trailers: bytes) -> None:
        """Send the head, with the fields `added`, and all of the body."""
        self._status = head.status
        if self.request.upgrade:
            self.route.stats.ws_handshake(head.status)
        for piece in pieces:
            self._answer_bytes += len(piece)
        self._downstream.respond_whole(head, added, length, pieces, trailers)
        self._finish()

    def _begin_answer(self, head: ResponseHead, length: int) -> bytes:
        """Judge and count the final head; return the fields that it gets in addition."""
        self.answer_state = states.HEAD
        status = self._status = head.status
        request, stats, pool, runtime = self.request, self.route.stats, self._pool, self._runtime
        if head.codings and length == UNKNOWN_LENGTH and not self._downstream.takes_codings:
            # Nothing of this endpoint's: its codings may go to no client of HTTP/1.0 (RFC 9112, 6.1), and are not undone here.
            self._replace(502, "unsupported_coding")
            return b""
        now = runtime.loop.time()
        seconds = now - self._began
        stats.first_byte(self._upstream.key, seconds)
        if pool is None:
            return b""
        # Now, since it may go on for hours. What becomes of its body says nothing either way: a client may be the cause.
        if status >= 500 or now >= pool.outlier_detection.successes_from:
            pool.record_status(status, request.address)
        if self._load_balancing == "ewma" and status < 500 and not self._body_bytes:
            # A body's time is the client's. An error may come faster than any answer, and is outlier detection's business.
            pool.ewma.observe(seconds, runtime.wheel.now)
        return self._selection.answer_fields(status, head.encoded, pool) if self._selection is not None else b""

    def _learn_session(self, pieces: list[bytes]) -> None:
        """Let pieces of the body be looked at before they go on: the client's next request may come to another worker at once."""
        selection = self._selection
        if selection is not None and selection.expects_sid and pieces and self._pool is not None:
            selection.read_answer(b"".join(pieces), self._pool)

    def _count_answer(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._answer_bytes += len(piece)

    def answer_data(self, pieces: list[bytes]) -> None:
        """Pass more of the answer's body on."""
        if self._selection is not None:
            self._learn_session(pieces)
        if self._filtered is not None:
            self._filtered.data(pieces)
        elif pieces:
            self.respond_data(pieces)

    def respond_data(self, pieces: list[bytes]) -> None:
        """Send more of the body."""
        self._count_answer(pieces)
        self._downstream.respond_data(pieces)
        if self.phase == states.IDLE:
            self._deadline.at = self._runtime.wheel.now + self._timeouts.idle

    def answer_end(self, pieces: list[bytes], trailers: bytes) -> None:
        """Pass the last of the answer's body on."""
        if self._selection is not None:
            self._learn_session(pieces)
        if self._filtered is not None:
            self._release_upstream()
            self._filtered.end(pieces, trailers)
        else:
            self.respond_end(pieces, trailers)

    def respond_end(self, pieces: list[bytes], trailers: bytes) -> None:
        """Send the last of the body."""
        self._count_answer(pieces)
        self._downstream.respond_end(pieces, trailers)
        self._finish()

    def _finish(self) -> None:
        """End: the answer is whole."""
        self.answer_state = states.DONE
        self.end = states.ANSWERED
        self._filtered = None
        if self._upstream_codec is not None:
            self._release_upstream()
        self._account(self._status, "")
        self._downstream.finished()

    def _release_upstream(self) -> None:
        """Give the backend's connection back: all of the answer came."""
        codec, self._upstream_codec = self._upstream_codec, None
        if codec is not None:
            # An early answer: the rest of the body is not waited for, and neither connection serves again.
            if self.request_state == states.DONE and not self.request.upgrade and not self._connection_auth:
                codec.release()
            else:
                codec.close()

    # The route's answer filters

    def _filter(self, head: ResponseHead, added: bytes, length: int) -> FilteredAnswer:
        filters, loop = self.route.answer_filters, self._runtime.loop
        filtered = self._filtered = FilteredAnswer(self, loop, filters, self.request, head, added, length)
        return filtered

    def filter_waits(self) -> None:
        """Stop reading the backend: a filter needs time, for all of which one deadline holds."""
        if self._upstream_codec is not None:
            self._upstream_codec.pause_answer()
        if self.phase != states.DOWNSTREAM_WRITE_STALL:
            self._enter(states.FILTER, self._timeouts.response)

    def filter_goes_on(self) -> None:
        """Read the backend again."""
        if self.phase == states.FILTER:
            self._enter(states.IDLE, self._timeouts.idle)
        if self._upstream_codec is not None and self.phase != states.DOWNSTREAM_WRITE_STALL:
            self._upstream_codec.resume_answer()

    def filter_failed(self) -> None:
        """Give the answer up: what a filter should have kept back does not go out without it."""
        if self.answer_state < states.BODY:
            self._replace(500, "filter_failed")
        else:
            self._cut(self._status, "filter_failed")

    def body_not_wanted(self) -> None:
        """Let the rest of the backend's answer go: another body takes its place."""
        codec, self._upstream_codec = self._upstream_codec, None
        if codec is not None:
            codec.close()

    # What goes wrong

    def upstream_malformed(self, cause: str) -> None:
        """Act on an answer that is none."""
        if self.answer_state < states.BODY:
            self._blame(502, cause)
        else:
            self._cut(self._status, cause)

    def upstream_lost(self, cause: str, *, stale: bool) -> None:
        """Act on the end of the backend's connection: once more on a new one, if the old one was pooled and nothing was lost."""
        if stale and self._replayable and not self._retried and self.request.method in states.IDEMPOTENT:
            self._retried = True
            self._upstream_codec = None
            self.request_state = states.NONE
            self._dial(None)
        else:
            self.upstream_malformed(cause)

    def _blame(self, status: int, cause: str) -> None:
        """Answer for a backend that answered badly or not at all, and hold it against the endpoint."""
        if self._pool is not None:
            self._pool.record_status(status, self.request.address)
            if status == 504 and self._load_balancing == "ewma":
                runtime = self._runtime
                self._pool.ewma.observe(runtime.loop.time() - self._began, runtime.wheel.now)
        self._replace(status, cause)

    def _replace(self, status: int, cause: str, endpoint: str = "") -> None:
        """Answer in the backend's place. `endpoint`: where it is another than the present one."""
        self.end = states.REPLACED
        self._close_upstream()
        self.route.stats.end_request()
        failure = self._failure(status, cause, endpoint)
        self._take_pool(None)
        record_upstream_error(self._runtime, self._upstream, failure, self.request)
        self._downstream.fail(failure)

    def _cut(self, status: int, cause: str) -> None:
        """Abort the client: an answer that is not whole must not look whole."""
        self.end = states.CUT
        self._close_upstream()
        self._account(status, cause)
        self._downstream.abort()

    def _abandon(self, cause: str) -> None:
        """End without a word: it is logged, and counts as no answer."""
        self.end = states.ABANDONED
        self._close_upstream()
        self.route.stats.end_request()
        failure = self._failure(self._status if self.answer_state >= states.BODY else CLIENT_CLOSED, cause, "")
        self._take_pool(None)
        log_abandoned(self._runtime, self.request, self.route, failure, self._answer_bytes)

    def _failure(self, status: int, cause: str, endpoint: str) -> Failure:
        if not endpoint and self._pool is not None:
            endpoint = self._pool.name
        return Failure(status, cause, self._upstream.key, endpoint, self._runtime.loop.time() - self._began)

    def _account(self, status: int, cause: str) -> None:
        runtime, pool = self._runtime, self._pool
        seconds = runtime.loop.time() - self._began
        endpoint = pool.name if pool is not None else ""
        if cause:
            failure = Failure(status, cause, self._upstream.key, endpoint, seconds)
            record_upstream_error(runtime, self._upstream, failure, self.request)
        request, service, route = self.request, self._upstream.key, self.route
        if pool is not None:
            self._pool = None
            pool.in_flight -= 1
            if not request.upgrade:
                pool.counter.end_request()
        route.stats.end_request()
        route.stats.request_done(service, request.method, status, seconds, self._body_bytes, self._answer_bytes)
        if runtime.accesslog.enabled:
            runtime.accesslog.request(request, status, service, self._answer_bytes, seconds, route.id, endpoint, cause)

    def _close_upstream(self) -> None:
        """Let go of the backend's connection, or of the attempt to make one."""
        codec, filtered = self._upstream_codec, self._filtered
        self._upstream_codec = self._filtered = None
        if codec is not None:
            codec.close()
        if filtered is not None:
            filtered.cancel()
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None

    def expired(self) -> None:
        """Act on the end of the phase's time."""
        phase = self.phase
        if phase == states.BODY_RATE:
            elapsed = self._runtime.loop.time() - self._began - self._waited
            if elapsed >= states.BODY_GRACE and self._body_bytes < self._runtime.settings.min_body_rate * elapsed:
                self._cut(408, "body_too_slow")
            else:
                self._enter(states.BODY_RATE, states.RATE_INTERVAL)
        elif phase in states.UPSTREAM_TIMEOUTS:
            self._blame(504, states.UPSTREAM_TIMEOUTS[phase])
        elif phase == states.IDLE:
            self._cut(self._status, "idle_timeout")
        elif phase == states.DOWNSTREAM_WRITE_STALL:
            self._cut(self._status or 502, "client_stalled")
        elif phase == states.FILTER:
            self._replace(504, "filter_timeout") if self.answer_state < states.BODY else self._cut(self._status, "filter_timeout")

    # Backpressure of the client

    def downstream_paused(self) -> None:
        """Stop reading the backend: the client does not take its answer."""
        if self._upstream_codec is not None:
            self._upstream_codec.pause_answer()
            self._enter(states.DOWNSTREAM_WRITE_STALL, states.WRITE_STALL)

    def downstream_resumed(self) -> None:
        """Read the backend again."""
        if self.phase != states.DOWNSTREAM_WRITE_STALL:
            return
        if self._filtered is not None and self._filtered.filter_runs:
            self._enter(states.FILTER, self._timeouts.response)
            return  # `filter_goes_on` reads on
        if self.answer_state >= states.HEAD:
            self._enter(states.IDLE, self._timeouts.idle)
        elif self._whole:
            self._await_answer()
        elif self._paused_at:
            self._enter(states.UPSTREAM_WRITE_STALL, self._timeouts.send)
        else:
            self._enter(states.BODY_RATE, states.RATE_INTERVAL)
        if self._upstream_codec is not None:
            self._upstream_codec.resume_answer()
