"""The fast scanners: one strict regular expression each for a request's head and a response's head.

What they do not match in full goes to the reference parser (parsing.py), never the other way round; a property test holds the
two to the same result. Limits are checked here for both.
"""

import re

MAX_HEAD = 64 * 1024
"""Bytes of a head (spec/wire.md): 431 above."""
MAX_LINE = 16 * 1024
"""Bytes of a request line: 414 above."""
MAX_FIELDS = 128

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = r"[\t\x20-\x7e\x80-\xff]*"
_REQUEST = re.compile(
    r"(GET|POST|HEAD|PUT|DELETE|PATCH|OPTIONS) (/[!-\"$-~]*) HTTP/1\.([01])\r\n"
    rf"((?:{_NAME}:{_VALUE}\r\n)*)\r\n"
)
_RESPONSE = re.compile(rf"HTTP/1\.([01]) ([2-5][0-9][0-9]) ([\x20-\x7e\t]*)\r\n((?:{_NAME}:{_VALUE}\r\n)*)\r\n")


def scan_request(text: str) -> tuple[str, str, int, str] | None:
    """Return method, target, version (10, 11) and header block of a regular head; None: let the reference parser decide."""
    match = _REQUEST.fullmatch(text)
    if match is None:
        return None
    method, target, minor, block = match.groups()
    if len(target) > MAX_LINE - 64 or block.count("\r\n") > MAX_FIELDS:
        return None
    return method, target, 11 if minor == "1" else 10, block


def scan_response(text: str) -> tuple[int, str, int, str] | None:
    """Return status, reason, version and header block of a regular head of a final answer; None: not regular."""
    match = _RESPONSE.fullmatch(text)
    if match is None:
        return None
    minor, status, reason, block = match.groups()
    return int(status), reason, 11 if minor == "1" else 10, block
