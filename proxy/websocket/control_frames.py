# Compiled by mypyc: see setup.py.
"""The frames that the proxy itself puts into a tunnel: close frames and pings. Nothing else of a tunnel is ours."""

import os
from typing import Final

MAX_REASON_BYTES: Final = 123
"""A control frame carries 125 bytes, two of them the code (RFC 6455, 5.5.1)."""


def close_frame(code: int, reason: bytes = b"", *, masked: bool) -> bytes:
    """Make a close frame: masked towards the backend, bare towards the client. A reason that is too long is cut at a character."""
    if len(reason) > MAX_REASON_BYTES:
        reason = reason[:MAX_REASON_BYTES].decode("utf-8", "ignore").encode()
    return _control(0x88, code.to_bytes(2, "big") + reason, masked=masked)


def ping_frame(payload: bytes, *, masked: bool) -> bytes:
    """Make a ping of at most 125 bytes: masked towards the backend, bare towards the client."""
    return _control(0x89, payload, masked=masked)


def _control(first: int, payload: bytes, *, masked: bool) -> bytes:
    if not masked:
        return bytes((first, len(payload))) + payload
    mask = os.urandom(4)
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return bytes((first, 0x80 | len(payload))) + mask + bytes(a ^ b for a, b in zip(payload, key, strict=True))
