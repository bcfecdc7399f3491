# Compiled by mypyc: see setup.py.
"""Answers in HTTP/1.1: a backend's bytes become heads and pieces of bodies.

A codec: it frames, and decides nothing. Bytes for a client are made of them in http1_downstream.py.
"""

import asyncio
from typing import Final

from proxy.exchange.contract import NO_BODY_LENGTH, NO_PIECES, UpstreamEvents
from proxy.exchange.http1_request import encode_request
from proxy.http.message import UNKNOWN_LENGTH, Request
from proxy.http1.chunked import ChunkDecoder, ChunkError, encode_chunks, last_chunk
from proxy.http1.fields import ResponseFraming, read_response
from proxy.http1.head_scanner import MAX_FIELDS, MAX_HEAD, scan_status_line
from proxy.http1.partial_head import find_end
from proxy.http1.reference_parser import parse_response
from proxy.http1.trailers import passing_trailers
from proxy.runtime.state import Runtime
from proxy.transport.deferred import Deferred
from proxy.transport.protocol_adapter import CLOSED_TRANSPORT
from proxy.upstream.http1_connection import UpstreamConnection

MODE_SIZED: Final = 0
MODE_CHUNKED: Final = 1
MODE_UNTIL_CLOSE: Final = 2


class Http1Upstream:
    """The backend's side of one exchange, over a connection of HTTP/1.1."""

    __slots__ = (
        "_chunked",
        "_clean",
        "_connection",
        "_decoder",
        "_deferred",
        "_exchange",
        "_framing",
        "_interim",
        "_is_head",
        "_left",
        "_mode",
        "_over",
        "_partial",
        "_runtime",
        "_seen",
    )

    def __init__(self, connection: UpstreamConnection, exchange: UpstreamEvents, runtime: Runtime) -> None:
        self._connection: UpstreamConnection | None = connection
        self._exchange = exchange
        self._runtime = runtime
        self._chunked = False
        """The request's body goes out in chunks."""
        self._is_head = False
        """The request is HEAD: its answer has no body."""
        self._partial: bytearray | None = None
        """The beginning of a head whose end is not here."""
        self._seen = 0
        self._interim = False
        """Something came before the final head."""
        self._framing: ResponseFraming | None = None
        """What the final head said."""
        self._mode = MODE_SIZED
        self._left = 0
        self._decoder: ChunkDecoder | None = None
        self._clean = False
        """The answer ended where it said, and nothing followed."""
        self._deferred: Deferred | None = None
        """Chunks that wait for their turn, and whether the exchange takes no more; None: there was never either."""
        self._over = False
        """Nothing is told any more."""
        connection.codec = self

    # The request

    def send(self, request: Request, pieces: list[bytes]) -> None:
        """Send the head and what is here of the body."""
        connection = self._connection
        assert connection is not None  # noqa: S101  it begins with one
        self._chunked = request.length == UNKNOWN_LENGTH
        self._is_head = request.method == "HEAD"
        head = encode_request(request)
        connection.write(head + self._encode(pieces) if pieces else head)

    def send_whole(self, request: Request, pieces: list[bytes], trailers: bytes) -> None:
        """Send the head and all of the body."""
        connection = self._connection
        assert connection is not None  # noqa: S101  it begins with one
        self._is_head = request.method == "HEAD"
        data = encode_request(request)
        if request.length:
            self._chunked = request.length == UNKNOWN_LENGTH
            data += self._encode(pieces)
            if self._chunked:
                data += last_chunk(trailers)
        connection.write(data)

    def send_data(self, pieces: list[bytes]) -> None:
        """Send more of the body."""
        if self._connection is not None and pieces:
            self._connection.write(self._encode(pieces))

    def send_end(self, pieces: list[bytes], trailers: bytes) -> None:
        """Send the last of the body."""
        if self._connection is not None:
            data = self._encode(pieces)
            if self._chunked:
                data += last_chunk(trailers)
            if data:
                self._connection.write(data)

    def _encode(self, pieces: list[bytes]) -> bytes:
        return encode_chunks(pieces) if self._chunked else b"".join(pieces)

    # The answer

    def data_received(self, data: bytes) -> None:
        """Take bytes of the answer."""
        if self._framing is not None:
            self._body(data)
        elif self._partial is not None:
            self._late_head(self._partial, data)
        else:
            connection = self._connection
            memo = connection.memo if connection is not None else None
            if connection is not None and memo is not None and data.startswith(connection.memo_head):
                # Backends repeat their heads byte for byte.
                self._final_head(memo, data[len(connection.memo_head) :])
            else:
                self._head(data)

    def _late_head(self, partial: bytearray, data: bytes) -> None:
        partial += data
        if find_end(partial, self._seen) >= 0:
            self._partial = None
            self._head(bytes(partial))
            return
        self._seen = len(partial)
        if len(partial) > MAX_HEAD:
            self._exchange.upstream_malformed("head_too_large")

    def _head(self, data: bytes) -> None:
        connection = self._connection
        assert connection is not None  # noqa: S101  bytes come by it
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._partial, self._seen = bytearray(data), len(data)
            if len(data) > MAX_HEAD:
                self._exchange.upstream_malformed("head_too_large")
            return
        rest = data[end + 4 :]
        framing, regular = self._read_head(data, end)
        if isinstance(framing, str):
            self._exchange.upstream_malformed(framing)
        elif framing.head.status < 200:
            self._interim_head(framing, rest)
        else:
            if regular:
                connection.memo_head, connection.memo = data[: end + 4], framing
            self._final_head(framing, rest)

    def _read_head(self, data: bytes, end: int) -> tuple[ResponseFraming | str, bool]:
        """Read the head that ends at `end`: what it says, or the cause why it says nothing; and whether it is strictly regular."""
        runtime = self._runtime
        line_end = data.find(b"\r\n")
        lines = data[line_end + 2 : end].split(b"\r\n") if line_end < end else []
        forwarded: list[bytes] = []
        inspected: list[bytes] = []
        line = scan_status_line(data[:line_end]) if end <= MAX_HEAD - 4 and len(lines) <= MAX_FIELDS else None
        if line is not None and runtime.response_lines.sort(lines, forwarded, inspected):
            return read_response(*line, forwarded, inspected) or "malformed_framing", True
        parsed = parse_response(data[: end + 4], runtime.loop)
        forwarded, inspected = [], []
        if parsed is None or not runtime.response_lines.sort(parsed[3], forwarded, inspected):
            return "head_too_large" if end > MAX_HEAD - 4 or len(lines) > MAX_FIELDS else "malformed_head", False
        return read_response(*parsed[:3], forwarded, inspected) or "malformed_framing", False

    def _interim_head(self, framing: ResponseFraming, rest: bytes) -> None:
        self._interim = True
        head = framing.head
        if head.status == 101:
            self._exchange.switched(head, framing.lines, rest)
        elif framing.length > 0 or framing.chunked or head.codings:
            self._exchange.upstream_malformed("interim_body")
        else:
            self._exchange.interim(head)
            if rest and self._connection is not None:
                self._head(rest)

    def _final_head(self, framing: ResponseFraming, rest: bytes) -> None:
        exchange, head, length = self._exchange, framing.head, framing.length
        if self._is_head or head.status == 204 or head.status == 304:  # noqa: PLR1714  a set would be made and hashed
            self._framing = framing
            self._clean = not rest
            exchange.answer_whole(head, NO_BODY_LENGTH, NO_PIECES, b"")
        elif framing.chunked:
            # Before anything is sent: what is broken from the start is still answered for.
            decoder = ChunkDecoder()
            try:
                pieces = decoder.feed(rest)
            except ChunkError:
                exchange.upstream_malformed("bad_chunk")
                return
            self._framing, self._mode, self._decoder = framing, MODE_CHUNKED, decoder
            if decoder.done:
                self._clean = not decoder.rest
                exchange.answer_whole(head, UNKNOWN_LENGTH, pieces, self._trailers(decoder, framing))
            else:
                exchange.answer(head, UNKNOWN_LENGTH, pieces)
                if decoder.has_more:
                    self._defer()
        elif length >= 0:
            self._framing = framing
            size = len(rest)
            if size < length:
                self._left = length - size
                exchange.answer(head, length, [rest] if rest else NO_PIECES)
                return
            if size == length:
                self._clean = True
            else:
                rest = rest[:length]
            exchange.answer_whole(head, length, [rest] if rest else NO_PIECES, b"")
        else:
            self._framing, self._mode = framing, MODE_UNTIL_CLOSE
            exchange.answer(head, UNKNOWN_LENGTH, [rest] if rest else NO_PIECES)

    def _body(self, data: bytes) -> None:
        mode = self._mode
        if mode == MODE_CHUNKED:
            self._chunks(data)
        elif mode == MODE_UNTIL_CLOSE:
            self._exchange.answer_data([data])
        else:
            size = len(data)
            if size < self._left:
                self._left -= size
                self._exchange.answer_data([data])
                return
            self._clean = size == self._left
            if not self._clean:
                data = data[: self._left]
            self._exchange.answer_end([data] if data else NO_PIECES, b"")

    def _chunks(self, data: bytes) -> None:
        decoder, framing = self._decoder, self._framing
        assert decoder is not None  # noqa: S101  made with the mode
        assert framing is not None  # noqa: S101  it told the mode
        try:
            pieces = decoder.feed(data)
        except ChunkError:
            self._exchange.upstream_malformed("bad_chunk")
            return
        if decoder.done:
            self._clean = not decoder.rest
            self._exchange.answer_end(pieces, self._trailers(decoder, framing))
            return
        self._exchange.answer_data(pieces)
        if decoder.has_more:
            self._defer()

    def _trailers(self, decoder: ChunkDecoder, framing: ResponseFraming) -> bytes:
        return passing_trailers(decoder.trailers, framing.nominated) if decoder.trailers is not None else b""

    def _defer(self) -> None:
        """Let others have their turn before more chunks are decoded."""
        if not self._over:
            self._turns().leave(self._source(), self._go_on)

    def _turns(self) -> Deferred:
        deferred = self._deferred
        if deferred is None:
            deferred = self._deferred = Deferred(self._runtime.run_queue)
        return deferred

    def _source(self) -> asyncio.Transport:
        return CLOSED_TRANSPORT if self._connection is None else self._connection.transport

    def _go_on(self) -> None:
        decoder, deferred = self._decoder, self._turns()
        if not deferred.begin() or self._over or decoder is None:
            return
        self._chunks(b"")
        if self._over:
            return
        if self._connection is None and not decoder.has_more:
            self._exchange.upstream_malformed("truncated")  # it ended before the answer did
        else:
            deferred.end(self._source())

    def connection_lost(self, exc: Exception | None) -> None:
        """Act on the end of the connection: an answer may last until then, and chunks may still wait for their turn."""
        connection = self._connection
        self._connection = None
        if self._framing is None:
            if self._partial is not None:
                self._exchange.upstream_lost("truncated_head", stale=False)
            else:
                stale = connection is not None and connection.reused and not self._interim
                self._exchange.upstream_lost("closed_before_answer" if exc is None else "reset_before_answer", stale=stale)
        elif self._mode == MODE_UNTIL_CLOSE and exc is None:
            self._exchange.answer_end(NO_PIECES, b"")
        elif self._decoder is None or not self._decoder.has_more:
            self._exchange.upstream_lost("truncated", stale=False)

    def pause_writing(self) -> None:
        """Say that the backend takes no more."""
        self._exchange.upstream_paused()

    def resume_writing(self) -> None:
        """Say that it does again."""
        self._exchange.upstream_resumed()

    # What the exchange asks for

    def pause_answer(self) -> None:
        """Take no more of the answer."""
        self._turns().pause(self._source())

    def resume_answer(self) -> None:
        """Go on with the answer."""
        self._turns().resume(self._source(), self._go_on, has_more=self._decoder is not None and self._decoder.has_more)

    def release(self) -> None:
        """Give the connection back behind an answer that is whole; it ends if it cannot serve again."""
        self._over = True
        connection, framing = self._connection, self._framing
        self._connection = None
        if connection is None:
            return
        if self._clean and framing is not None and framing.keep_alive and connection.alive:
            if self._deferred is not None:
                connection.transport.resume_reading()
            connection.pool.release(connection)
        else:
            connection.codec = None
            connection.close()

    def close(self) -> None:
        """Let the answer go; nothing more is told."""
        self._over = True
        connection = self._connection
        self._connection = None
        if connection is not None:
            connection.codec = None
            connection.close()

    def detach(self) -> asyncio.Transport:
        """Give the connection away to another protocol."""
        self._over = True
        connection = self._connection
        assert connection is not None  # noqa: S101  the 101 came by it
        self._connection = None
        connection.codec = None
        return connection.transport
