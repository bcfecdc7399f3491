# Compiled by mypyc: see setup.py.
"""A scanner of frame headers (RFC 6455, 5.2): counts messages, knows boundaries and close codes, refuses malformed headers.

Sans-I/O, one per direction. It changes no byte and keeps none but an unfinished header (at most 13 bytes), of a close frame its
code too, so that what it returns for forwarding never ends inside: a frame that turns out malformed was not begun at the other
end. The same holds for a message that a limit forbids. Where the proxy pings, the answers are taken out: a pong that may be one is
kept until it is whole (at most 17 bytes), and a frame of ours is put in where a frame ends.
It scans a bounded number of frames at a time; what is behind them is kept until `scan` is called again, with nothing.
Written to be compiled: plain slots, integers and bytes. The reader of what `attention` announces calls `clear_attention`.
"""

from typing import Final

from proxy.websocket.message_rate import MessageRate

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
"""Opcodes (RFC 6455, 5.2). `Final`, as all that is compared for each frame: then mypyc writes the number in place of the name."""
NO_CODE: Final = 1005
ABNORMAL: Final = 1006
"""RFC 6455, 7.4.1: a close frame without a code; no close frame at all."""
UNSENDABLE: Final = frozenset((1005, 1006, 1015))
"""Codes that no close frame may carry; nor one below 1000 (RFC 6455, 7.4). Others may mean something one day, and pass."""
TOO_BIG: Final = 1009
POLICY: Final = 1008
"""Close codes for a message that is too large, and for one that comes too soon."""
UNLIMITED: Final = 1 << 60
FRAMES_PER_TURN: Final = 256
"""Frames that are scanned at once: about 0.1 ms compiled, 0.5 ms not."""
NONCE_BYTES: Final = 8
PING_BYTES: Final = 12
"""Payload of our pings: the socket's nonce, and a number in 4 bytes."""


