# Compiled by mypyc: see setup.py.
"""TLS over a plain connection: OpenSSL between two buffers in memory, on either side of the handshake.

One turn of the event loop takes a bounded number of records; while there are more, the transport below is not read.

To the stream above, this is its transport; to the transport below, it is the stream. uvloop's own TLS takes a quarter more memory
and a sixth more for a handshake (benchmarks/JOURNAL.md), does not say why a handshake failed, and buffers once more.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from proxy.platform.socket_queues import take_unread
from proxy.transport.deferred import Deferred
from proxy.transport.protocol_adapter import CLOSED_TRANSPORT, ProtocolAdapter, Stream
from proxy.transport.run_queue import RunQueue

PIECE: Final = 32 * 1024
"""Bytes that pass through OpenSSL's buffers at once, as these never shrink: two records' worth (RFC 8446, 5.1)."""

RECORDS_PER_TURN: Final = 64
"""Records of a peer that are decrypted before others have their turn: about 0.1 ms where they are small."""

SMALL_PIECE: Final = 2 * 1024
"""The same of a peer whose last piece held more of TLS than of payload."""

MOST_WAITING: Final = 1024 * 1024
"""Bytes that may wait for a peer that makes OpenSSL answer it and reads nothing: far more than streams let wait."""

HANDSHAKING: Final = 0
FAILED: Final = 1
"""The handshake failed: the stream never learns of the connection."""
OPEN: Final = 2
CLOSING: Final = 3
"""Bytes that still come or are still written are discarded."""


class TlsStream:
    """One TLS connection. `finished` is called once, when its handshake succeeded (None) or failed (why)."""

    __slots__ = (
        "_at",
        "_broken",
        "_ended",
        "_finished",
        "_has_more",
        "_incoming",
        "_late",
        "_object",
        "_outgoing",
        "_phase",
        "_piece",
        "_records",
        "_stream",
        "_transport",
        "_turns",
    )

    def __init__(
        self,
        stream: Stream,
        context: ssl.SSLContext,
        run_queue: RunQueue,
        finished: Callable[[Exception | None], None],
        *,
        server_side: bool,
        server_name: str | None = None,
    ) -> None:
        self._stream = stream
        self._finished: Callable[[Exception | None], None] | None = finished
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name)
        self._transport: asyncio.Transport
        self._phase = HANDSHAKING
        self._broken = False
        """The peer's bytes are no TLS any more."""
        self._ended = False
        """The peer's close_notify came (RFC 8446, 6.1), or its FIN."""
        self._piece: int = PIECE
        self._records = 0
        """How many more may be decrypted in this turn."""
        self._late = b""
        self._at = 0
        """Bytes that came and did not go to OpenSSL yet are in `_late`, from `_at` on."""
        self._has_more = False
        """More is here than was decrypted or told."""
        self._turns = Deferred(run_queue)
        """More waits for its turn, and whether the stream wants to be told nothing."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin the handshake, as a client."""
        self.begin(transport, b"")

    def begin(self, transport: asyncio.Transport, early: bytes) -> None:
        """Begin the handshake over `transport`, from which `early` was read already."""
        self._transport = transport
        if early:
            self.data_received(early)
        else:
            self._shake()

    def data_received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        phase = self._phase
        if phase == OPEN:
            if self._ended:
                return
            if self._has_more:
                self._late, self._at = self._late[self._at :] + data, 0
                return
            self._records = RECORDS_PER_TURN
            if len(data) <= SMALL_PIECE:
                self._incoming.write(data)
                self._deliver(self._decrypt())
            else:
                self._late, self._at = data, 0
                self._take_late()
        elif phase == HANDSHAKING:
            self._incoming.write(data[:PIECE])
            self._shake()
            if len(data) > PIECE:
                self.data_received(data[PIECE:])

    def _take_late(self) -> None:
        """Decrypt what came, as much as this turn may, and deliver it as one: the stream may want no more after a part."""
        pieces = [self._decrypt()] if self._incoming.pending or self._object.pending() else []
        late = self._late
        while self._at < len(late) and self._records > 0 and not self._ended and not self._broken:
            piece = late[self._at : self._at + self._piece]
            self._incoming.write(piece)
            self._at += len(piece)
            data = self._decrypt()
            pieces.append(data)
            if len(data) * 2 >= len(piece):
                self._piece = PIECE
            elif len(piece) > SMALL_PIECE:
                # Records without payload, such as updates of keys, pass through OpenSSL uncounted, many in one call.
                self._piece = SMALL_PIECE
                self._records = 0
            else:
                self._records -= RECORDS_PER_TURN // 4
        if self._at >= len(late):
            self._late, self._at = b"", 0
        else:
            self._has_more = True
        self._deliver(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _defer(self) -> None:
        """Put off decrypting more to a later turn of the loop."""
        self._turns.leave(self._transport, self._go_on)

    def _go_on(self) -> None:
        if not self._turns.begin() or self._phase != OPEN:
            return
        self._has_more = False
        self._records = RECORDS_PER_TURN
        self._take_late()
        if not self._has_more:
            self._turns.end(self._transport)

    def eof_received(self) -> bool:
        """Take a FIN, with or without a close_notify before it: what it may have cut, the stream's own framing tells."""
        if self._phase != OPEN:
            return False
        if not self._ended:
            self._end()
        return self._phase == OPEN

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        phase = self._phase
        if exc is not None and phase == OPEN and not self._object.server_side:
            self.data_received(take_unread(self._transport))  # what a backend answered before it reset the connection
            self._turns.queued = True  # nothing is put off any more
            while self._has_more and self._phase == OPEN and not self._ended:
                self._has_more = False
                self._records = RECORDS_PER_TURN
                self._take_late()
            phase = self._phase
        self._transport = CLOSED_TRANSPORT
        if phase >= OPEN:
            self._phase = CLOSING
            self._stream.connection_lost(exc)
        elif phase == HANDSHAKING:
            self._fail(exc or ConnectionResetError("the peer ended the connection during the handshake"))

    def pause_writing(self) -> None:
        """Stop writing."""
        if self._phase >= OPEN:
            self._stream.pause_writing()

    def resume_writing(self) -> None:
        """Go on writing."""
        if self._phase >= OPEN:
            self._stream.resume_writing()

    def write(self, data: bytes) -> None:
        """Send, unless the connection ends."""
        if self._phase != OPEN or not data:
            return
        if len(data) <= PIECE:
            self._object.write(data)
            self._transport.write(self._outgoing.read())
        else:
            for at in range(0, len(data), PIECE):
                self._object.write(data[at : at + PIECE])
                self._transport.write(self._outgoing.read())

    def close(self) -> None:
        """Send what was written, a close_notify and a FIN; the connection is gone when the peer has ended too."""
        if self._phase == OPEN:
            self._notify()
            transport = self._transport
            if self._ended:
                transport.close()
            elif not transport.is_closing():
                transport.write_eof()
                transport.resume_reading()  # closing a socket with unread bytes would reset it

    def detach(self) -> asyncio.Transport:
        """Send what was written and a close_notify, and give the connection beneath away: its end is its taker's, not told here."""
        if self._phase == OPEN:
            self._notify()
        transport, self._transport = self._transport, CLOSED_TRANSPORT
        return transport

    def abort(self) -> None:
        """End at once."""
        if self._phase == OPEN:
            self._phase = CLOSING
        self._transport.abort()

    def is_closing(self) -> bool:
        """Tell whether nothing more can be written."""
        return self._phase == CLOSING or self._transport.is_closing()

    def pause_reading(self) -> None:
        """Read nothing."""
        self._turns.pause(self._transport)

    def resume_reading(self) -> None:
        """Read again."""
        self._turns.resume(self._transport, self._go_on, has_more=self._has_more)

    def set_protocol(self, protocol: ProtocolAdapter) -> None:
        """Give the connection to another stream."""
        self._stream = protocol.stream

    def set_write_buffer_limits(self, high: int) -> None:
        """Set after how many bytes that wait the stream is told."""
        self._transport.set_write_buffer_limits(high=high)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait, encrypted: nothing waits in here."""
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: object = None) -> Any:
        """Return what asyncio's transports return."""
        return self._object if name == "ssl_object" else self._transport.get_extra_info(name, default)

    def _shake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # an alert that says why
            self._fail(error)
            return
        self._flush()
        self._phase = OPEN
        self._say(None)
        self._stream.connection_made(cast("asyncio.Transport", self))
        if self._incoming.pending and self._phase == OPEN:
            self._records = RECORDS_PER_TURN
            self._deliver(self._decrypt())

    def _fail(self, error: Exception) -> None:
        self._phase = FAILED
        self._say(error)

    def _say(self, error: Exception | None) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(error)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _decrypt(self) -> bytes:
        """Take what can be read in this turn. The end, if there is one, is noted."""
        incoming, secure = self._incoming, self._object
        pieces: list[bytes] = []
        try:
            # Not 0, which would read as the end: OpenSSL may hold the rest of a record that the turn before this one began.
            size = incoming.pending or PIECE
            while True:
                data: bytes = secure.read(size)
                if not data:
                    self._ended = True
                    break
                if not incoming.pending and (len(data) < size or not secure.pending()):
                    if not pieces:
                        return data
                    pieces.append(data)
                    break
                pieces.append(data)
                size = PIECE
                self._records -= 1
                if self._records <= 0:
                    self._has_more = True
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._flush()  # an alert that says why
            self._phase = CLOSING
            self._broken = True
        return b"".join(pieces)

    def _deliver(self, data: bytes) -> None:
        if self._outgoing.pending:  # the answer to a KeyUpdate (RFC 8446, 4.6.3)
            self._flush()
            if self._transport.get_write_buffer_size() > MOST_WAITING:
                self.abort()
                return
        if data:
            self._stream.data_received(data)
        if self._broken:
            self._transport.close()
        elif self._phase != OPEN:
            return
        elif self._ended and not self._turns.paused:
            self._end()
            if self._phase == CLOSING:
                self._transport.close()
        elif self._ended:
            self._has_more = True  # told when the stream wants to be told again
        elif self._has_more:
            self._defer()

    def _end(self) -> None:
        """Take the peer's end: the stream may have something to say still."""
        self._ended = True
        if not self._stream.eof_received():
            self._notify()

    def _notify(self) -> None:
        """Send a close_notify; nothing is written after it."""
        self._phase = CLOSING
        with contextlib.suppress(ssl.SSLError):  # SSLWantReadError: the peer's has not come
            self._object.unwrap()
        self._flush()
