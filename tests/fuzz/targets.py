"""What is fuzzed: each target takes any bytes and raises only where a promise is broken."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Mapping

from proxy.filters.expression_rewrite import compile_expression_rewrite
from proxy.http.message import Answer, Client, Request
from proxy.http1.chunked import ChunkDecoder, ChunkError
from proxy.http1.fields import read_request, split_fields
from proxy.http1.head_scanner import FieldLines, scan_request_line, scan_status_line
from proxy.http1.reference_parser import judge_partial, parse_request, parse_response
from proxy.model.config import Path, Route, Share, Target
from proxy.model.policy import ExpressionRewrite
from proxy.model.wire import WireError, decode_entry, decode_reply, decode_request
from proxy.routing.expressions import Automata, Expressions, order_expressions
from proxy.routing.paths import decoded_path
from proxy.routing.table import Entry, NoMatch, Table, empty_table
from proxy.tls.client_hello import MAX_BYTES, ClientHello, HelloReader, HelloStatus
from proxy.websocket.control_frames import close_frame
from proxy.websocket.frames import FrameScanner
from proxy.websocket.message_rate import MessageRate

LOOP = asyncio.new_event_loop()
CLIENT = Client(peer="10.0.0.9")
NONCE = b"fuzzing!"
WRITABLE = "".join(map(chr, range(0x21, 0x7F)))
PLAIN = Request(CLIENT, "GET", "/", 11, "a.test", "a.test", [], upgrade=False)


def make_expression(number: int, text: str) -> Route:
    """Make a route whose path is an expression."""
    target = Target((Share("n/s:80"),))
    return Route(
        *(f"ingress/n/e{number}/0", "ingress", "n", f"e{number}", "", 0, ("a.test",), Path("expression", text)),
        websocket=target,
        http=target,
    )


def cuts(data: bytes, seed: int) -> list[bytes]:
    """Cut bytes at places that the bytes themselves decide, so that a finding can be played again."""
    dice = random.Random(seed)  # noqa: S311  no secret
    places = sorted({0, len(data), *(dice.randrange(len(data) + 1) for _ in range(dice.randrange(6)))})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def request_head(data: bytes) -> None:
    """The fast path reads what the reference parser reads, or leaves it alone."""
    judge_partial(data)
    head = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    first, *lines = head[:-4].split(b"\r\n")
    line = scan_request_line(first)
    fast = line is not None and FieldLines(request=True).sort(lines, [], [])
    slow = parse_request(head, LOOP)
    if fast and isinstance(slow, tuple) and len(head) < 60_000 and len(lines) < 100:
        assert line == slow[:3], (line, slow)
        assert split_fields(lines) == split_fields(slow[3]), (lines, slow[3])
    if fast and line is not None and isinstance(slow, Answer) and len(head) < 60_000 and len(lines) < 100:
        # What the parser refuses and the scanner takes must be refused by what both lead to.
        read: list[bytes] = []
        FieldLines(request=True).sort(lines, [], read)
        facts = read_request(read, line[0], line[2], CLIENT, trusts=lambda _: False, forwarded=False)
        assert isinstance(facts, Answer) or facts.refusal is not None, (head, slow)


def response_head(data: bytes) -> None:
    """The same for a backend's head."""
    head = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    first, *lines = head[:-4].split(b"\r\n")
    line = scan_status_line(first)
    fast = line is not None and FieldLines(request=False).sort(lines, [], [])
    slow = parse_response(head, LOOP)
    if fast and slow is not None:
        assert line == slow[:3]
        assert split_fields(lines) == split_fields(slow[3])


def chunks(data: bytes) -> None:
    """Any split of a chunked body gives the same payload, end and rest; and a naive decoder agrees where it is whole."""

    def run(pieces: list[bytes]) -> tuple[bytes, bytes] | None:
        decoder, found, rest = ChunkDecoder(), b"", b""
        try:
            for piece in pieces:
                if decoder.done:
                    rest += piece
                    continue
                found += b"".join(decoder.feed(piece))
                while decoder.has_more:
                    found += b"".join(decoder.feed(b""))
                if decoder.done:
                    rest = decoder.rest
        except ChunkError:
            return None
        return (found, rest) if decoder.done else (found, b"\0unfinished")

    whole = run([data])
    assert run(cuts(data, len(data))) == whole
    if whole is not None and whole[1] != b"\0unfinished":
        assert naive_chunks(data) == whole[0]


def naive_chunks(data: bytes) -> bytes:
    """Decode a whole chunked body the simplest way."""
    found = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            return found
        found += data[:size]
        data = data[size + 2 :]


def scan_all(scanner: FrameScanner, data: bytes) -> bytes:
    """Scan as a tunnel does over several turns of its loop."""
    out = scanner.scan(data)
    while scanner.has_more:
        out += scanner.scan(b"")
    return out


