"""Two speeds of parsing: whatever the fast scanner takes, the reference parser takes too, and reads the same."""

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.http.message import Answer
from proxy.http1.chunked import LAST_CHUNK, LINES_PER_TURN, ChunkDecoder, ChunkError, chunk
from proxy.http1.fields import split_fields
from proxy.http1.head_scanner import FieldLines, scan_request_line, scan_status_line
from proxy.http1.partial_head import PartialHead
from proxy.http1.reference_parser import assert_c_parser, judge_partial, parse_request, parse_response


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


NAMES = st.sampled_from(["Host", "X", "x-y_z", "Cookie", "Content-Length", "Connection", "Accept", "1", "a b", "", "X\x85", "!#$"])
VALUES = st.one_of(
    st.sampled_from(["a.test", "", " ", "\t5 ", "chunked", "close, te", "caf\xe9", "a\0b", "a\rb", "x" * 300]),
    st.text(st.characters(max_codepoint=255), max_size=20),
)
LINES = st.one_of(
    st.tuples(
        st.sampled_from(["GET", "POST", "get", "OPTIONS", "M-SEARCH", ""]),
        st.sampled_from(["/", "/a?b=c", "/%41", "*", "/a#b", "/\xe9", "/a b", '/[]{}|^`\\"', "http://a.test/"]),
        st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0"]),
    ).map(" ".join),
    st.text(st.characters(max_codepoint=255), max_size=30),
)
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([":", ": ", " :", ":\t"]), VALUES), max_size=6)


def head_of(line: str, fields: list[tuple[str, str, str]], end: str) -> str:
    return line + end + "".join(name + colon + value + end for name, colon, value in fields) + end


def scan(text: str, *, request: bool) -> tuple[object, ...] | None:
    """What the fast path makes of a head: its first line in three parts, and all of its fields."""
    first, *lines = text.encode("latin-1").removesuffix(b"\r\n\r\n").split(b"\r\n")
    parts = scan_request_line(first) if request else scan_status_line(first)
    known = FieldLines(request=request)
    if parts is None or not known.sort(lines, [], []):
        return None
    again: list[bytes] = []
    taken: list[bytes] = []
    assert known.sort(lines, again, taken)
    assert set(again) | set(taken) == set(lines)
    return (*parts, split_fields(lines))


@given(LINES, FIELDS, st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"]))
@example("GET / HTTP/1.1", [("Host", ": ", "a.test"), ("X", ":", "a\tb")], "\r\n")
def test_request_head_that_the_scanner_takes_reads_the_same_in_the_parser(
    loop: asyncio.AbstractEventLoop, line: str, fields: list[tuple[str, str, str]], end: str
) -> None:
    text = head_of(line, fields, end)
    fast = scan(text, request=True)
    if fast is None:
        return
    # The parser wants a Host, which is looked at later here.
    if not any(name.lower() == "host" for name, _, _ in fields):
        text = text.replace("\r\n", "\r\nHost: a.test\r\n", 1)
        fast = scan(text, request=True)
        assert fast is not None
    slow = parse_request(text.encode("latin-1"), loop)
    if isinstance(slow, Answer):
        # What the fast path takes and the parser does not is refused right after, by the same rules for both.
        names = [name.lower() for name, _, _ in fields]
        assert any(name in ("host", "content-length") for name in names)
        return

    assert fast == (*slow[:3], split_fields(slow[3]))


STATUS = st.one_of(
    st.tuples(
        st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2"]),
        st.sampled_from(["200", "404", "99", "600"]),
        st.sampled_from(["OK", "", "a b"]),
    ).map(" ".join),
    st.text(st.characters(max_codepoint=255), max_size=20),
)


@given(STATUS, FIELDS, st.sampled_from(["\r\n", "\n"]))
def test_response_head_that_the_scanner_takes_reads_the_same_in_the_parser(
    loop: asyncio.AbstractEventLoop, line: str, fields: list[tuple[str, str, str]], end: str
) -> None:
    text = head_of(line, fields, end)
    fast = scan(text, request=False)
    slow = parse_response(text.encode("latin-1"), loop) if text.endswith("\r\n\r\n") else None
    if fast is None or slow is None:
        assert fast is None or any(name.lower() in ("content-length", "connection") for name, _, _ in fields)
        return

    assert fast == (*slow[:3], split_fields(slow[3]))


@given(st.binary(max_size=200))
def test_any_bytes_are_judged_without_failing(loop: asyncio.AbstractEventLoop, data: bytes) -> None:
    judge_partial(data)
    head = data.replace(b"\r\n\r\n", b"") + b"\r\n\r\n"
    assert isinstance(parse_request(head, loop), tuple | Answer)
    assert isinstance(parse_response(head, loop), tuple | None)


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.lists(st.integers(0, 2000), max_size=10), st.binary(max_size=20)
)
def test_chunks_give_their_payload_for_any_split(parts: list[bytes], cuts: list[int], rest: bytes) -> None:
    data = b"".join(map(chunk, parts)) + LAST_CHUNK + rest
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    decoder = ChunkDecoder()
    found, left = b"", b""
    for start, end in itertools.pairwise(places):
        piece = data[start:end]
        if decoder.done:
            left += piece
            continue
        found += b"".join(decoder.feed(piece))
        left += decoder.rest

    assert (found, left, decoder.done) == (b"".join(parts), rest, True)


