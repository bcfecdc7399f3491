"""TLS over a plain connection: OpenSSL between two buffers in memory, on either side of the handshake.

To the stream above, a leg is its transport; to the transport below, it is the stream. uvloop's own TLS takes a quarter more memory
and a sixth more for a handshake (benchmarks/JOURNAL.md), does not say why a handshake failed, and buffers once more.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from proxy.shells import NOWHERE, Shell, Stream

PIECE: Final = 32 * 1024
"""Bytes that pass through OpenSSL's buffers at once, as these never shrink: two records' worth (RFC 8446, 5.1)."""

MOST_WAITING: Final = 1024 * 1024
"""Bytes that may wait for a peer that makes OpenSSL answer it and reads nothing: far more than streams let wait."""

SHAKING: Final = 0
FAILED: Final = 1
"""The handshake failed: the stream never learns of the connection."""
OPEN: Final = 2
CLOSING: Final = 3
"""What still comes is discarded, what is still written too."""


class SecureLeg:
    """One TLS connection. `finished` is called once, when its handshake succeeded (None) or failed (why)."""

    __slots__ = ("_broken", "_ended", "_finished", "_incoming", "_object", "_outgoing", "_phase", "_stream", "_transport")

    def __init__(
        self,
        stream: Stream,
        context: ssl.SSLContext,
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
        self._phase = SHAKING
        self._broken = False
        """What came is no TLS any more."""
        self._ended = False
        """The peer's close_notify came (RFC 8446, 6.1), or its FIN."""

    def made(self, transport: asyncio.Transport) -> None:
        """Begin the handshake, as a client."""
        self.begin(transport, b"")

    def begin(self, transport: asyncio.Transport, early: bytes) -> None:
        """Begin the handshake over `transport`, from which `early` was read already."""
        self._transport = transport
        if early:
            self.received(early)
        else:
            self._shake()

    def received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        phase = self._phase
        if phase == OPEN:
            if self._ended:
                return
            if len(data) <= PIECE:
                self._incoming.write(data)
                self._deliver(self._decrypt())
            else:
                # As one, since the stream may want no more after a part.
                found = []
                for at in range(0, len(data), PIECE):
                    self._incoming.write(data[at : at + PIECE])
                    found.append(self._decrypt())
                self._deliver(b"".join(found))
        elif phase == SHAKING:
            self._incoming.write(data[:PIECE])
            self._shake()
            if len(data) > PIECE:
                self.received(data[PIECE:])

    def half_closed(self) -> bool:
        """Take a FIN, with or without a close_notify before it: what it may have cut, the stream's own framing tells."""
        if self._phase != OPEN:
            return False
        if not self._ended:
            self._end()
        return self._phase == OPEN

    def gone(self, exc: Exception | None) -> None:
        """End."""
        phase = self._phase
        self._transport = NOWHERE
        if phase >= OPEN:
            self._phase = CLOSING
            self._stream.gone(exc)
        elif phase == SHAKING:
            self._fail(exc or ConnectionResetError("the peer ended the connection during the handshake"))

    def full(self) -> None:
        """Stop writing."""
        if self._phase >= OPEN:
            self._stream.full()

    def ready(self) -> None:
        """Go on writing."""
        if self._phase >= OPEN:
            self._stream.ready()

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
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: Shell) -> None:
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
        self._stream.made(cast("asyncio.Transport", self))
        if self._incoming.pending and self._phase == OPEN:
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
        """Take what can be read. The end, if there is one, is noted."""
        incoming, secure = self._incoming, self._object
        found: list[bytes] = []
        try:
            size = incoming.pending
            while True:
                data: bytes = secure.read(size)
                if not data:
                    self._ended = True
                    break
                if not incoming.pending and (len(data) < size or not secure.pending()):
                    if not found:
                        return data
                    found.append(data)
                    break
                found.append(data)
                size = PIECE
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._flush()  # an alert that says why
            self._phase = CLOSING
            self._broken = True
        return b"".join(found)

    def _deliver(self, data: bytes) -> None:
        if self._outgoing.pending:  # the answer to a KeyUpdate (RFC 8446, 4.6.3)
            self._flush()
            if self._transport.get_write_buffer_size() > MOST_WAITING:
                self.abort()
                return
        if data:
            self._stream.received(data)
        if self._broken:
            self._transport.close()
        elif self._ended and self._phase == OPEN:
            self._end()
            if self._phase == CLOSING:
                self._transport.close()

    def _end(self) -> None:
        """Take the peer's end: the stream may have something to say still."""
        self._ended = True
        if not self._stream.half_closed():
            self._notify()

    def _notify(self) -> None:
        """Send a close_notify; nothing is written after it."""
        self._phase = CLOSING
        with contextlib.suppress(ssl.SSLError):  # SSLWantReadError: the peer's has not come
            self._object.unwrap()
        self._flush()
