"""The frame scanner: any split of any bytes gives the same events, and nothing malformed is begun at the other end."""

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from proxy.http.causes import SOCKETS
from proxy.websocket.control_frames import close_frame
from proxy.websocket.frames import FRAMES_PER_TURN, UNSENDABLE, FrameScanner


def encode(opcode: int, payload: bytes, *, fin: bool, masked: bool) -> bytes:
    """Write a frame with the websockets library, which is the oracle here."""
    return Frame(Opcode(opcode), payload, fin=fin).serialize(mask=masked)


@st.composite
def traffic(draw: st.DrawFn, *, masked: bool) -> tuple[bytes, int, int]:
    """Legal traffic without a close: its bytes, how many messages, how many payload bytes."""
    data, messages, payload_bytes = b"", 0, 0
    for _ in range(draw(st.integers(0, 5))):
        parts = draw(st.lists(st.binary(max_size=300), min_size=1, max_size=3))
        for number, part in enumerate(parts):
            if draw(st.booleans()):
                data += encode(draw(st.sampled_from([9, 10])), draw(st.binary(max_size=125)), fin=True, masked=masked)
            last = number == len(parts) - 1
            data += encode(0 if number else draw(st.sampled_from([1, 2])), part, fin=last, masked=masked)
            payload_bytes += len(part)
        messages += 1
    return data, messages, payload_bytes


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


CUTS = st.lists(st.integers(0, 10_000), max_size=20)


@given(st.booleans().flatmap(lambda masked: st.tuples(st.just(masked), traffic(masked=masked))), CUTS)
def test_legal_traffic_passes_whole_and_is_counted_for_any_split(
    case: tuple[bool, tuple[bytes, int, int]], cuts: list[int]
) -> None:
    masked, (data, messages, payload_bytes) = case
    scanner = FrameScanner(masked=masked, extensions=False)

    out = b"".join(scanner.scan(piece) for piece in pieces(data, cuts))

    assert out == data
    assert (scanner.messages, scanner.payload_bytes, scanner.error, scanner.close_seen) == (messages, payload_bytes, "", False)
    assert scanner.at_boundary


@pytest.mark.parametrize("masked", [True, False])
def test_frames_that_are_many_are_scanned_a_bounded_number_at_a_time(masked: bool) -> None:
    """What one read brings may be a hundred thousand of them."""
    scanner = FrameScanner(masked=masked, extensions=False)
    ping = encode(9, b"", fin=True, masked=masked)
    one = encode(1, b"a", fin=True, masked=masked)
    data = one + ping * (3 * FRAMES_PER_TURN) + one + encode(8, b"\x03\xe8", fin=True, masked=masked)
    rounds = [scanner.scan(data)]
    assert scanner.attention
    while scanner.has_more:
        assert not scanner.close_seen
        rounds.append(scanner.scan(b""))

    assert b"".join(rounds) == data
    assert max(map(len, rounds)) <= FRAMES_PER_TURN * len(one)
    assert (scanner.messages, scanner.close_code) == (2, 1000)


def test_what_comes_while_frames_wait_is_scanned_after_them() -> None:
    scanner = FrameScanner(masked=False, extensions=False)
    pings = encode(9, b"", fin=True, masked=False) * (FRAMES_PER_TURN + 1)
    one = encode(1, b"whole", fin=True, masked=False)
    out = scanner.scan(pings)
    assert scanner.has_more
    out += scanner.scan(one)
    while scanner.has_more:
        out += scanner.scan(b"")

    assert (out, scanner.messages) == (pings + one, 1)


