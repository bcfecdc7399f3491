# Compiled by mypyc: see setup.py.
"""The fast scanner of heads: takes a strictly regular request or response head apart in one pass over its lines.

What it does not recognise in full goes to reference_parser.py, never the other way round; a property test holds the two to the
same result. Limits are checked here for both. Clients and backends repeat most field lines byte for byte, so a
worker remembers what it found in those that can be expected to come again: then a line costs one look-up.
"""

import re
from collections.abc import Iterable
from typing import Final

from proxy.http.forwarded import is_forwarding

MAX_HEAD: Final = 64 * 1024
"""Bytes of a head (docs/wire.md, size of a head): 431 above."""
MAX_LINE: Final = 16 * 1024
"""Bytes of a request line: 414 above."""
MAX_FIELDS: Final = 128

BAD: Final = 0
PASS: Final = 1
CONSUME: Final = 2
INSPECT: Final = 3
"""What a field line is: malformed; ordinary, so it passes as it is; the proxy's business and not passed on; both."""

_REMEMBERED_LENGTH: Final = 512
_REMEMBERED_LINES: Final = 4096
"""About a megabyte at worst. Full, the memory is emptied: what is common comes back at once."""

_TOKEN: Final = bytes(sorted(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
_VALUE: Final = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))
_TARGET: Final = bytes(code for code in range(0x21, 0x7F) if code != 0x23)
_METHODS: Final = {name.encode(): name for name in ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")}
_VERSIONS: Final = {b"HTTP/1.1": 11, b"HTTP/1.0": 10}
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([2-5][0-9][0-9]) ([\x20-\x7e\t]*)")

_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"http2-settings",
    )
)
_REGULAR_FRAMING: Final = re.compile(rb" ?(?:[0-9]{1,18}|[A-Za-z]+)")
_REGULAR_CODINGS: Final = re.compile(rb" ?[A-Za-z-]+(?:[ \t]*,[ \t]*[A-Za-z-]+)+")
"""More than one: they are an answer's to have (RFC 9112, 6.1), a request's are refused."""
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))
_READ_OF_REQUEST: Final = frozenset(
    (
        b"host",
        b"content-length",
        b"expect",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"sec-websocket-protocol",
        b"sec-websocket-extensions",
    )
)
_READ_OF_RESPONSE: Final = frozenset(
    (b"content-length", b"sec-websocket-accept", b"sec-websocket-protocol", b"sec-websocket-extensions")
)
_REPEATED: Final = frozenset(
    (
        b"host",
        b"connection",
        b"keep-alive",
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"accept-ranges",
        b"cache-control",
        b"pragma",
        b"priority",
        b"dnt",
        b"te",
        b"upgrade-insecure-requests",
        b"sec-ch-ua",
        b"sec-ch-ua-mobile",
        b"sec-ch-ua-platform",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"sec-fetch-user",
        b"sec-gpc",
        b"origin",
        b"referer",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"content-language",
        b"transfer-encoding",
        b"x-requested-with",
        b"server",
        b"date",
        b"vary",
        b"x-powered-by",
        b"x-frame-options",
        b"x-content-type-options",
        b"x-xss-protection",
        b"referrer-policy",
        b"strict-transport-security",
        b"content-security-policy",
        b"permissions-policy",
        b"access-control-allow-origin",
        b"access-control-allow-methods",
        b"access-control-allow-headers",
        b"access-control-allow-credentials",
    )
)
"""Fields whose lines are remembered: they come again, and none of them is a credential."""


class FieldLines:
    """What is known of field lines, of requests or of responses; one per worker for each."""

    __slots__ = ("_auth_field", "_known", "_request")

    def __init__(self, *, request: bool) -> None:
        self._request = request
        self._auth_field = b"authorization" if request else b"www-authenticate"
        self._known: dict[bytes, int] = {}

    def sort(self, lines: Iterable[bytes], forwarded: list[bytes], inspected: list[bytes]) -> bool:
        """Append lines that pass to `forwarded`, and those that the proxy must read to `inspected`; False: one is malformed."""
        known = self._known
        for line in lines:
            kind = known.get(line, -1)
            if kind < 0:
                kind = self._classify(line)
            if kind == PASS:
                forwarded.append(line)
            elif kind == CONSUME:
                inspected.append(line)
            elif kind == INSPECT:
                forwarded.append(line)
                inspected.append(line)
            else:
                return False
        return True

    def _classify(self, line: bytes) -> int:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, _TOKEN) or value.translate(None, _VALUE):
            return BAD
        name = name.lower()
        if name in _FRAMING and _REGULAR_FRAMING.fullmatch(value) is None and not self._are_codings(name, value):
            return BAD  # odd ways to frame a message are the parser's to judge
        kind = INSPECT if name == self._auth_field and is_connection_auth(value) else self._kind(name)
        if name in _REPEATED and len(line) <= _REMEMBERED_LENGTH:
            if len(self._known) >= _REMEMBERED_LINES:
                self._known.clear()
            self._known[line] = kind
        return kind

    def _are_codings(self, name: bytes, value: bytes) -> bool:
        return not self._request and name == b"transfer-encoding" and _REGULAR_CODINGS.fullmatch(value) is not None

    def _kind(self, name: bytes) -> int:
        if name in _HOP:
            # A challenge of a proxy behind us is the client's to answer (RFC 9110, 11.7.1).
            return CONSUME if self._request or name != b"proxy-authenticate" else PASS
        if name in (_READ_OF_REQUEST if self._request else _READ_OF_RESPONSE):
            return INSPECT
        if self._request:
            dashed = name.replace(b"_", b"-")
            # CGI and its heirs hand a field Proxy to their programs as HTTP_PROXY, which those take for their own (CVE-2016-5385).
            if is_forwarding(dashed) or name == b"proxy":
                return CONSUME
            if dashed in _FRAMING:
                # Many backends read an underscore as a dash: such a field would frame the message there and not here.
                return BAD
        return PASS


def is_connection_auth(value: bytes) -> bool:
    """Tell whether a field logs a whole connection in, not a request (RFC 4559, NTLM): then it must never serve anybody else."""
    return value.strip(b" \t").lower().startswith((b"ntlm", b"negotiate"))


def scan_request_line(line: bytes) -> tuple[str, str, int] | None:
    """Return method, target and version (10, 11) of a regular request line; None: let the reference parser decide."""
    parts = line.split(b" ")
    if len(parts) != 3:
        return None
    method = _METHODS.get(parts[0])
    version = _VERSIONS.get(parts[2], 0)
    target = parts[1]
    if method is None or not version or not target.startswith(b"/") or target.translate(None, _TARGET):
        return None
    return method, target.decode("latin-1"), version


def scan_status_line(line: bytes) -> tuple[int, str, int] | None:
    """Return status, reason and version of a regular final answer; None: not regular."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        return None
    minor, status, reason = match.groups()
    return int(status), reason.decode("latin-1"), 11 if minor == b"1" else 10