class FrameScanner:
    """The frames of one direction."""

    __slots__ = (
        "_close_at",
        "_counting",
        "_fast_until",
        "_fin",
        "_in_message",
        "_masked",
        "_max_message",
        "_message_size",
        "_opcode",
        "_partial_at",
        "_partial_header",
        "_rate",
        "_short_header",
        "attention",
        "close_code",
        "close_seen",
        "error",
        "frame_to_insert",
        "has_more",
        "messages",
        "nonce",
        "payload_bytes",
        "pending",
        "permissive",
        "ping_seen",
        "pong_number",
        "pong_seen",
        "remaining",
        "track_pings",
        "violation_code",
        "withhold_close",
    )

    def __init__(self, *, masked: bool, extensions: bool) -> None:
        self._masked = 0x80 if masked else 0
        self._short_header = 6 if masked else 2
        self.permissive = extensions
        """An extension was negotiated: reserved bits and opcodes are its business."""
        self._partial_header = b""
        self._partial_at = 0
        """Where in `_partial_header` that begins which was not scanned yet."""
        self._opcode = 0
        self._fin = 0
        self._in_message = False
        self.remaining = 0
        """Payload bytes of the current frame still to come."""
        self.messages = 0
        """Whole data messages."""
        self.payload_bytes = 0
        """Payload bytes of data frames."""
        self.close_seen = False
        """A whole close frame passed."""
        self.close_code = NO_CODE
        self.withhold_close = False
        """A close frame is looked at and not forwarded: one of ours goes in its place."""
        self._close_at = -1
        """Where in what is scanned it begins; -1: it has not come."""
        self.error = ""
        """Name (causes.py) of the fault in the header at which scanning stopped; nothing is scanned after it."""
        self.violation_code = 0
        """Close code for the sender of a message that a limit forbids, which was not begun at the other end; what follows waits in
        `pending` until `stop_enforcing`. 0: none."""
        self.frame_to_insert = b""
        """A frame of ours that goes in where the frame under way ends; empty again once it is in."""
        self.nonce = b""
        """The first bytes of pongs that answer our pings; empty: this side is not pinged."""
        self.track_pings = False
        """The application's pings and pongs get attention."""
        self.pong_number = 0
        """Number of the last of our pings that was answered; 0: none since this was read."""
        self.ping_seen = False
        self.pong_seen = False
        """A ping, or a pong, of the application passed."""
        self.attention = False
        """Something was seen: look at the fields above."""
        self.pending = b""
        """Bytes that `scan_to_boundary` left for later."""
        self.has_more = False
        """More is here than was scanned: `scan` nothing (`b""`) to go on."""
        self._counting = True
        """Messages are forwarded, and so counted."""
        self._max_message = UNLIMITED
        """Payload bytes that a message may have."""
        self._message_size = 0
        """Payload bytes of the message under way that were announced so far."""
        self._rate: MessageRate | None = None
        self._fast_until = UNLIMITED
        """The fast path is open while fewer messages than this were counted: until attention is paid, until `_rate` allows more."""

    def limit(self, max_message: int, rate: MessageRate | None) -> None:
        """Allow messages of up to `max_message` payload bytes, as they are on the wire (0: any), and as often as `rate` says."""
        self._max_message = max_message or UNLIMITED
        self._rate = rate
        self.clear_attention()

    def stop_enforcing(self) -> None:
        """Allow any message and count none: nothing is forwarded any more. What waits in `pending` may be scanned."""
        self._max_message = UNLIMITED
        self._rate = None
        self._counting = False
        self.violation_code = 0
        self._call_attention()

    def clear_attention(self) -> None:
        """Reset `attention`, once it was acted on."""
        self.attention = False
        self._fast_until = UNLIMITED if self._rate is None else self.messages

    def _call_attention(self) -> None:
        self.attention = True
        self._fast_until = 0

    @property
    def between_messages(self) -> bool:
        """Whether no message is under way."""
        return self.remaining == 0 and not self._in_message and not self._partial_header

    @property
    def at_boundary(self) -> bool:
        """Whether what was returned for forwarding so far ends with a whole frame."""
        return self.remaining == 0

    def scan(self, data: bytes) -> bytes:
        """Take what arrived; return what may be forwarded now, in order."""
        if (
            self.remaining == 0
            and not self._partial_header
            and not self._in_message
            and (self.messages < self._fast_until or self._take_quota(data))
        ):
            size = len(data)
            if size >= 2:
                second = data[1]
                length = second & 0x7F
                first = data[0]
                if (first == 0x81 or first == 0x82) and second & 0x80 == self._masked:  # noqa: PLR1714  two compares are faster
                    if length < 126:
                        if size == self._short_header + length and length <= self._max_message:
                            self.messages += 1
                            self.payload_bytes += length
                            return data
                    elif length == 126 and size >= 4:
                        length = data[2] << 8 | data[3]
                        if length > 125 and size == self._short_header + 2 + length and length <= self._max_message:
                            self.messages += 1
                            self.payload_bytes += length
                            return data
        return self._scan(data, stop=False)

    def _take_quota(self, data: bytes) -> bool:
        """Take the allowance of the message that `data` begins with; False: it begins with none, or the fast path is closed."""
        rate = self._rate
        if rate is None or self.attention or not data or data[0] not in (0x81, 0x82) or not rate.take():
            return False
        self._fast_until = self.messages + 1
        return True

    def scan_to_boundary(self, data: bytes) -> bytes:
        """Like `scan`, up to the end of the frame that is under way; what follows it is left in `pending`."""
        return self._scan(data, stop=True)

    def _scan(self, data: bytes, *, stop: bool) -> bytes:
        if self.close_seen or self.error:
            return b"" if self.error or self.withhold_close else data
        if self.violation_code:
            self.pending += data
            return b""
        position = 0
        if self._partial_header:
            if data:
                data = self._partial_header[self._partial_at :] + data
            else:
                data, position = self._partial_header, self._partial_at
            self._partial_header, self._partial_at = b"", 0
            self.has_more = False
        start, size = position, len(data)
        frames = FRAMES_PER_TURN
        parts: list[bytes] = []
        while position < size:
            if self.remaining:
                take = min(self.remaining, size - position)
                self._count_payload(take)
                position += take
                self.remaining -= take
                if self.remaining:
                    break
                self._frame_ended()
            elif not frames:
                self._partial_header, self._partial_at, self.has_more = data, position, True
                self._call_attention()
                size = position
                break
            else:
                frames -= 1
                pong_size = self._own_pong(data, position, size) if self.nonce and data[position] == 0x8A else 0
                if pong_size > 0:
                    parts.append(data[start:position])
                    position += pong_size
                    start = position
                    continue
                header = 0 if pong_size else self._header(data, position, size)
                if header <= 0:
                    if self.violation_code:
                        self.pending = data[position:]
                    elif header == 0:
                        self._partial_header = data[position:]
                    size = position
                    break
                position += header
                if self.remaining == 0:
                    self._frame_ended()
            if self.remaining == 0:
                if self.frame_to_insert and not stop and not self.close_seen:
                    parts += (data[start:position], self.frame_to_insert)
                    start = position
                    self.frame_to_insert = b""
                    self._call_attention()
                if stop or self.close_seen:
                    break
        if stop and not self.violation_code:
            self.pending = data[position:size]
            size = position
        if self._close_at >= 0:
            size, self._close_at = self._close_at, 0
        if parts:
            parts.append(data[start:size])
            return b"".join(parts)
        return data[start:size]

    def _own_pong(self, data: bytes, position: int, size: int) -> int:
        """Look at a pong at `position`: its size if it answers a ping of ours, 0 if it does not, -1 if that cannot be known yet."""
        if size - position < 2:
            return -1
        if data[position + 1] != self._masked | PING_BYTES:
            return 0
        whole = self._short_header + PING_BYTES
        if size - position < whole:
            return -1
        payload = data[position + self._short_header : position + whole]
        if self._masked:
            key = data[position + 2 : position + 6]
            payload = bytes([byte ^ key[index & 3] for index, byte in enumerate(payload)])
        if not payload.startswith(self.nonce):
            return 0
        self.pong_number = max(self.pong_number, int.from_bytes(payload[NONCE_BYTES:], "big"))
        self._call_attention()
        return whole

    def _count_payload(self, take: int) -> None:
        if self._opcode < CLOSE and self._counting:
            self.payload_bytes += take

    def _header(self, data: bytes, position: int, size: int) -> int:
        """Take a frame header at `position`: its size, 0 if it is not whole yet, -1 if it is malformed."""
        first = data[position]
        error = self._first_byte_error(first)
        if not error and size - position >= 2:
            error = self._second_byte_error(first, data[position + 1])
        if error:
            return self._fail(error)
        if size - position < 2:
            return 0
        length = data[position + 1] & 0x7F
        extended = 0 if length < 126 else 2 if length == 126 else 8
        whole = 2 + extended + (4 if self._masked else 0)
        if size - position < whole:
            return 0
        if extended:
            length = int.from_bytes(data[position + 2 : position + 2 + extended], "big")
            if length >> 63:
                return self._fail("length_too_large")
            if length < (126 if extended == 2 else 65536):
                return self._fail("length_not_minimal")
        opcode = first & 0x0F
        if opcode < CLOSE and self._violates_limit(opcode, length):
            return -1
        if opcode == CLOSE and length:
            if size - position < whole + 2:
                return 0
            code = self._code_of(data, position + whole)
            if (code < 1000 or code in UNSENDABLE) and not first & 0x70:
                return self._fail("close_code")
            self.close_code = code
        self._opcode = opcode
        self._fin = first & 0x80
        self.remaining = length
        if opcode == CLOSE:
            if self.withhold_close:
                self._close_at = position
        elif opcode <= BINARY or (opcode < CLOSE and not self._in_message):
            # An extension's opcode inside a message is its own business.
            self._in_message = not self._fin
        return whole

    def _code_of(self, data: bytes, start: int) -> int:
        """Return the code of a close frame whose payload begins at `start`, behind its mask."""
        high, low = data[start], data[start + 1]
        if self._masked:
            high, low = high ^ data[start - 4], low ^ data[start - 3]
        return high << 8 | low

    def _violates_limit(self, opcode: int, length: int) -> bool:
        """Tell whether a limit forbids the data frame of this header, and so its message."""
        begins = opcode != CONTINUATION and not self._in_message
        size = length if begins else self._message_size + length
        if size > self._max_message != UNLIMITED:
            self.violation_code = TOO_BIG
        elif begins and self._rate is not None and self.messages >= self._fast_until and not self._rate.take():
            self.violation_code = POLICY
        if self.violation_code:
            self._call_attention()
            return True
        self._message_size = size
        return False

    def _first_byte_error(self, first: int) -> str:
        opcode = first & 0x0F
        if opcode >= CLOSE and not first & 0x80:
            return "control_fragmented"
        if not self.permissive:
            if first & 0x70:
                return "reserved_bits"
            if 2 < opcode < CLOSE or opcode > 10:
                return "reserved_opcode"
        if opcode == CONTINUATION and not self._in_message:
            return "continuation_of_nothing"
        if opcode in (TEXT, BINARY) and self._in_message:
            return "message_interrupted"
        return ""

    def _second_byte_error(self, first: int, second: int) -> str:
        if second & 0x80 != self._masked:
            return "mask_missing" if self._masked else "mask_forbidden"
        if first & 0x0F >= CLOSE and second & 0x7F > 125:
            return "control_too_long"
        if first & 0x0F == CLOSE and second & 0x7F == 1:
            return "close_truncated"
        return ""

    def _fail(self, error: str) -> int:
        self.error = error
        self._call_attention()
        return -1

    def _frame_ended(self) -> None:
        if self._opcode < CLOSE:
            if self._fin and self._counting:
                self.messages += 1
        elif self._opcode == CLOSE:
            self.close_seen = True
            self._call_attention()
        elif self.track_pings and self._opcode <= PONG:
            self._call_attention()
            if self._opcode == PING:
                self.ping_seen = True
            else:
                self.pong_seen = True
