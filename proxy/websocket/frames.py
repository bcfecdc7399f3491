"""A scanner of frame headers (RFC 6455, 5.2): counts messages, knows boundaries and close codes, refuses malformed headers.

Sans-I/O, one per direction. It changes no byte and keeps none but an unfinished header (at most 13 bytes), so that what it
returns for forwarding never ends inside a header: a frame that turns out malformed was not begun at the other end.
Written to be compiled: plain slots, integers and bytes.
"""

CONTINUATION, TEXT, BINARY, CLOSE = 0x0, 0x1, 0x2, 0x8
NO_CODE, ABNORMAL = 1005, 1006
"""RFC 6455, 7.4.1: a close frame without a code; no close frame at all."""


class FrameScanner:
    """The frames of one direction."""

    __slots__ = (
        "_close_bytes",
        "_fin",
        "_held",
        "_mask",
        "_masked",
        "_opcode",
        "_open",
        "_start",
        "attention",
        "close_code",
        "close_seen",
        "error",
        "messages",
        "payload_bytes",
        "permissive",
        "remaining",
        "rest",
    )

    def __init__(self, *, masked: bool, extensions: bool) -> None:
        self._masked = 0x80 if masked else 0
        self._start = 6 if masked else 2
        self.permissive = extensions
        """An extension was negotiated: reserved bits and opcodes are its business."""
        self._held = b""
        self._opcode = 0
        self._fin = 0
        self._mask = b""
        self._close_bytes = b""
        self._open = False
        self.remaining = 0
        """Payload bytes of the current frame still to come."""
        self.messages = 0
        """Whole data messages."""
        self.payload_bytes = 0
        """Payload bytes of data frames."""
        self.close_seen = False
        """A whole close frame passed."""
        self.close_code = NO_CODE
        self.error = ""
        """What was wrong with the header at which scanning stopped; nothing is scanned after it."""
        self.attention = False
        """A close frame or an error was seen: look at the fields above."""
        self.rest = b""
        """What `scan_to_boundary` left for later."""

    @property
    def at_boundary(self) -> bool:
        """Whether what was returned for forwarding so far ends with a whole frame."""
        return self.remaining == 0

    def scan(self, data: bytes) -> bytes:
        """Take what arrived; return what may be forwarded now, in order."""
        if self.remaining == 0 and not self._held and not self._open and not self.attention:
            size = len(data)
            if size >= 2:
                second = data[1]
                length = second & 0x7F
                first = data[0]
                if (first == 0x81 or first == 0x82) and second & 0x80 == self._masked:  # noqa: PLR1714  two compares are faster
                    if length < 126:
                        if size == self._start + length:
                            self.messages += 1
                            self.payload_bytes += length
                            return data
                    elif length == 126 and size >= 4:
                        length = data[2] << 8 | data[3]
                        if length > 125 and size == self._start + 2 + length:
                            self.messages += 1
                            self.payload_bytes += length
                            return data
        return self._scan(data, stop=False)

    def scan_to_boundary(self, data: bytes) -> bytes:
        """Like `scan`, up to the end of the frame that is under way; what follows it is left in `rest`."""
        return self._scan(data, stop=True)

    def _scan(self, data: bytes, *, stop: bool) -> bytes:
        if self.close_seen or self.error:
            return b"" if self.error else data
        if self._held:
            data = self._held + data
            self._held = b""
        position, size = 0, len(data)
        while position < size:
            if self.remaining:
                take = min(self.remaining, size - position)
                self._payload(data, position, take)
                position += take
                self.remaining -= take
                if self.remaining:
                    return data
                self._frame_ended()
            else:
                header = self._header(data, position, size)
                if header <= 0:
                    if header == 0:
                        self._held = data[position:]
                    return data[:position]
                position += header
                if self.remaining == 0:
                    self._frame_ended()
            if self.remaining == 0 and (stop or self.close_seen):
                break
        if stop:
            self.rest = data[position:]
            return data[:position]
        return data

    def _payload(self, data: bytes, position: int, take: int) -> None:
        if self._opcode < CLOSE:
            self.payload_bytes += take
        elif self._opcode == CLOSE and len(self._close_bytes) < 2:
            self._close_bytes += data[position : position + min(take, 2 - len(self._close_bytes))]

    def _header(self, data: bytes, position: int, size: int) -> int:
        """Take a frame header at `position`: its size, 0 if it is not whole yet, -1 if it is malformed."""
        first = data[position]
        wrong = self._wrong_first(first)
        if not wrong and size - position >= 2:
            wrong = self._wrong_second(first, data[position + 1])
        if wrong:
            return self._refuse(wrong)
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
                return self._refuse("a length of more than 63 bits")
            if length < (126 if extended == 2 else 65536):
                return self._refuse("a length in more bytes than it needs")
        opcode = first & 0x0F
        self._opcode = opcode
        self._fin = first & 0x80
        self.remaining = length
        if opcode == CLOSE:
            self._close_bytes = b""
            self._mask = data[position + whole - 4 : position + whole] if self._masked else b"\0\0\0\0"
        elif opcode <= BINARY or (opcode < CLOSE and not self._open):
            # An extension's opcode inside a message is its own business.
            self._open = not self._fin
        return whole

    def _wrong_first(self, first: int) -> str:
        opcode = first & 0x0F
        if opcode >= CLOSE and not first & 0x80:
            return "a fragmented control frame"
        if not self.permissive:
            if first & 0x70:
                return "reserved bits without an extension"
            if 2 < opcode < CLOSE or opcode > 10:
                return f"reserved opcode {opcode}"
        if opcode == CONTINUATION and not self._open:
            return "a continuation without a message"
        if opcode in (TEXT, BINARY) and self._open:
            return "a new message inside another"
        return ""

    def _wrong_second(self, first: int, second: int) -> str:
        if second & 0x80 != self._masked:
            return "an unmasked frame from the client" if self._masked else "a masked frame from the backend"
        if first & 0x0F >= CLOSE and second & 0x7F > 125:
            return "a control frame of more than 125 bytes"
        return ""

    def _refuse(self, error: str) -> int:
        self.error = error
        self.attention = True
        return -1

    def _frame_ended(self) -> None:
        if self._opcode < CLOSE:
            if self._fin:
                self.messages += 1
        elif self._opcode == CLOSE:
            self.close_seen = True
            self.attention = True
            if len(self._close_bytes) == 2:
                self.close_code = (self._close_bytes[0] ^ self._mask[0]) << 8 | self._close_bytes[1] ^ self._mask[1]
