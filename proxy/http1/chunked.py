# Compiled by mypyc: see setup.py.
"""Bodies as they are framed on the wire: a strict decoder of the chunked coding (RFC 9112, 7.1), and the encoding of a chunk."""

import re
from typing import Final

from proxy.http1.head_scanner import MAX_FIELDS

MAX_LINE: Final = 1024
"""Bytes of a chunk's size line, extensions included."""
MAX_TRAILERS: Final = 8192
MAX_OVERHEAD: Final = 16 * 1024
"""Bytes of extensions that one body may carry."""

LINES_PER_TURN: Final = 128
"""Lines between chunks, so chunks, that are decoded at once: about 0.2 ms."""

# RFC 9112, 7.1.1: no whitespace at the end, no empty extension. Sets of characters are possessive, so that nothing is tried twice;
# possessive groups take half of a repetition on Python before 3.11.5 (python/cpython#106052).
_NAME: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED: Final = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION: Final = rb"[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?" % (_NAME, _NAME, _QUOTED)
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:%b)*" % _EXTENSION)
_TRAILER: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_IN_SIZE: Final = 0
_IN_DATA: Final = 1
_AFTER_DATA: Final = 2
_IN_TRAILER: Final = 3
_DONE: Final = 4


class ChunkError(Exception):
    """The coding is broken; nothing after this point can be trusted."""


class ChunkDecoder:
    """Takes the bytes of a chunked body; gives its payload, a bounded number of chunks at a time.

    Extensions are checked and dropped.
    """

    __slots__ = ("_at", "_data", "_overhead", "_remaining", "_state", "has_more", "trailers")

    def __init__(self) -> None:
        self._state = _IN_SIZE
        self._data = b""
        self._at = 0
        """Where in `_data` that begins which was not decoded yet."""
        self._remaining = 0
        self._overhead = 0
        self.has_more = False
        """More of the body is here than was decoded: feed nothing (`b""`) to go on."""
        self.trailers: list[bytes] | None = None
        """Fields behind the body, without their CRLF, as far as they have come; None: there are none."""

    @property
    def done(self) -> bool:
        """Whether the last chunk and its trailers have passed."""
        return self._state == _DONE

    @property
    def rest(self) -> bytes:
        """What followed the end of the body; nothing while that has not come."""
        return self._data[self._at :] if self.done else b""

    def rest_from(self) -> tuple[bytes, int]:
        """Return what followed the end of the body without a copy: bytes, and where in them it begins."""
        return self._data, self._at

    def add(self, data: bytes) -> None:
        """Keep what came while there is more than was decoded."""
        self._data, self._at = self._data[self._at :] + data, 0

    def feed(self, data: bytes, at: int = 0) -> list[bytes]:
        """Return pieces of the payload in `data`, from `at` on, behind what is kept; raises `ChunkError`."""
        pieces: list[bytes] = []
        position = at
        if self._data:
            if data:
                data, position = self._data[self._at :] + data[at:], 0
            else:
                data, position = self._data, self._at
            self._data, self._at = b"", 0
        size = len(data)
        lines = LINES_PER_TURN
        self.has_more = False
        while position < size and self._state != _DONE:
            if self._state == _IN_DATA:
                end = min(position + self._remaining, size)
                pieces.append(data[position:end])
                self._remaining -= end - position
                position = end
                if not self._remaining:
                    self._state = _AFTER_DATA
                continue
            if self._state == _AFTER_DATA:
                if size - position < 2:
                    if data[position:] != b"\r":
                        raise ChunkError("the chunk is longer than its size")
                    break
                if data[position : position + 2] != b"\r\n":
                    raise ChunkError("the chunk is longer than its size")
                position += 2
                self._state = _IN_SIZE
                continue
            if not lines:
                self.has_more = True
                break
            lines -= 1
            end = data.find(b"\n", position)
            limit = MAX_LINE if self._state == _IN_SIZE else MAX_TRAILERS
            if end < 0:
                if size - position > limit:
                    raise ChunkError("a line between chunks is too long")
                break
            line = data[position:end]
            if not line.endswith(b"\r") or len(line) > limit:
                raise ChunkError("a line between chunks is malformed")
            position = end + 1
            self._line(line[:-1])
        if self.has_more or self._state == _DONE:
            self._data, self._at = data, position
        else:
            self._data = data[position:]
        return pieces

    def _line(self, line: bytes) -> None:
        if self._state == _IN_SIZE:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise ChunkError("the chunk's size is malformed")
            self._remaining = int(match[1], 16)
            self._overhead += len(line) - len(match[1])
            self._state = _IN_DATA if self._remaining else _IN_TRAILER
        elif not line:
            self._state = _DONE
        elif _TRAILER.fullmatch(line) is None:
            raise ChunkError("a trailer is malformed")
        else:
            self._overhead += len(line)
            if self.trailers is None:
                self.trailers = []
            elif len(self.trailers) >= MAX_FIELDS:
                raise ChunkError("there are too many trailers")
            self.trailers.append(line)
        if self._overhead > MAX_OVERHEAD:
            raise ChunkError("the chunks carry too many extensions or trailers")


def chunk(data: bytes) -> bytes:
    """Encode one chunk; `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"


def encode_chunks(pieces: list[bytes]) -> bytes:
    """Encode each piece of a body as a chunk."""
    return chunk(pieces[0]) if len(pieces) == 1 else b"".join([chunk(piece) for piece in pieces])


def last_chunk(trailers: bytes) -> bytes:
    """Encode the end of a body; `trailers`: lines of fields, each with its CRLF."""
    return b"0\r\n%b\r\n" % trailers if trailers else LAST_CHUNK
