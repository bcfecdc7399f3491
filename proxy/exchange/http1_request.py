# Compiled by mypyc: see setup.py.
"""The request's half of one exchange: its head and body on the way to a backend. Synchronous but for dialling.

The answer's half, and what becomes of the whole, is http1_response.py.
"""

import asyncio
from typing import Protocol

from proxy.http.message import Client, Failure, Request
from proxy.http1.chunked import LAST_CHUNK, ChunkDecoder, ChunkError, chunk
from proxy.http1.fields import CHUNKED, NO_BODY, RequestFraming
from proxy.model.config import LoadBalancing
from proxy.runtime.routes import ActiveRoute
from proxy.runtime.state import Runtime
from proxy.transport.timer_wheel import Deadline
from proxy.upstream.affinity import Selection
from proxy.upstream.dial import UpstreamUnavailableError, dial
from proxy.upstream.http1_connection import UpstreamConnection
from proxy.upstream.pool import EndpointPool, LiveUpstream
from proxy.upstream.rendezvous import NO_KEY

BODY_GRACE = 30.0
"""Seconds before the rate of a request's body is looked at (docs/wire.md, slow body)."""
EARLY_LIMIT = 64 * 1024
"""Bytes of a body that wait for the backend's connection."""


class Downstream(Protocol):
    """The client's connection, as a request on its way sees it."""

    runtime: Runtime
    client: Client
    transport: asyncio.Transport
    deadline: Deadline
    closing: bool
    more: bool
    unframed: bool

    @property
    def waiting(self) -> int: ...  # noqa: D102
    def take_rest(self) -> bytes: ...  # noqa: D102
    def put_back(self, data: bytes, at: int) -> None: ...  # noqa: D102

    def arm(self, seconds: float) -> None: ...  # noqa: D102
    def pause(self) -> None: ...  # noqa: D102
    def resume(self) -> None: ...  # noqa: D102
    def write(self, data: bytes, /) -> None: ...  # noqa: D102
    def finished(self) -> None: ...  # noqa: D102
    def abort(self) -> None: ...  # noqa: D102
    def release(self) -> None: ...  # noqa: D102
    def fail(self, failure: Failure, request: Request, route: ActiveRoute) -> None: ...  # noqa: D102


