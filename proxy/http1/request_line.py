# Compiled by mypyc: see setup.py.
"""The request line (RFC 9112, 3), judged in full: what is wrong with it is said in a sentence of its own."""

import re
from typing import Final

from proxy.http.local_replies import BAD_FORM, BAD_LINE, BAD_VERSION, UNKNOWN_METHOD, odd_method, odd_target, unsupported_method
from proxy.http.message import Answer

MAX_METHOD: Final = 32
"""Bytes of a method; the longest that is registered has 17."""

_NOT_TOKEN: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_NOT_TARGET: Final = re.compile(r"[^!-\"$-~]")
_FORM: Final = re.compile(r"/|https?://[^/?]", re.IGNORECASE)
_VERSION: Final = re.compile(r"HTTP/[0-9]\.[0-9]")


def judge_line(line: bytes) -> tuple[str, str, str] | Answer:
    """Judge a request line, without its CRLF: method, target and version; or the answer to it (RFC 9112, 3)."""
    method, _, rest = line.partition(b" ")
    if (refusal := judge_method(method)) is not None:
        return refusal
    target, _, version = rest.decode("latin-1").partition(" ")
    if not target or version not in ("HTTP/1.0", "HTTP/1.1"):
        return BAD_VERSION if target and _VERSION.fullmatch(version) else BAD_LINE
    name = method.decode()
    if name in ("CONNECT", "TRACE"):
        return unsupported_method(name)
    if (odd := _NOT_TARGET.search(target)) is not None:
        return odd_target(odd[0])
    if _FORM.match(target) is None and (name, target) != ("OPTIONS", "*"):
        return BAD_FORM
    return name, target, version


def judge_method(method: bytes) -> Answer | None:
    """Judge a method, or what is here of it; None: nothing is wrong yet."""
    if (odd := _NOT_TOKEN.search(method)) is not None:
        return odd_method(odd[0].decode("latin-1"))
    if not method:
        return BAD_LINE
    # RFC 9112, 3: a method that is longer than any that is implemented.
    return UNKNOWN_METHOD if len(method) > MAX_METHOD else None
