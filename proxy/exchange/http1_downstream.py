# Compiled by mypyc: see setup.py.
"""The client's side over HTTP/1.1: one accepted connection, its requests in order, its end.

`Http1Downstream` is plain and synchronous: bytes in, calls out. One request is under way at a time; what the client pipelines
behind it waits in a bounded buffer while its connection is not read. How requests and answers are framed is in http1_request.py and
http1_response.py; what becomes of a request, in forwarder.py.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable
from typing import Final

from proxy.exchange.accounting import count_local_reply, record_refusal
from proxy.exchange.endpoint_choice import Refusal, begin_exchange
from proxy.exchange.forwarder import Exchange
from proxy.exchange.http1_request import INCOMPLETE, READY, RequestReader
from proxy.exchange.states import BODY, OPEN, WRITE_STALL
from proxy.http.local_replies import FILTER_FAILED, GATEWAY, NO_CONTENT, TIMED_OUT, with_hsts
from proxy.http.message import UNKNOWN_LENGTH, Answer, Client, Failure, Request, ResponseHead
from proxy.http1.chunked import ChunkError, encode_chunks, last_chunk
from proxy.http1.fields import NO_BODY
from proxy.http1.render import render
from proxy.platform.socket_queues import reset, unsent
from proxy.runtime.routes import ActiveRoute
from proxy.runtime.state import Runtime
from proxy.shared_memory.counters import Reservation
from proxy.transport.deferred import Deferred
from proxy.transport.lingering import Lingering
from proxy.transport.protocol_adapter import CLOSED_TRANSPORT, not_connected
from proxy.transport.timer_wheel import Deadline, nothing

_log = logging.getLogger("sluice.exchange")

BUFFER_LIMIT: Final = 64 * 1024
"""Bytes of pipelined requests that may wait."""
REQUESTS_PER_TURN: Final = 16
"""Requests of one client that are begun before others have their turn: about 0.4 ms,"""
TURN_SECONDS = 0.002
"""and behind the first one for so long: some take a hundred times as long as others."""


class Http1Downstream:
    """One client's connection."""

    __slots__ = (
        *("_body_turns", "_busy", "_chunked", "_filtering", "_reader", "_request_turns", "_reservation", "_stalls", "_unsent"),
        *("client", "closing", "deadline", "eof", "exchange", "lingering", "lost", "may_send_more", "read_paused"),
        *("runtime", "served", "transport", "unframed", "write", "write_paused"),
    )

    def __init__(self, runtime: Runtime, client: Client) -> None:
        self.runtime = runtime
        self.client = client
        self.transport: asyncio.Transport
        self.write = not_connected
        self._reader = RequestReader(runtime, client)
        self._request_turns = Deferred(runtime.run_queue)
        """Requests that wait for their turn."""
        self._body_turns: Deferred | None = None
        """What of a body waits for its turn, and whether the exchange takes no more of it; None: there was never either."""
        self.exchange: Exchange | None = None
        """The request under way."""
        self._reservation: Reservation | None = None
        """What it counts for."""
        self._chunked = False
        """Its answer goes out in chunks."""
        self.closing = False
        """The connection ends after the answer under way."""
        self.unframed = False
        """That answer lasts until the connection ends: cut by a FIN it would look whole (RFC 9112, 8)."""
        self.may_send_more = False
        """The client may send more than will be read: a body that is not waited for, or what follows what is no request."""
        self.lingering: Lingering | None = None
        self.lost = False
        self.eof = False
        """The client's FIN came: what came before it is all that there will be."""
        self.write_paused = False
        """The client does not take what is written."""
        self.read_paused = False
        self.served = False
        """At least one request was answered."""
        self.deadline = Deadline(nothing)
        self._busy = False
        self._unsent = 0
        """Bytes that had not arrived when this was last looked at, at the end; and how often it did not get less."""
        self._stalls = 0
        self._filtering: asyncio.Task[None] | None = None

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

    # Requests

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        reader = self._reader
        if reader.body_open:
            self._body_received(data)
            return
        if not reader.buffer and reader.late is None:
            reader.buffer, reader.at = data, 0
        else:
            reader.add(data)
        if self.exchange is None and not self._busy and not self._request_turns.queued and self._filtering is None:
            self.proceed()
        if (reader.buffer or reader.late is not None) and reader.unread_bytes > BUFFER_LIMIT:
            self.pause_reading()

    @property
    def unread_bytes(self) -> int:
        """Bytes that came and were not read yet."""
        return self._reader.unread_bytes

    def pause_reading(self) -> None:
        """Stop reading the client."""
        if not self.read_paused and not self.lost:
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read the client again, unless there are requests enough that wait already."""
        if self.read_paused and not self.lost and self.unread_bytes <= BUFFER_LIMIT:
            self.read_paused = False
            with contextlib.suppress(RuntimeError):
                self.transport.resume_reading()

    def proceed(self) -> None:
        """Begin the requests that are here, one after the other, until one has to wait or this client had its turn."""
        if self._request_turns.queued:
            return
        self._busy = True
        reader = self._reader
        left, end = REQUESTS_PER_TURN, 0.0
        while (
            (reader.buffer or reader.late is not None)
            and not self.write_paused
            and self.exchange is None
            and self._filtering is None
            and not self.lost
            and not self.transport.is_closing()
        ):
            if left < REQUESTS_PER_TURN:  # one that comes alone costs no look at the clock
                now = time.monotonic()
                end = end or now + TURN_SECONDS
                if not left or now >= end:
                    self._request_turns.leave(None, self._go_on)  # what comes waits in a buffer, and a FIN has to be seen
                    break
            left -= 1
            progress = reader.next_head()
            if progress != READY:
                if progress == INCOMPLETE:
                    self._wait_for_head()
                else:
                    self.refuse(reader.refusal, reader.refused)
                break
            self._begin()
        self._busy = False
        if self.eof and not self._has_unread_requests and self.exchange is None and self._filtering is None:
            self._end()

    def _close_with_unread(self) -> None:
        """End after the answer under way, and do not read what the client may send until then."""
        self.closing = self.may_send_more = True

    def _wait_for_head(self) -> None:
        """Wait for the rest of a head that has begun."""
        if self.served and self.deadline.at:
            self.served = False
            self.arm(self.runtime.settings.header_timeout)

    @property
    def _has_unread_requests(self) -> bool:
        """Requests are here that have to wait for their turn, or for the client to take the answers before them."""
        return self._request_turns.queued or (self.write_paused and self.unread_bytes > 0)

    def _go_on(self) -> None:
        """Begin what was left over in a turn before this one."""
        if self._request_turns.begin() and not self.lost:
            self.proceed()
            self.resume_reading()

    def _begin(self) -> None:
        """Begin the request whose head was read."""
        runtime, reader = self.runtime, self._reader
        framing = reader.framing
        upgrade = framing.attempt and framing.refusal is None
        host, authority = framing.host, framing.authority
        request = Request(self.client, reader.method, reader.target, reader.version, host, authority, reader.lines, upgrade=upgrade)
        request.fields = reader.forwarded
        request.length = framing.length
        request.address = framing.address
        request.id = framing.request_id or runtime.make_id()
        if not framing.keep_alive or (self.eof and not self.unread_bytes):
            self.closing = True
        if framing.refusal is not None:
            self._answer_head(framing.refusal, request, None)
            return
        if reader.target == "*":
            self._answer_head(NO_CONTENT, request, None)
            return
        decided = runtime.handle(request)
        self._reservation = request.reservation
        if isinstance(decided, Answer):
            self._answer_head(decided, request, None)
            return
        route, verdict = decided
        if verdict is None:
            self._forward(request, route)
        elif isinstance(verdict, Answer):
            self._answer_head(verdict, request, route)
        else:
            self._filtering = runtime.loop.create_task(self._filter(verdict, request, route))

    async def _filter(self, verdict: Awaitable[Answer | None], request: Request, route: ActiveRoute) -> None:
        try:
            answer = await verdict
        except Exception:  # noqa: BLE001  a filter's fault is its route's, and what it was to guard is not served
            _log.exception("a filter failed")
            answer = FILTER_FAILED
        finally:
            self._filtering = None
            self._reservation = request.reservation  # filters behind the one that needed time may have counted it
            if self.lost:
                self._give_back()
        if self.lost:
            return
        if answer is None:
            self._forward(request, route)
            if self.write_paused and self.exchange is not None:
                self.exchange.downstream_paused()
        else:
            self._answer_head(answer, request, route)
        self.proceed()

    def _forward(self, request: Request, route: ActiveRoute) -> None:
        exchange = begin_exchange(self, self.runtime, self.deadline, request, route, self._reader.framing.connection_auth)
        self._reservation = request.reservation
        if isinstance(exchange, Refusal):
            self._answer_head(exchange.answer, request, route, exchange.failure)
            return
        self.exchange = exchange
        if request.length != NO_BODY:
            self._pass_body(None)
            if exchange.end != OPEN:
                return
        exchange.start()

    # Bodies of requests

    def _body_received(self, data: bytes) -> None:
        if self._body_turns is not None and self._body_turns.queued:
            self._reader.keep(data)
        else:
            self._pass_body(data)

    def _pass_body(self, data: bytes | None) -> None:
        """Give the exchange what comes of its body; None: it begins."""
        reader, exchange = self._reader, self.exchange
        assert exchange is not None  # noqa: S101  it has a body
        try:
            pieces = reader.begin_body(reader.framing.length) if data is None else reader.body(data, 0)
        except ChunkError:
            reader.body_open = False
            self._close_with_unread()
            exchange.request_malformed()
            return
        if not reader.body_open:
            exchange.request_end(pieces, reader.trailers)
            return
        if pieces:
            exchange.request_data(pieces)
            if exchange.end != OPEN:
                return
        if reader.has_more:
            self._turns_of_body().leave(self, self._go_on_with_body)

    def _turns_of_body(self) -> Deferred:
        if self._body_turns is None:
            self._body_turns = Deferred(self.runtime.run_queue)
        return self._body_turns

    def _go_on_with_body(self) -> None:
        turns, exchange = self._turns_of_body(), self.exchange
        if turns.begin() and self._reader.body_open and exchange is not None and exchange.end == OPEN:
            self._pass_body(b"")
            turns.end(self)

    def pause_request(self) -> None:
        """Take no more of the request's body."""
        self._turns_of_body().pause(self)

    def resume_request(self) -> None:
        """Go on with the request's body."""
        if self._body_turns is None:
            self.resume_reading()
        else:
            self._body_turns.resume(self, self._go_on_with_body, has_more=self._reader.body_open and self._reader.has_more)

    # Answers

    @property
    def takes_codings(self) -> bool:
        """A body may keep transfer codings below chunked (RFC 9112, 7)."""
        return self._reader.version >= 11

    def respond_interim(self, head: ResponseHead) -> None:
        """Pass a 1xx answer on, to a client of HTTP/1.1 (RFC 9110, 15.2)."""
        if self._reader.version >= 11:
            self.write(head.encoded + b"\r\n")

    def respond(self, head: ResponseHead, added: bytes, length: int, pieces: list[bytes]) -> None:
        """Send the final head, with the fields `added`, and what is here of the body."""
        out = self._encode_head(head, added, length)
        self.write(out + self._encode(pieces) if pieces else out)

    def respond_whole(self, head: ResponseHead, added: bytes, length: int, pieces: list[bytes], trailers: bytes) -> None:
        """Send the final head and all of the body."""
        out = self._encode_head(head, added, length)
        if self._chunked:
            out += encode_chunks(pieces) + self._last_chunk(trailers)
        elif pieces:
            out += pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.write(out)

    def respond_data(self, pieces: list[bytes]) -> None:
        """Send more of the body."""
        self.write(self._encode(pieces))

    def respond_end(self, pieces: list[bytes], trailers: bytes) -> None:
        """Send the last of the body."""
        out = self._encode(pieces)
        if self._chunked:
            out += self._last_chunk(trailers)
        if out:
            self.write(out)

    def _encode_head(self, head: ResponseHead, added: bytes, length: int) -> bytes:
        version = self._reader.version
        if self._reader.body_open or self.runtime.draining:
            # An early answer: the rest of the body is not waited for, and the connection does not serve again.
            self.closing = True
        out = head.encoded
        if added:
            out += added
        self._chunked = False
        if length == UNKNOWN_LENGTH:
            if version >= 11:
                self._chunked = True
                out += b"Transfer-Encoding: %bchunked\r\n" % head.codings
            else:
                self.closing = self.unframed = True
        if self.closing:
            return out + b"Connection: close\r\n\r\n"
        return out + (b"Connection: keep-alive\r\n\r\n" if version < 11 else b"\r\n")

    def _encode(self, pieces: list[bytes]) -> bytes:
        if self._chunked:
            return encode_chunks(pieces)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _last_chunk(self, trailers: bytes) -> bytes:
        return last_chunk(trailers if self._reader.framing.takes_trailers else b"")

    def fail(self, failure: Failure) -> None:
        """Answer a request that no backend answered."""
        exchange, reader = self.exchange, self._reader
        assert exchange is not None  # noqa: S101  it failed
        self.exchange = None
        body_follows, reader.body_open = reader.body_open, False
        self.answer(GATEWAY[failure.status], exchange.request, exchange.route, failure, body_follows=body_follows)
        if not self._busy:
            self.proceed()

    def _answer_head(self, answer: Answer, request: Request, route: ActiveRoute | None, failure: Failure | None = None) -> None:
        """Answer a request of which nothing but its head was read."""
        self.answer(answer, request, route, failure, body_follows=self._reader.framing.length != NO_BODY)

    def answer(
        self,
        answer: Answer,
        request: Request,
        route: ActiveRoute | None,
        failure: Failure | None = None,
        *,
        body_follows: bool = False,
    ) -> None:
        """Answer a request ourselves; `failure` where a backend should have."""
        if answer.close or body_follows:
            # A body that nobody reads would be taken for the next request.
            self._close_with_unread()
        elif request.version < 11 or self.runtime.draining:
            self.closing = True
        if route is not None and route.hsts and request.secure:
            answer = with_hsts(answer, route.hsts)
        data, size = render(answer, request, request_id=request.id, close=self.closing)
        self.write(data)
        count_local_reply(self.runtime, request, route, failure or Failure(answer.status, answer.cause, ""), size)
        self.finished()

    def refuse(self, answer: Answer, head: bytes = b"") -> None:
        """Answer what is no request, and end the connection. `head`: how it begins; else it is what was not read yet."""
        self._close_with_unread()
        rest = self._reader.take_rest()
        self.write(record_refusal(answer, head or rest, self.client, self.runtime))
        self._end()

    def finished(self) -> None:
        """Go on after a request that is answered: with the next, or end."""
        exchange, reader = self.exchange, self._reader
        if exchange is not None:
            self.exchange = None
            if reader.body_open or (exchange.request.upgrade and self.unread_bytes):
                reader.body_open = False
                self._close_with_unread()
            if self._body_turns is not None:
                self._body_turns.paused = False
        self.served = True
        if self._reservation is not None:
            self._give_back()
        runtime = self.runtime
        if self.closing or runtime.draining:
            self._end()
            return
        runtime.wheel.schedule(self.deadline, runtime.settings.keepalive_timeout)
        if self.read_paused:
            self.resume_reading()
        if not self._busy and (reader.buffer or reader.late is not None or self.eof):
            self.proceed()

    def _give_back(self) -> None:
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.release()

    # The end

    def _end(self) -> None:
        """Close when what was written has arrived; a peer that does not take it is cut."""
        if self.lost or self.lingering is not None or self.transport.is_closing():
            return
        if (self.may_send_more or self.unread_bytes) and not self.eof:
            self._reader.drop_rest()
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
        elif self.exchange is not None:
            self.exchange.expired()
        elif self.write_paused:
            self._cut()
        elif self._filtering is not None:
            self._filtering.cancel()
            self.transport.abort()
        elif self.unread_bytes:
            self.refuse(TIMED_OUT)
        else:
            self._end()

    def retire(self) -> None:
        """Let the next answer say that it is the last: a client that knows loses no request to a closed connection."""
        if self.exchange is None or self.exchange.answer_state < BODY:
            self.closing = True

    def drain(self) -> None:
        """End when the request under way is answered; at once if there is none."""
        self.closing = True
        if self.exchange is None and self._filtering is None and not self.unread_bytes:
            self._end()

    def abort(self) -> None:
        """End at once."""
        if not self.lost:
            self._cut()

    def detach(self, head: ResponseHead, added: bytes) -> tuple[asyncio.Transport, bytes, bytes]:
        """Give the connection away, behind a 101 with the fields `added`."""
        transport = self.transport
        early = self._reader.take_rest()
        self.runtime.wheel.cancel(self.deadline)
        self.exchange = None
        self._reservation = None
        self.lost = True
        self.transport, self.write = CLOSED_TRANSPORT, CLOSED_TRANSPORT.write
        self.runtime.connections.discard(self)
        return transport, head.encoded + added + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", early

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the client is gone."""
        del exc
        self.lost = True
        self.runtime.wheel.cancel(self.deadline)
        self.runtime.connections.discard(self)
        self.runtime.stats.connection_closed(self.client.listener)
        if self._filtering is not None:
            self._filtering.cancel()
        if self.exchange is not None:
            self.exchange.client_lost()
            self.exchange = None
        self._give_back()
        self.lingering = None
        self.transport, self.write = CLOSED_TRANSPORT, CLOSED_TRANSPORT.write

    def eof_received(self) -> bool:
        """Take the client's FIN: requests that came before it are still answered; over TLS, those of which none is under way."""
        self.eof = True
        exchange = self.exchange
        if exchange is None and self._filtering is None:
            if self._has_unread_requests:
                return True
            self.closing = True
            return False
        if self.client.secure or (exchange is not None and (self._reader.body_open or exchange.request.upgrade)):
            self.closing = True
            return False
        if not self.unread_bytes:
            self.closing = True
        return True

    def pause_writing(self) -> None:
        """Stop reading the backend, and begin no further request: the client does not take its answers."""
        self.write_paused = True
        if self.exchange is not None:
            self.exchange.downstream_paused()
        elif not self.transport.is_closing():
            self.arm(WRITE_STALL)

    def resume_writing(self) -> None:
        """Read the backend's answer on: the client takes it again."""
        self.write_paused = False
        if self.exchange is not None:
            self.exchange.downstream_resumed()
        elif self._filtering is None and not self.lost and not self.transport.is_closing():
            self.arm(self.runtime.settings.keepalive_timeout)
            self.resume_reading()
            if not self._busy:
                self.proceed()