@given(st.binary(max_size=300), CUTS, st.booleans(), st.booleans())
def test_any_bytes_give_the_same_events_for_any_split(data: bytes, cuts: list[int], masked: bool, extensions: bool) -> None:
    whole = FrameScanner(masked=masked, extensions=extensions)
    expected = whole.scan(data)
    scanner = FrameScanner(masked=masked, extensions=extensions)

    out = b"".join(scanner.scan(piece) for piece in pieces(data, cuts))

    assert out == expected
    assert (scanner.messages, scanner.payload_bytes, scanner.error, scanner.close_seen, scanner.close_code) == (
        whole.messages,
        whole.payload_bytes,
        whole.error,
        whole.close_seen,
        whole.close_code,
    )


@given(traffic(masked=True), CUTS, st.integers(0, 10_000))
def test_close_at_any_instant_falls_on_a_frame_boundary(case: tuple[bytes, int, int], cuts: list[int], instant: int) -> None:
    data, _, _ = case
    scanner = FrameScanner(masked=True, extensions=False)
    parts = pieces(data, cuts)
    moment = instant % (len(parts) + 1)

    out = b"".join(scanner.scan(piece) for piece in parts[:moment])
    for piece in parts[moment:]:
        if scanner.at_boundary:
            break
        out += scanner.scan_to_boundary(piece)

    again = FrameScanner(masked=True, extensions=False)
    assert again.scan(out) == out
    assert again.at_boundary
    assert data.startswith(out)


@given(st.integers(1000, 65535).filter(lambda code: code not in UNSENDABLE), st.text(max_size=80), st.booleans())
def test_close_frame_is_read_back(code: int, reason: str, masked: bool) -> None:
    data = close_frame(code, reason.encode(), masked=masked)
    scanner = FrameScanner(masked=masked, extensions=False)

    assert scanner.scan(data) == data
    assert (scanner.close_seen, scanner.close_code, len(data) <= 131) == (True, code, True)


@given(st.booleans().flatmap(lambda masked: st.tuples(st.just(masked), traffic(masked=masked))), st.binary(max_size=20), CUTS)
def test_close_frame_that_is_withheld_is_seen_and_neither_it_nor_what_follows_passes_for_any_split(
    case: tuple[bool, tuple[bytes, int, int]], tail: bytes, cuts: list[int]
) -> None:
    masked, (data, messages, _) = case
    scanner = FrameScanner(masked=masked, extensions=False)
    scanner.withhold_close = True

    out = b"".join(scanner.scan(piece) for piece in pieces(data + close_frame(1001, b"why", masked=masked) + tail, cuts))

    assert out == data
    assert (scanner.messages, scanner.close_seen, scanner.close_code) == (messages, True, 1001)


def test_malformed_frame_is_not_begun_at_the_other_end() -> None:
    scanner = FrameScanner(masked=True, extensions=False)
    good = encode(1, b"good", fin=True, masked=True)

    assert scanner.scan(good + b"\x83\x80" + os.urandom(4)) == good
    assert scanner.error == "reserved_opcode"
    assert scanner.scan(good) == b""


def masked_header(first: int, length: bytes) -> bytes:
    """The header of a client's frame, whose length is given as it is on the wire."""
    return bytes([first, length[0] | 0x80]) + length[1:] + b"mask"


