"""Autobahn's case list by its categories 1 to 7, 9 and 10: what a client sends, and how what it gets is read."""

import struct

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MASK = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    bit = 0x80 if masked else 0
    head = bytes([first])
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    key = (MASK * (size // 4 + 1))[:size]
    return head + MASK + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(8, b"" if code is None else struct.pack(">H", code) + reason)


SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536, 1_000_000)
CASES: dict[str, bytes] = {
    **{f"1.1 text of {size}": frame(1, b"*" * size) + close() for size in SIZES},
    **{f"1.2 binary of {size}": frame(2, b"\xfe" * size) + close() for size in SIZES},
    "2.1 ping": frame(9) + close(),
    "2.2 ping with payload": frame(9, b"Hello") + close(),
    "2.3 ping with binary payload": frame(9, bytes(range(125))) + close(),
    "2.4 ping of 125": frame(9, b"x" * 125) + close(),
    "2.5 ping of 126": frame(9, b"x" * 126) + close(),
    "2.7 unasked pong": frame(10, b"unsolicited") + close(),
    "2.9 pong then ping": frame(10, b"unsolicited") + frame(9, b"hi") + close(),
    "2.10 ten pings": b"".join(frame(9, b"payload-%d" % number) for number in range(10)) + close(),
    **{f"3.{rsv} reserved bits {rsv}": frame(1, b"ok") + frame(1, b"Hello", rsv=rsv) + frame(9) for rsv in range(1, 8)},
    "3.8 reserved bit on a ping": frame(9, b"Hello", rsv=1),
    "3.9 reserved bit on a close": frame(8, b"\x03\xe8", rsv=4),
    **{f"4.1 reserved opcode {opcode}": frame(1, b"ok") + frame(opcode, b"x") + frame(9) for opcode in (3, 4, 5, 6, 7)},
    **{f"4.2 reserved opcode {opcode}": frame(1, b"ok") + frame(opcode, b"x") + frame(9) for opcode in (11, 12, 13, 14, 15)},
    "5.1 fragmented ping": frame(9, b"a", fin=False) + frame(0, b"b"),
    "5.2 fragmented pong": frame(10, b"a", fin=False) + frame(0, b"b"),
    "5.3 text in two": frame(1, b"frag1", fin=False) + frame(0, b"frag2") + close(),
    "5.6 ping between fragments": frame(1, b"frag1", fin=False) + frame(9, b"ping") + frame(0, b"frag2") + close(),
    "5.9 continuation of nothing": frame(0, b"orphan") + frame(1, b"x"),
    "5.11 continuation of nothing, not the last": frame(0, b"orphan", fin=False) + frame(1, b"x"),
    "5.15 fragments, then a continuation": frame(1, b"a", fin=False) + frame(0, b"b") + frame(0, b"c"),
    "5.18 message inside a message": frame(1, b"a", fin=False) + frame(1, b"b"),
    "5.19 fragments and pings": b"".join(
        [frame(1, b"a", fin=False), frame(9, b"1"), frame(0, b"b", fin=False), frame(9, b"2"), frame(0, b"c"), close()]
    ),
    "5.20 empty fragments": frame(1, b"", fin=False) + frame(0, b"", fin=False) + frame(0, b"") + close(),
    "6.1 empty text": frame(1) + close(),
    "6.2 valid UTF-8 split in a character": frame(1, b"\xce\xba\xe1\xbd", fin=False) + frame(0, b"\xb9") + close(),
    "6.3 invalid UTF-8": frame(1, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"),
    "6.4 invalid UTF-8 in fragments": frame(1, b"\xce\xba\xe1", fin=False) + frame(0, b"\xf4\x90\x80\x80"),
    "6.6 lone continuation byte": frame(1, b"\x80"),
    "6.12 overlong": frame(1, b"\xc0\xaf"),
    "6.22 noncharacters are valid": frame(1, b"\xef\xbf\xbe\xef\xbf\xbf") + close(),
    "7.1 close": close(),
    "7.1 message after close": close() + frame(1, b"late"),
    "7.1 ping after close": close() + frame(9, b"late"),
    "7.3 close without a code": close(None),
    "7.3 close with one byte": frame(8, b"\x03"),
    "7.3 close with a reason": close(1000, b"Hello World!"),
    "7.3 close with 123 bytes of reason": close(1000, b"*" * 123),
    "7.3 close with 124 bytes of reason": close(1000, b"*" * 124),
    "7.5 close with invalid UTF-8": close(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80"),
    **{f"7.7 close code {code}": close(code) for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4999)},
    **{f"7.9 close code {code}": close(code) for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535)},
    "9.1 four megabytes": frame(1, b"*" * 4 * 1024 * 1024) + close(),
    "9.3 a megabyte in pieces of 4 KiB": b"".join(
        frame(0 if number else 2, b"*" * 4096, fin=number == 255) for number in range(256)
    )
    + close(),
    "9.7 thousand messages": frame(1, b"*" * 16) * 1000 + close(),
    "10.1 auto-fragmented": b"".join(frame(0 if number else 1, b"*" * 1300, fin=number == 50) for number in range(51)) + close(),
    "unmasked from the client": frame(1, b"ok") + frame(1, b"x", masked=False),
}


Verdict = tuple[list[tuple[int, bytes]], int | None]
"""Frames that a client got, as opcode and payload; and the code of the close frame."""


def frames_of(data: bytes) -> list[bytes]:
    """Cut a case where its frames end, however wrong they are; what is not whole is the last one."""
    found = []
    while len(data) >= 2:
        size, start = data[1] & 127, 2
        if size == 126:
            size, start = struct.unpack(">H", data[2:4])[0], 4
        elif size == 127:
            size, start = struct.unpack(">Q", data[2:10])[0], 10
        end = start + (4 if data[1] & 128 else 0) + size
        found.append(data[:end])
        data = data[end:]
    return found + [data] * bool(data)


def verdict(data: bytes) -> Verdict:
    """Take what a server sent apart."""
    found: list[tuple[int, bytes]] = []
    for one in frames_of(data):
        size = one[1] & 127
        payload = one[2 if size < 126 else 4 if size == 126 else 10 :]
        if one[0] & 15 == 8:
            return found, struct.unpack(">H", payload[:2])[0] if payload else None
        found.append((one[0] & 15, payload))
    return found, None