class RequestForwarding:
    """One request on its way. `HttpForwarding` adds the answer, and says what failing means."""

    __slots__ = (
        "_answer",
        "_blocked",
        "_body_bytes",
        "_body_deferred",
        "_body_left",
        "_connection",
        "_dialling",
        "_early",
        "_early_size",
        "_end_cause",
        "_head",
        "_login",
        "_over",
        "_policy",
        "_pool",
        "_request_decoder",
        "_selection",
        "_sent_all",
        "_side",
        "_started",
        "_timeouts",
        "_upstream",
        "_waited",
        "request",
        "route",
        "wants_body",
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
        self._side = side
        self.request = request
        self.route = route
        self._timeouts = route.timeouts
        self._upstream = upstream
        self._policy = policy
        self._selection = selection
        """Where affinity, hashing or the pod's name put it; None: only load balancing did."""
        self._pool: EndpointPool | None = None
        self._connection: UpstreamConnection | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        """What of the body waits for the connection, as it goes to the backend."""
        self._early_size = 0
        self._body_left = facts.length
        self._request_decoder = ChunkDecoder() if facts.length == CHUNKED else None
        self._body_deferred = False
        """More of the body is here and waits in the worker's queue for its turn."""
        self.wants_body = facts.length != NO_BODY
        """The client's bytes belong to the body."""
        self._body_bytes = 0
        self._blocked = 0.0
        """Loop time since which the backend takes no more of the body; 0: it does."""
        self._waited = 0.0
        """Seconds that the body waited for the backend before that, or for a connection to it: not the client's fault."""
        self._login = facts.connection_auth
        self._sent_all = False
        """Nothing of the request was sent that could not be sent again: all of it is still here."""
        self._answer = False
        """Bytes of the final answer are out."""
        self._end_cause = "client_gone"
        """Why the client's connection ended, if it did."""
        self._over = False
        """Answered, or given up: it is accounted for, and nothing more is sent to the backend."""
        self._started = side.runtime.loop.time()
        self._head = self._request_head(facts, forward)

    def _request_head(self, facts: RequestFraming, forward: bytes) -> bytes:
        request = self.request
        tail = f"X-Request-ID: {request.id}\r\n"
        if facts.length == CHUNKED:
            tail += "Transfer-Encoding: chunked\r\n"
        if request.upgrade:
            tail += "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        host = "" if facts.authority else "Host: \r\n"
        return b"%b%b%b\r\n" % (
            f"{request.method} {request.sent_target} HTTP/1.1\r\n".encode("latin-1"),
            forward,
            (host + tail).encode("latin-1"),
        )

    def start(self, pool: EndpointPool, early: bytes, at: int) -> None:
        """Send the request over a pooled connection, or dial one. `early` from `at` on is what of the body is here already."""
        self.route.stats.in_flight += 1
        self._side.arm(self._timeouts.handshake if self.request.upgrade else self._timeouts.response)
        if self.wants_body:
            self._side.arm(min(BODY_GRACE, self._timeouts.response))
            self._keep_early(self._take_body(early, at))
            if self._over:
                return
        self._take_pool(pool)
        connection = pool.take()
        if connection is not None:
            self._send(connection)
        else:
            self._dial(pool)

    def _take_pool(self, pool: EndpointPool | None) -> None:
        # An upgrade counts by its `Reservation`.
        if self._pool is not None:
            self._pool.in_flight -= 1
            if not self.request.upgrade:
                self._pool.counter.end_request()
        self._pool = pool
        if pool is not None:
            pool.in_flight += 1
            if not self.request.upgrade:
                pool.counter.begin_request()

    def _dial(self, pool: EndpointPool | None) -> None:
        if self.wants_body and self._early_size > EARLY_LIMIT:
            self._side.pause()
        self._dialling = self._side.runtime.loop.create_task(self._connect(pool))

    async def _connect(self, pool: EndpointPool | None) -> None:
        selection, began = self._selection, self._side.runtime.loop.time()
        key, strict = (NO_KEY, False) if selection is None else (selection.key, selection.strict)
        if selection is not None and pool is None:
            pool = self._pool or selection.pool
        try:
            reservation = self.request.reservation if self.request.upgrade else None
            connection = await dial(
                self._upstream,
                self._policy,
                self._timeouts.connect,
                pool,
                reservation=reservation,
                limit=self.route.sockets_per_endpoint,
                key=key,
                strict=strict,
            )
        except UpstreamUnavailableError as error:
            self._dialling = None
            self._fail(error.status, error.cause, error.endpoint)
            return
        self._dialling = None
        if isinstance(connection.pool, EndpointPool) and connection.pool is not self._pool:
            self._take_pool(connection.pool)
        # The time to connect is neither the client's to send its body in, nor the backend's to answer in.
        if self.wants_body:
            self._waited += self._side.runtime.loop.time() - began
        else:
            self._side.arm(self._timeouts.handshake if self.request.upgrade else self._timeouts.response)
        self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        connection.turn = self
        self._sent_all = not self.wants_body
        connection.write(b"".join((self._head, *self._early)) if self._early else self._head)
        if self.wants_body:
            self._early, self._early_size = [], 0
            self._read_on()
        else:
            self._side.resume()

    def body_data(self, data: bytes) -> None:
        """Take bytes of the client while the body lasts."""
        if self._body_deferred and self._request_decoder is not None:
            self._request_decoder.add(data)
            self._side.pause()
        else:
            self._pass_body(data)

    def _pass_body(self, data: bytes) -> None:
        encoded = self._take_body(data, 0)
        if self._over:
            return
        connection = self._connection
        if connection is None:
            self._keep_early(encoded)
            if self._early_size > EARLY_LIMIT:
                self._side.pause()
        elif encoded:
            self._sent_all = False
            connection.write(encoded)

    def _keep_early(self, data: bytes) -> None:
        if data:
            self._early.append(data)
            self._early_size += len(data)

    def _defer_body(self) -> None:
        """Let others have their turn before more chunks are decoded."""
        if not self._body_deferred:
            self._body_deferred = True
            self._side.pause()
            self._side.runtime.run_queue.add(self._go_on_with_body)

    def _go_on_with_body(self) -> None:
        self._body_deferred = False
        if self._over or self._blocked:
            return  # `upstream_ready` goes on
        self._pass_body(b"")
        if not self._over and not self._body_deferred and (self._connection is not None or self._early_size <= EARLY_LIMIT):
            self._side.resume()

    def _read_on(self) -> None:
        """Go on with what is here of the body; read the client when that is through."""
        if self.wants_body and self._request_decoder is not None and self._request_decoder.more:
            self._defer_body()
        else:
            self._side.resume()

    def _take_body(self, data: bytes, at: int) -> bytes:
        """Return what of `data` from `at` on goes to the backend; what follows the body waits as the next request."""
        decoder = self._request_decoder
        if decoder is None:
            size = len(data) - at
            if size > self._body_left:
                size = self._body_left
                self._side.put_back(data, at + size)
                data = data[at : at + size]
            elif at:
                data = data[at:]
            self._body_left -= size
            self._body_bytes += size
            if not self._body_left:
                self._body_ended()
            return data
        try:
            pieces = decoder.feed(data, at)
        except ChunkError:
            self._bad_body()
            return b""
        self._body_bytes += sum(map(len, pieces))
        encoded = b"".join([chunk(piece) for piece in pieces if piece])
        if decoder.done:
            encoded += LAST_CHUNK
            self._side.put_back(*decoder.rest_from())
            self._body_ended()
        elif decoder.more:
            self._defer_body()
        return encoded

    @property
    def answering(self) -> bool:
        """The head of the final answer is out."""
        return self._answer

    def _body_ended(self) -> None:
        self.wants_body = False
        if not self._answer:
            self._side.arm(self._timeouts.response)

    def _bad_body(self) -> None:
        """Refuse a body whose coding is broken: 400 if nothing was answered yet; both connections end."""
        self.wants_body = False
        self._side.closing = self._side.more = True
        if self._answer:
            self._drop()
            self._end_cause = "request_body_malformed"
            self._side.abort()
            return
        self._fail(400, "request_body_malformed")

    def _fail(self, status: int, cause: str, endpoint: str = "") -> None:
        """Answer for the backend, of which nothing was passed on yet."""
        raise NotImplementedError

    def _drop(self) -> None:
        """Let go of the backend's connection, or of the attempt to make one."""
        raise NotImplementedError

    def answer_data(self, data: bytes) -> None:
        """Take bytes of the backend."""
        raise NotImplementedError

    def upstream_lost(self, exc: Exception | None) -> None:
        """Act on the end of the backend's connection."""
        raise NotImplementedError

    def upstream_full(self) -> None:
        """Stop reading the client: the backend does not take its body."""
        if self.wants_body:
            self._blocked = self._side.runtime.loop.time()
            self._side.pause()

    def upstream_ready(self) -> None:
        """Read the client again."""
        if self._blocked:
            self._waited += self._side.runtime.loop.time() - self._blocked
            self._blocked = 0.0
        self._read_on()
