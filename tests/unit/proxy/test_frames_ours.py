"""What the scanner does of its own: takes the answers to our pings out, puts a ping in, stops before what a limit forbids."""

import itertools
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from proxy.websocket.control_frames import ping_frame
from proxy.websocket.frames import NONCE_BYTES, PING_BYTES, POLICY, TOO_BIG, FrameScanner
from proxy.websocket.message_rate import MessageRate

NONCE = b"\x81\x8a\x00ours!"
OURS, PINGS, PONGS, DATA = "ours", "ping", "pong", "data"


@dataclass(frozen=True)
class Piece:
    """One frame of some traffic."""

    kind: str
    wire: bytes
    size: int = 0
    begins: bool = False
    """It begins a message."""
    ends: bool = False


def encode(opcode: int, payload: bytes, *, masked: bool, fin: bool = True) -> bytes:
    return Frame(Opcode(opcode), payload, fin=fin).serialize(mask=masked)


@st.composite
def control(draw: st.DrawFn, *, masked: bool) -> Piece:
    kind = draw(st.sampled_from([OURS, PINGS, PONGS]))
    if kind == OURS:
        return Piece(OURS, encode(10, NONCE + draw(st.integers(1, 9)).to_bytes(4, "big"), masked=masked))
    # Pongs of the application that look like ours as far as they can.
    alike = st.sampled_from([NONCE, NONCE[:-1] + b"?" * 5, NONCE + b"12345", b"\x8a\x8c" * 6])
    return Piece(kind, encode(9 if kind == PINGS else 10, draw(alike | st.binary(max_size=125)), masked=masked))


@st.composite
def traffic(draw: st.DrawFn, *, masked: bool) -> list[Piece]:
    """Legal frames without a close, controls of all kinds between them."""
    found = []
    for _ in range(draw(st.integers(0, 6))):
        parts = draw(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
        for number, part in enumerate(parts):
            found += draw(st.lists(control(masked=masked), max_size=2))
            last = number == len(parts) - 1
            wire = encode(0 if number else draw(st.sampled_from([1, 2])), part, masked=masked, fin=last)
            found.append(Piece(DATA, wire, len(part), begins=not number, ends=last))
    return found + draw(st.lists(control(masked=masked), max_size=2))


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


CUTS = st.lists(st.integers(0, 10_000), max_size=40)
BOTH = st.booleans().flatmap(lambda masked: st.tuples(st.just(masked), traffic(masked=masked)))


def pinging(*, masked: bool) -> FrameScanner:
    scanner = FrameScanner(masked=masked, extensions=False)
    scanner.nonce = NONCE
    scanner.track_pings = True
    return scanner


@pytest.mark.slow
@given(BOTH, CUTS)
def test_answers_to_our_pings_are_taken_out_and_nothing_else_for_any_split(case: tuple[bool, list[Piece]], cuts: list[int]) -> None:
    masked, frames = case
    scanner = pinging(masked=masked)
    out, answers, seen = b"", 0, set()
    for piece in split(b"".join(frame.wire for frame in frames), cuts):
        out += scanner.scan(piece)
        assert len(scanner._partial_header) <= 4 + 1 + PING_BYTES
        if scanner.attention:
            answers += bool(scanner.pong_number)
            seen |= {PINGS} if scanner.ping_seen else set()
            seen |= {PONGS} if scanner.pong_seen else set()
            scanner.pong_number, scanner.ping_seen, scanner.pong_seen = 0, False, False
            scanner.clear_attention()

    assert out == b"".join(frame.wire for frame in frames if frame.kind != OURS)
    assert seen == {frame.kind for frame in frames} - {OURS, DATA}
    assert (answers > 0) == any(frame.kind == OURS for frame in frames)
    assert scanner.messages == sum(frame.ends for frame in frames)
    assert scanner.payload_bytes == sum(frame.size for frame in frames)
    assert (scanner.error, scanner.at_boundary) == ("", True)


@pytest.mark.slow
@given(BOTH, CUTS)
def test_without_our_pings_every_pong_passes(case: tuple[bool, list[Piece]], cuts: list[int]) -> None:
    masked, frames = case
    scanner = FrameScanner(masked=masked, extensions=False)
    data = b"".join(frame.wire for frame in frames)

    assert b"".join(scanner.scan(piece) for piece in split(data, cuts)) == data


@pytest.mark.slow
@given(BOTH, CUTS, st.integers(0, 100))
def test_ping_put_in_at_any_instant_falls_between_frames(case: tuple[bool, list[Piece]], cuts: list[int], instant: int) -> None:
    masked, frames = case
    ours = ping_frame(NONCE + b"\0\0\0\x01", masked=masked)
    # Our pings and our pongs do not go the same way.
    frames = [frame for frame in frames if frame.kind != OURS]
    pieces = split(b"".join(frame.wire for frame in frames), cuts)
    scanner = FrameScanner(masked=masked, extensions=False)
    moment = instant % (len(pieces) + 1)

    out = b"".join(scanner.scan(piece) for piece in pieces[:moment])
    before = len(out)
    if scanner.at_boundary:
        out += ours
    else:
        scanner.frame_to_insert = ours
    out += b"".join(scanner.scan(piece) for piece in pieces[moment:])

    ends = list(itertools.accumulate((len(frame.wire) for frame in frames), initial=0))
    place = next(end for end in ends if end >= before)
    whole = b"".join(frame.wire for frame in frames)
    assert out == whole[:place] + ours + whole[place:]
    assert scanner.frame_to_insert == b""


def test_ping_that_waits_is_not_put_behind_a_close_frame() -> None:
    close = encode(8, b"\x03\xe8", masked=False)
    scanner = FrameScanner(masked=False, extensions=False)
    out = scanner.scan(close[:3])
    scanner.frame_to_insert = ping_frame(b"", masked=False)

    assert out + scanner.scan(close[3:]) == close


def largest_allowed(frames: list[Piece], largest: int) -> list[Piece]:
    """The frames up to the first one with which a message gets too large, the naive way."""
    passed, size = [], 0
    for frame in frames:
        if frame.kind == DATA:
            size = frame.size if frame.begins else size + frame.size
            if size > largest:
                break
        passed.append(frame)
    return passed


@pytest.mark.slow
@given(BOTH, CUTS, st.integers(1, 400))
def test_too_large_message_stops_before_the_header_that_says_so(
    case: tuple[bool, list[Piece]], cuts: list[int], largest: int
) -> None:
    masked, frames = case
    passed = largest_allowed(frames, largest)
    scanner = pinging(masked=masked)
    scanner.limit(largest, None)

    out = b""
    for piece in split(b"".join(frame.wire for frame in frames), cuts):
        out += scanner.scan(piece)
        if scanner.attention and not scanner.violation_code:
            scanner.clear_attention()

    assert out == b"".join(frame.wire for frame in passed if frame.kind != OURS)
    assert scanner.violation_code == (0 if len(passed) == len(frames) else TOO_BIG)
    assert scanner.pending == b"".join(frame.wire for frame in frames[len(passed) :])
    assert scanner.at_boundary


@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3)), max_size=40),
    *(st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), CUTS),
)
def test_messages_pass_as_often_as_a_token_bucket_allows(
    masked: bool, arrivals: list[tuple[int, int]], count: int, per: int, burst: int, cuts: list[int]
) -> None:
    """Each arrival: after how many seconds, and in how many fragments, with a ping before the last."""
    now = [0.0]
    scanner = pinging(masked=masked)
    scanner.limit(0, MessageRate(count / per, burst, lambda: now[0]))
    tokens, time, expected, out = Fraction(burst), 0, b"", b""
    refused = False
    for gap, parts in arrivals:
        time += gap
        now[0] = float(time)
        tokens = min(Fraction(burst), tokens + Fraction(gap * count, per))
        ping = encode(9, b"", masked=masked)
        message = b"".join(
            (ping if number == parts - 1 and number else b"")
            + encode(0 if number else 1, b"x", masked=masked, fin=number == parts - 1)
            for number in range(parts)
        )
        refused = refused or tokens < 1
        if not refused:
            tokens -= 1
            expected += message
        for piece in split(message, cuts):
            out += scanner.scan(piece)
            if scanner.attention and not scanner.violation_code:
                scanner.clear_attention()

    assert out == expected
    assert scanner.violation_code == (POLICY if refused else 0)


