"""The reference parsers: aiohttp's C parsers judge every head that is not strictly regular. All use of them is here.

They judge heads only; bodies are framed by chunked.py. This module closes their gaps (aiohttp 3.14.5): it counts bytes and
fields itself, tells 414 from 431, refuses targets, versions and codings that the parser lets pass, and checks the values of
responses, about which the parser is lenient.
"""

import asyncio
import re
from typing import cast

from aiohttp import http_exceptions, http_parser
from aiohttp.base_protocol import BaseProtocol

from proxy.http.local_replies import BAD_HOST, BAD_REQUEST, OTHER_HOST, TOO_LARGE, USERINFO
from proxy.http.message import Answer
from proxy.http1.head_scanner import MAX_FIELDS, MAX_HEAD, MAX_LINE
from proxy.http1.partial_head import PartialHead
from proxy.http1.request_line import judge_line

_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")


_JUDGED_TWICE = frozenset(
    (b"content-location", b"content-range", b"content-type", b"etag", b"max-forwards", b"server", b"user-agent")
)
"""Fields of which aiohttp takes one only (its SINGLETON_HEADERS), but for those that address or frame the message."""


def assert_c_parser() -> None:
    """Refuse to run on aiohttp's Python parser, which is lenient where the C parser is strict."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise RuntimeError("aiohttp's C extensions are missing: install a wheel of aiohttp that has them.")


def judge_partial(data: bytes) -> Answer | None:
    """Say what is wrong with a head of which this is the beginning, or all; None: nothing yet."""
    return PartialHead().judge(data)


def parse_request(head: bytes, loop: asyncio.AbstractEventLoop) -> tuple[str, str, int, list[bytes]] | Answer:
    """Parse a whole head, the empty line included: method, target in origin-form, version, field lines; or the answer to it."""
    if (refusal := judge_partial(head)) is not None:
        return refusal
    judged = judge_line(head[: head.index(b"\r\n")])
    if isinstance(judged, Answer):
        return judged
    method, target, version = judged
    if target == "*" and method == "OPTIONS":
        # The parser has no word for it; the rest of the head is judged as for the root.
        head = head.replace(b" * ", b" / ", 1)
    parser = http_parser.HttpRequestParser(
        BaseProtocol(loop),
        loop,
        2**16,
        max_line_size=MAX_LINE,
        max_field_size=MAX_HEAD,
        max_headers=MAX_FIELDS,
        auto_decompress=False,
    )
    head, renamed = _without_repeats(head)
    try:
        messages, _, _ = parser.feed_data(head)
    except http_exceptions.LineTooLong:
        return TOO_LARGE
    except (http_exceptions.BadHttpMessage, ValueError):
        return BAD_REQUEST
    if len(messages) != 1:
        return BAD_REQUEST
    message = messages[0][0]
    if any(_BAD_VALUE.search(value) for _, value in message.raw_headers):
        return BAD_REQUEST
    if target != "*" or method != "OPTIONS":
        origin = _origin_form(target, [value.decode("latin-1") for name, value in message.raw_headers if name.lower() == b"host"])
        if isinstance(origin, Answer):
            return origin
        target = origin
    lines = [renamed.get(number, name) + b": " + value for number, (name, value) in enumerate(message.raw_headers)]
    return method, target, 11 if version == "HTTP/1.1" else 10, lines


def _without_repeats(head: bytes) -> tuple[bytes, dict[int, bytes]]:
    """Rename repeated fields that the parser refuses though they frame nothing: they are the backend's to judge.

    Returns the head, and the names of those fields by their place.
    """
    first, *lines = head[:-4].split(b"\r\n")
    seen: set[bytes] = set()
    renamed: dict[int, bytes] = {}
    for number, line in enumerate(lines):
        name, colon, value = line.partition(b":")
        lowered = name.lower()
        if lowered in _JUDGED_TWICE and lowered in seen:
            renamed[number] = name
            lines[number] = b"x-repeated-%d" % number + colon + value
        seen.add(lowered)
    return (b"\r\n".join((first, *lines)) + b"\r\n\r\n", renamed) if renamed else (head, renamed)


def _origin_form(target: str, hosts: list[str]) -> str | Answer:
    """Return the origin-form of a target that `judge_line` took; absolute, it must name the Host that is sent (RFC 9112, 3.2.2)."""
    if target.startswith("/"):
        return target
    scheme, _, rest = target.partition("://")
    cut = min((place for place in (rest.find("/"), rest.find("?")) if place >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if len(hosts) != 1:
        return BAD_HOST
    if "@" in authority:
        return USERINFO
    if _bare(scheme.lower(), authority) != _bare(scheme.lower(), hosts[0]):
        return OTHER_HOST
    return path if path.startswith("/") else "/" + path


def _bare(scheme: str, authority: str) -> str:
    """Write an authority as it is compared: an empty port is that of the scheme, as none is (RFC 3986, 6.2.3)."""
    host, _, port = authority.lower().rpartition(":")
    return host if host and port in ("", "443" if scheme == "https" else "80") else authority.lower()


def parse_response(head: bytes, loop: asyncio.AbstractEventLoop) -> tuple[int, str, int, list[bytes]] | None:
    """Parse a whole head of a backend's answer: status, reason, version, field lines; None: it is malformed."""
    if len(head) > MAX_HEAD or _BARE_LF.search(head) or _BARE_CR.search(head):
        return None
    lines = head[:-4].split(b"\r\n")
    status = _STATUS.fullmatch(lines[0])
    if status is None or len(lines) - 1 > MAX_FIELDS:
        return None
    parser = http_parser.HttpResponseParser(
        BaseProtocol(loop),
        loop,
        2**16,
        max_line_size=MAX_HEAD,
        max_field_size=MAX_HEAD,
        max_headers=MAX_FIELDS,
        auto_decompress=False,
        response_with_body=False,
    )
    try:
        parser.feed_data(head)
    except (http_exceptions.BadHttpMessage, ValueError):
        return None
    fields: list[bytes] = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or _TOKEN.fullmatch(name) is None or _BAD_VALUE.search(value):
            return None
        fields.append(name + b": " + value)
    reason = cast("bytes", status[3] or b"").decode("latin-1")
    return int(status[2]), reason, 11 if status[1] == b"1" else 10, fields