START = masked_header(0x01, b"\x01") + b"a"
RESERVED = {
    f"reserved opcode {opcode}": (masked_header(0x80 | opcode, b"\0"), b"") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
}
RESERVED_BITS = {f"reserved bits {bits:#x}": (masked_header(0x81 | bits, b"\0"), b"") for bits in (0x10, 0x20, 0x40, 0x70)}
MALFORMED: dict[str, tuple[bytes, bytes]] = {
    # Name: what the client sends, and how much of it reaches the backend.
    **RESERVED,
    **RESERVED_BITS,
    "fragmented close": (masked_header(0x08, b"\0"), b""),
    "fragmented ping": (masked_header(0x09, b"\0"), b""),
    "fragmented pong": (masked_header(0x0A, b"\0"), b""),
    "ping of 126 bytes": (masked_header(0x89, b"\x7e\0\x7e"), b""),
    "close of 65536 bytes": (masked_header(0x88, b"\x7f" + (65536).to_bytes(8, "big")), b""),
    "unmasked text": (b"\x81\x00", b""),
    "unmasked ping": (b"\x89\x00", b""),
    "125 bytes in 16 bits": (masked_header(0x82, b"\x7e\0\x7d") + bytes(125), b""),
    "no byte in 16 bits": (masked_header(0x82, b"\x7e\0\0"), b""),
    "65535 bytes in 64 bits": (masked_header(0x82, b"\x7f" + (65535).to_bytes(8, "big")), b""),
    "top bit of 64": (masked_header(0x82, b"\x7f\x80" + bytes(7)), b""),
    "continuation without a start": (masked_header(0x80, b"\0"), b""),
    "continuation after a whole message": (START + masked_header(0x80, b"\0") * 2, START + masked_header(0x80, b"\0")),
    "text inside a message": (START + masked_header(0x81, b"\0"), START),
    "close of one byte": (masked_header(0x88, b"\1") + b"\3", b""),
    **{f"close with {code}": (close_frame(code, b"why", masked=True), b"") for code in (0, 999, 1005, 1006, 1015)},
    "binary inside a message": (START + masked_header(0x02, b"\0"), START),
}


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_header_is_refused_and_not_begun_at_the_other_end(name: str, step: int) -> None:
    data, before = MALFORMED[name]
    scanner = FrameScanner(masked=True, extensions=False)

    out = b"".join(scanner.scan(data[place : place + step]) for place in range(0, len(data), step))

    assert out == before
    assert scanner.error in SOCKETS
    assert not scanner.close_seen
    assert scanner.at_boundary
    assert scanner.scan(encode(1, b"later", fin=True, masked=True)) == b""


@pytest.mark.parametrize("data", [b"\x81\x80mask", b"\x89\x80mask", b"\x82\xfe\0\x7emask"])
def test_masked_frame_of_the_backend_is_refused(data: bytes) -> None:
    scanner = FrameScanner(masked=False, extensions=False)

    assert scanner.scan(data) == b""
    assert scanner.error == "mask_forbidden"


LEGAL: dict[str, tuple[bytes, bool, int]] = {
    # Name: what the client sends, whether an extension was negotiated, how many messages that is.
    "empty frames": (masked_header(0x81, b"\0") + masked_header(0x82, b"\0"), False, 2),
    "empty fragments": (masked_header(0x01, b"\0") + masked_header(0x00, b"\0") * 3 + masked_header(0x80, b"\0"), False, 1),
    "control frames between fragments": (
        START + masked_header(0x89, b"\x01") + b"p" + masked_header(0x8A, b"\0") + masked_header(0x80, b"\0"),
        False,
        1,
    ),
    "ping of no byte": (masked_header(0x89, b"\0"), False, 0),
    "ping of 125 bytes": (masked_header(0x89, b"\x7d") + bytes(125), False, 0),
    "pong that nobody asked for": (masked_header(0x8A, b"\0"), False, 0),
    "126 bytes in 16 bits": (masked_header(0x82, b"\x7e\0\x7e") + bytes(126), False, 1),
    "65536 bytes in 64 bits": (masked_header(0x82, b"\x7f" + (65536).to_bytes(8, "big")) + bytes(65536), False, 1),
    "text that is not UTF-8": (masked_header(0x81, b"\x02") + b"\xff\xff", False, 1),
    "reserved bits of an extension": (masked_header(0xC1, b"\x01") + b"z", True, 1),
}


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize("name", LEGAL)
def test_odd_but_legal_frames_pass_unchanged(name: str, step: int) -> None:
    data, extensions, messages = LEGAL[name]
    scanner = FrameScanner(masked=True, extensions=extensions)

    out = b"".join(scanner.scan(data[place : place + step]) for place in range(0, len(data), step))

    assert (out, scanner.messages, scanner.error, scanner.at_boundary) == (data, messages, "", True)