def test_messages_in_one_read_are_each_paid_for() -> None:
    message = encode(1, b"hello", masked=True)
    scanner = FrameScanner(masked=True, extensions=False)
    scanner.limit(0, MessageRate(1.0, 3, lambda: 0.0))

    assert scanner.scan(message * 5) == message * 3
    assert (scanner.violation_code, scanner.pending) == (POLICY, message * 2)


def test_close_is_found_behind_what_a_limit_forbade() -> None:
    scanner = FrameScanner(masked=True, extensions=False)
    scanner.limit(10, None)
    assert scanner.scan(encode(2, bytes(11), masked=True) + encode(8, b"\x03\xf1", masked=True)) == b""

    rest, scanner.pending = scanner.pending, b""
    scanner.stop_enforcing()
    scanner.scan(rest)

    assert (scanner.close_seen, scanner.close_code) == (True, 1009)
    assert (scanner.messages, scanner.payload_bytes) == (0, 0)


@pytest.mark.parametrize("size", [1000, 1001])
@pytest.mark.parametrize("fin", [True, False])
def test_limit_is_exact_and_seen_in_the_header_alone(size: int, fin: bool) -> None:
    header = bytes([0x82 if fin else 0x02, 126]) + size.to_bytes(2, "big")
    scanner = FrameScanner(masked=False, extensions=False)
    scanner.limit(1000, None)

    assert scanner.scan(header) == (header if size == 1000 else b"")
    assert bool(scanner.violation_code) == (size == 1001)


def test_nonce_is_as_long_as_pings_say() -> None:
    assert (len(NONCE), PING_BYTES - NONCE_BYTES) == (NONCE_BYTES, 4)