@given(st.binary(max_size=100), st.lists(st.integers(0, 200), max_size=5))
def test_any_bytes_as_chunks_end_or_fail_the_same_for_any_split(data: bytes, cuts: list[int]) -> None:
    def run(pieces: list[bytes]) -> tuple[bytes, bool] | None:
        decoder, found = ChunkDecoder(), b""
        try:
            for piece in pieces:
                if not decoder.done:
                    found += b"".join(decoder.feed(piece))
        except ChunkError:
            return None
        return found, decoder.done

    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    split = run([data[start:end] for start, end in itertools.pairwise(places)])
    whole = run([data])

    assert split == whole


def test_chunks_that_are_many_are_decoded_a_bounded_number_at_a_time() -> None:
    """What one read brings may be a hundred thousand of them."""
    body = b"1;x=y\r\na\r\n" * (2 * LINES_PER_TURN) + b"0\r\n" + b"X: y\r\n" * LINES_PER_TURN + b"\r\nnext"
    decoder = ChunkDecoder()
    rounds = [decoder.feed(body)]
    while decoder.has_more:
        rounds.append(decoder.feed(b""))

    assert [len(pieces) for pieces in rounds] == [LINES_PER_TURN, LINES_PER_TURN, 0, 0]
    assert (decoder.done, decoder.rest) == (True, b"next")


def test_what_comes_while_chunks_wait_is_decoded_after_them() -> None:
    decoder = ChunkDecoder()
    found = b"".join(decoder.feed(b"1\r\na\r\n" * (LINES_PER_TURN + 1)))
    decoder.add(b"1\r\nb\r\n0\r\n\r\n")
    while decoder.has_more:
        found += b"".join(decoder.feed(b""))

    assert (found, decoder.done) == (b"a" * (LINES_PER_TURN + 1) + b"b", True)


@given(st.binary(max_size=60), st.lists(st.integers(1, 8), max_size=20))
def test_a_head_in_pieces_is_judged_as_its_beginning_at_once(data: bytes, sizes: list[int]) -> None:
    """Until something is found: what is found last is the answer."""
    data = data.replace(b"\x00", b"\r").replace(b"\x01", b"\n").replace(b"\x02", b"\r\n")
    head, found, at = PartialHead(), None, 0
    while at < len(data) and found is None:
        at += sizes.pop() if sizes else len(data)
        found = head.judge(bytearray(data[:at]))

        assert found == judge_partial(data[:at])


def test_the_c_parser_is_there() -> None:
    assert_c_parser()
