# Compiled by mypyc: see setup.py.
"""Requests in HTTP/1.1: the client's bytes become heads and pieces of bodies, and a request becomes bytes for a backend.

A codec: it frames, and decides nothing. What came is in `buffer` from `at` on, and behind that in `late`: what came while
something was in `buffer`, or the beginning of a head whose end is not here. So no byte is copied more than twice, however small
the pieces are in which it comes.
"""

from typing import Final

from proxy.http.local_replies import BAD_REQUEST
from proxy.http.message import UNKNOWN_LENGTH, Answer, Client, Request
from proxy.http1.chunked import ChunkDecoder
from proxy.http1.fields import RequestFraming, read_request, without
from proxy.http1.head_scanner import MAX_FIELDS, MAX_HEAD, MAX_LINE, scan_request_line
from proxy.http1.partial_head import PartialHead, find_end
from proxy.http1.reference_parser import parse_request
from proxy.http1.trailers import passing_trailers
from proxy.runtime.state import Runtime

INCOMPLETE: Final = 0
READY: Final = 1
REFUSED: Final = 2

_NONE: Final = RequestFraming()


class RequestReader:
    """The requests of one client's connection, in order: `next_head` until it has none, `body` while `body_open`."""

    __slots__ = (
        "_client",
        "_decoder",
        "_head",
        "_left",
        "_memo_fields",
        "_memo_framing",
        "_memo_inspected",
        "_memo_version",
        "_runtime",
        "at",
        "body_open",
        "buffer",
        "forwarded",
        "framing",
        "late",
        "lines",
        "method",
        "refusal",
        "refused",
        "target",
        "trailers",
        "version",
    )

    def __init__(self, runtime: Runtime, client: Client) -> None:
        self._runtime = runtime
        self._client = client
        self.buffer = b""
        self.at = 0
        """Where in `buffer` that begins which was not read yet. When all was read, there is no buffer."""
        self.late: bytearray | None = None
        """What came behind `buffer`."""
        self._head: PartialHead | None = None
        """What `late` begins with is a head whose end is not here."""
        self.method = ""
        """Of the head that is READY: its line;"""
        self.target = ""
        self.version = 0
        self.lines: list[bytes] = []
        """its fields' lines;"""
        self.framing = _NONE
        """what they say;"""
        self.forwarded = b""
        """what of them goes to the backend, each with its CRLF."""
        self._memo_fields = b""
        """Bytes of the last head behind its request line: clients repeat them. What is remembered ends with the empty line."""
        self._memo_framing: RequestFraming | None = None
        self._memo_inspected: list[bytes] = []
        self._memo_version = 0
        self.refusal = BAD_REQUEST
        """Why a head was REFUSED;"""
        self.refused = b""
        """and how it begins, where it was read; else it is what was not read yet."""
        self.body_open = False
        """What comes belongs to a body."""
        self.trailers = b""
        """Fields behind the last body that pass, each with its CRLF."""
        self._left = 0
        self._decoder: ChunkDecoder | None = None

    def add(self, data: bytes) -> None:
        """Take bytes that belong to no body, or wait behind one."""
        if self.late is not None:
            self.late += data
        elif self.buffer:
            self.late = bytearray(data)
        else:
            self.buffer, self.at = data, 0

    @property
    def unread_bytes(self) -> int:
        """Bytes that came and were not read yet."""
        late = self.late
        return len(self.buffer) - self.at + (len(late) if late is not None else 0)

    def take_rest(self) -> bytes:
        """Take what came and was not read yet."""
        rest = self.buffer[self.at :]
        if self.late is not None:
            rest += self.late
        self.drop_rest()
        return rest

    def drop_rest(self) -> None:
        """Forget what came and was not read yet."""
        self.buffer, self.at, self.late, self._head = b"", 0, None, None

    def next_head(self) -> int:
        """Read the first head that is here: READY, REFUSED, or INCOMPLETE while it is not whole."""
        if self.late is not None and not self._join():
            return self._judge()
        data, at = self.buffer, self.at
        if data[at : at + 1] in b"\r\n":
            # RFC 9112, 2.2: an empty line before a request is to be ignored; one CRLF is.
            if data.startswith(b"\r\n", at) and len(data) > at + 2 and not data.startswith(b"\r\n\r\n", at):
                at += 2
            elif len(data) - at <= 2 and b"\r\n".startswith(data[at:]):
                return self._wait()
        line_end = data.find(b"\r\n", at)
        memo = self._memo_fields
        if memo and at < line_end <= at + MAX_LINE and data.startswith(memo, line_end):
            line = scan_request_line(data[at:line_end])
            if line is not None and line[2] == self._memo_version:
                end = line_end + len(memo)
                self.buffer, self.at = (data, end) if end < len(data) else (b"", 0)
                self.method, self.target, self.version = line
                return READY
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
        late, head = self.late, self._head
        assert late is not None  # noqa: S101  the caller looked
        if head is None:
            if self.buffer:
                if self.buffer.find(b"\r\n\r\n", self.at) >= 0:
                    return True  # a whole head comes first
                late[:0] = self.buffer[self.at :]
        elif find_end(late, head.seen) < 0:
            return False
        self.buffer, self.at, self.late, self._head = bytes(late), 0, None, None
        return True

    def _wait(self) -> int:
        """Wait for the rest of a head that has begun."""
        self.buffer, self.at, self.late, self._head = b"", 0, bytearray(self.buffer[self.at :]), PartialHead()
        return self._judge()

    def _judge(self) -> int:
        """Refuse the beginning of a head that can become nothing any more."""
        late, head = self.late, self._head
        assert late is not None  # noqa: S101  the callers looked
        assert head is not None  # noqa: S101
        problem = head.look(late)
        if problem is None:
            return INCOMPLETE
        self.refusal, self.refused = problem, b""
        return REFUSED

    def _read_head(self, data: bytes, line_end: int, end: int) -> int:
        """Read a head whose line ends at `line_end` and whose fields end at `end`."""
        runtime = self._runtime
        line: tuple[str, str, int] | None = None
        lines = data[line_end + 2 : end].split(b"\r\n") if line_end < end else []
        forwarded: list[bytes] = []
        inspected: list[bytes] = []
        if end <= MAX_HEAD - 4 and line_end <= MAX_LINE and len(lines) <= MAX_FIELDS:
            line = scan_request_line(data[:line_end])
        if line is None or not runtime.request_lines.sort(lines, forwarded, inspected):
            parsed = parse_request(data[: end + 4], runtime.loop)
            if isinstance(parsed, Answer):
                return self._refuse(parsed, data)
            line, lines = parsed[:3], parsed[3]
            forwarded, inspected = [], []
            if not runtime.request_lines.sort(lines, forwarded, inspected):
                return self._refuse(BAD_REQUEST, data)
        framing = self._memo_framing
        # What the fields say depends on the method only where it is judged as a handshake.
        if framing is None or inspected != self._memo_inspected or line[2] != self._memo_version or framing.attempt:
            judged = read_request(
                *(inspected, line[0], line[2], self._client), trusts=runtime.trusts, forwarded=runtime.settings.forwarded
            )
            if isinstance(judged, Answer):
                return self._refuse(judged, data)
            framing = self._memo_framing = judged
            self._memo_inspected, self._memo_version = inspected, line[2]
        if framing.dropped:
            forwarded = without(forwarded, framing.dropped)
        forwarded.append(framing.added)
        # Whether an attempt is well-formed depends on its method too.
        self._memo_fields = b"" if framing.attempt else data[line_end : end + 4]
        self.method, self.target, self.version = line
        self.lines, self.framing, self.forwarded = lines, framing, b"\r\n".join(forwarded)
        return READY

    def _refuse(self, refusal: Answer, head: bytes) -> int:
        self.refusal, self.refused = refusal, head
        return REFUSED

    def begin_body(self, length: int) -> list[bytes]:
        """Read a body next, and return what is here of it; see `body`."""
        self.body_open = True
        self.trailers = b""
        self._left = length
        self._decoder = ChunkDecoder() if length == UNKNOWN_LENGTH else None
        if self.late is not None:
            return self.body(self.take_rest(), 0)
        data, at = self.buffer, self.at
        self.buffer, self.at = b"", 0
        return self.body(data, at)

    @property
    def has_more(self) -> bool:
        """More of the body is here than one turn may decode: go on with `body(b"", 0)`."""
        decoder = self._decoder
        return decoder is not None and decoder.has_more

    def keep(self, data: bytes) -> None:
        """Keep what came while there is more."""
        decoder = self._decoder
        assert decoder is not None  # noqa: S101  only it leaves any
        decoder.add(data)

    def body(self, data: bytes, at: int) -> list[bytes]:
        """Take a body apart: return pieces of it in `data`, from `at` on; what follows its end waits. Raises ChunkError."""
        decoder = self._decoder
        if decoder is None:
            size = len(data) - at
            if size > self._left:
                size = self._left
                self.buffer, self.at = data, at + size
                data = data[at : at + size]
            elif at:
                data = data[at:]
            self._left -= size
            if not self._left:
                self.body_open = False
            return [data] if data else []
        pieces = decoder.feed(data, at)
        if decoder.done:
            self.body_open = False
            self._decoder = None
            rest, begin = decoder.rest_from()
            if begin < len(rest):
                self.buffer, self.at = rest, begin
            if decoder.trailers is not None:
                self.trailers = passing_trailers(decoder.trailers, self.framing.dropped)
        return pieces


def encode_request(request: Request) -> bytes:
    """Write a request's head for a backend: with `request.fields`, and those that are ours to say last."""
    tail = f"X-Request-ID: {request.id}\r\n"
    if request.length == UNKNOWN_LENGTH:
        tail += "Transfer-Encoding: chunked\r\n"
    if request.upgrade:
        tail += "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    if not request.authority:
        tail = "Host: \r\n" + tail
    return b"%b%b%b\r\n" % (
        f"{request.method} {request.sent_target} HTTP/1.1\r\n".encode("latin-1"),
        request.fields,
        tail.encode("latin-1"),
    )
