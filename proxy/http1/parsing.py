"""The reference parsers: aiohttp's C parsers judge every head that is not strictly regular. All use of them is here.

They judge heads only; bodies are framed by bodies.py. This module closes their gaps (aiohttp 3.14.5): it counts bytes and
fields itself, tells 414 from 431, refuses targets, versions and codings that the parser lets pass, and checks the values of
responses, about which the parser is lenient.
"""

import asyncio
import re
from typing import cast

from aiohttp import http_exceptions, http_parser
from aiohttp.base_protocol import BaseProtocol

from proxy.exchange import Answer
from proxy.http1.headers import BAD_HOST, BAD_REQUEST
from proxy.http1.heads import MAX_FIELDS, MAX_HEAD, MAX_LINE

TOO_LARGE = Answer(431, "The request's header fields are too large.", close=True)
TOO_LONG = Answer(414, "The request's target is too long.", close=True)
MAX_METHOD = 32
"""Bytes of a method; the longest that is registered has 17."""
UNKNOWN_METHOD = Answer(501, "The request's method is longer than any that is known.", close=True)
BAD_LINE = Answer(400, "The request line is not a method, a target and an HTTP version with one space between them.", close=True)
BAD_VERSION = Answer(505, "The HTTP version is not supported; HTTP/1.0 and HTTP/1.1 are.", close=True)
BAD_FORM = Answer(400, 'The request\'s target must begin with "/", or with http:// or https:// and a host.', close=True)
OTHER_HOST = Answer(400, "The request's target names another host or port than its Host field.", close=True)
USERINFO = Answer(400, 'The request\'s target has "@" before its path; a user name may not be in it.', close=True)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_TOKEN = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_NOT_TARGET = re.compile(r"[^!-\"$-~]")
_FORM = re.compile(r"/|https?://[^/?]", re.IGNORECASE)
_VERSION = re.compile(r"HTTP/[0-9]\.[0-9]")
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
    """Say what is wrong with a head of which only a part is here; None: nothing yet."""
    line_end = data.find(b"\r\n")
    if (line_end if line_end >= 0 else len(data)) > MAX_LINE:
        return _judge_method(data.partition(b" ")[0]) or TOO_LONG
    if len(data) > MAX_HEAD or data.count(b"\n") > MAX_FIELDS + 2:
        return TOO_LARGE
    if _BARE_LF.search(data) or _BARE_CR.search(data.removesuffix(b"\r")):
        return BAD_REQUEST
    if line_end >= 0:
        judged = judge_line(data[:line_end])
        return judged if isinstance(judged, Answer) else None
    return _judge_method(data.partition(b" ")[0])


def judge_line(line: bytes) -> tuple[str, str, str] | Answer:
    """Judge a request line, without its CRLF: method, target and version; or the answer to it (RFC 9112, 3)."""
    method, _, rest = line.partition(b" ")
    if (wrong := _judge_method(method)) is not None:
        return wrong
    target, _, version = rest.decode("latin-1").partition(" ")
    if not target or version not in ("HTTP/1.0", "HTTP/1.1"):
        return BAD_VERSION if target and _VERSION.fullmatch(version) else BAD_LINE
    name = method.decode()
    if name in ("CONNECT", "TRACE"):
        return Answer(
            405, f"The method {name} is not supported.", (("Allow", "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),), close=True
        )
    if (odd := _NOT_TARGET.search(target)) is not None:
        return Answer(
            400, f"The request's target has {_named(odd[0])} in it, which must be written %{ord(odd[0]):02X}.", close=True
        )
    if _FORM.match(target) is None and (name, target) != ("OPTIONS", "*"):
        return BAD_FORM
    return name, target, version


def _judge_method(method: bytes) -> Answer | None:
    """Judge a method, or what is here of it."""
    if (odd := _NOT_TOKEN.search(method)) is not None:
        character = odd[0].decode("latin-1")
        return Answer(400, f"The request's method has {_named(character)} in it; it may have letters, digits and -.", close=True)
    if not method:
        return BAD_LINE
    # RFC 9112, 3: a method that is longer than any that is implemented.
    return UNKNOWN_METHOD if len(method) > MAX_METHOD else None


def _named(character: str) -> str:
    return f'"{character}"' if "!" <= character <= "~" else f"the byte 0x{ord(character):02X}"


def parse_request(head: bytes, loop: asyncio.AbstractEventLoop) -> tuple[str, str, int, list[bytes]] | Answer:
    """Parse a whole head, the empty line included: method, target in origin-form, version, field lines; or the answer to it."""
    if (wrong := judge_partial(head)) is not None:
        return wrong
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