def frames(data: bytes) -> None:
    """Any split of any bytes gives the same events; what passes before a close ends with a whole frame."""
    masked, extensions = bool(data[:1] and data[0] & 1), bool(data[:1] and data[0] & 2)
    data = data[1:]
    whole = FrameScanner(masked=masked, extensions=extensions)
    expected = scan_all(whole, data)
    scanner = FrameScanner(masked=masked, extensions=extensions)
    out = b"".join(scan_all(scanner, piece) for piece in cuts(data, len(data)))
    assert out == expected
    assert (scanner.messages, scanner.payload_bytes, scanner.error, scanner.close_seen, scanner.close_code) == (
        *(whole.messages, whole.payload_bytes),
        *(whole.error, whole.close_seen, whole.close_code),
    )
    closer = FrameScanner(masked=masked, extensions=extensions)
    pieces = cuts(data, len(data) + 1)
    sent = b"".join(scan_all(closer, piece) for piece in pieces[:1])
    for piece in pieces[1:]:
        if closer.at_boundary or closer.error or closer.close_seen:
            break
        sent += closer.scan_to_boundary(piece)
    if closer.at_boundary and not closer.error and not closer.close_seen:
        again = FrameScanner(masked=masked, extensions=extensions)
        ours = close_frame(1001, b"", masked=masked)
        assert scan_all(again, sent + ours) == sent + ours
        assert again.close_seen
        assert again.close_code == 1001


def frames_of_ours(data: bytes) -> None:
    """Limits and answers to our own pings decide the same for any split, and what passes is whole frames up to the one refused."""
    head, data = data[:3].ljust(3, b"\0"), data[3:]
    masked, largest, burst = bool(head[0] & 1), head[1] * 8 + 1, head[2] % 8 + 1

    def run(pieces: list[bytes]) -> tuple[object, ...]:
        scanner = FrameScanner(masked=masked, extensions=False)
        scanner.nonce = NONCE
        scanner.track_pings = True
        scanner.limit(largest, MessageRate(1.0, burst, lambda: 0.0))
        out, answers = b"", 0
        for piece in pieces:
            out += scan_all(scanner, piece)
            answers = max(answers, scanner.pong_number)
            if scanner.attention and not (scanner.violation_code or scanner.error or scanner.close_seen):
                scanner.clear_attention()
        return (*(out, answers, scanner.violation_code, scanner.pending), *(scanner.messages, scanner.payload_bytes, scanner.error))

    found = run([data])
    assert run(cuts(data, len(data))) == found
    assert run([data[place : place + 1] for place in range(len(data))]) == found
    assert isinstance(found[4], int)
    assert found[4] <= burst


def client_hello(data: bytes) -> None:
    """A hello is read or refused, and what was read from a part is not taken back by the rest."""
    result = HelloReader().feed(data)
    assert isinstance(result, ClientHello | HelloStatus)
    reader = HelloReader()
    bit: ClientHello | HelloStatus = HelloStatus.MORE
    for place in range(min(len(data), MAX_BYTES)):
        bit = reader.feed(data[place : place + 1])
        if bit is not HelloStatus.MORE:
            break
    assert bit == result
    for size in {len(data) // 2, len(data) - 1} - {-1}:
        part = HelloReader().feed(data[:size])
        if part is not HelloStatus.MORE and size:
            assert part == result or not isinstance(part, ClientHello)


def wire(data: bytes) -> None:
    """Bytes of the configuration are decoded or refused by the one error that callers expect."""
    for decode in (decode_request, decode_reply):
        with contextlib.suppress(WireError):
            decode(data)
    for key in ("r/x", "u/x", "c/x", "h/x", "d/"):
        with contextlib.suppress(WireError):
            decode_entry(key, data)


EXPRESSIONS = Automata()
ORDERED = order_expressions(["/app(/|$)(.*)", "/(.*)/b(.+)", "/x([^/]*)", "/"])
MATCHED = Expressions(ORDERED, EXPRESSIONS)
REWRITES = [
    [
        compile_expression_rewrite(ExpressionRewrite(text, path), EXPRESSIONS)
        for path in (("/", 2), ("/v1/", 1, 2), (1, "x"), ("/fixed",))
    ]
    for text in ORDERED
]
ROUTES: Table[int] = empty_table(EXPRESSIONS)
ROUTES = ROUTES.with_changes(
    ["a.test"], {"a.test": [Entry(make_expression(number, text), number) for number, text in enumerate(ORDERED)]}
)


def rewritten_path(data: bytes) -> None:
    """Whatever a path captures, the backend sees one path: one slash in front, no empty segment or dots, nothing that ends it."""
    target = "/" + "".join(chr(byte) for byte in data if 0x20 < byte < 0x7F and byte not in b"?#")
    found = ROUTES.match("a.test", target, False, PLAIN)
    if isinstance(found, NoMatch):
        return
    assert found == MATCHED.first(decoded_path(target))
    for rewrite in REWRITES[found]:
        request = Request(CLIENT, "GET", target + "?q=/..//%zz", 11, "a.test", "a.test", [], upgrade=False)
        answer = rewrite(request)
        if answer is not None:
            assert isinstance(answer, Answer)
            assert answer.status == 400
            continue
        path, question, query = request.sent_target.partition("?")
        assert (question, query) == ("?", "q=/..//%zz")
        assert path.startswith("/")
        assert "//" not in path
        assert not {".", ".."} & {segment.partition(";")[0] for segment in path.split("/")}
        assert not set(path) - set(WRITABLE)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    one.__name__: one for one in (request_head, response_head, chunks, frames, frames_of_ours, client_hello, wire, rewritten_path)
}
