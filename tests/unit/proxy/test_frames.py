"""The frame scanner: any split of any bytes gives the same events, and nothing malformed is begun at the other end."""

import itertools
import os

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from proxy.websocket.closing import close_frame
from proxy.websocket.frames import FrameScanner


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


@given(st.integers(0, 4999), st.text(max_size=80), st.booleans())
def test_close_frame_is_read_back(code: int, reason: str, masked: bool) -> None:
    data = close_frame(code, reason.encode(), masked=masked)
    scanner = FrameScanner(masked=masked, extensions=False)

    assert scanner.scan(data) == data
    assert (scanner.close_seen, scanner.close_code, len(data) <= 131) == (True, code, True)


def test_malformed_frame_is_not_begun_at_the_other_end() -> None:
    scanner = FrameScanner(masked=True, extensions=False)
    good = encode(1, b"good", fin=True, masked=True)

    assert scanner.scan(good + b"\x83\x80" + os.urandom(4)) == good
    assert scanner.error == "reserved opcode 3"
    assert scanner.scan(good) == b""
