# Compiled by mypyc: see setup.py.
"""The checks of RFC 6455's opening handshake: which request is an attempt, whether it is well-formed, whether a 101 is its answer.

Pure. A tunnel begins only after `check_switch` found nothing wrong.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Final

from proxy.http.local_replies import (
    HANDSHAKE_BODY,
    HANDSHAKE_KEY,
    HANDSHAKE_METHOD,
    HANDSHAKE_PROTOCOL,
    HANDSHAKE_VERSION,
)
from proxy.http.message import Answer

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")

Fields = Sequence[tuple[str, str]]


def tokens(fields: Fields, name: str) -> list[str]:
    """Return the comma-separated tokens of all fields of a lower-case name, in lower case."""
    return [
        token
        for field, value in fields
        if field.lower() == name
        for part in value.split(",")
        if (token := part.strip(" \t").lower())
    ]


def values(fields: Fields, name: str) -> list[str]:
    """Return the values of all fields of a lower-case name."""
    return [value for field, value in fields if field.lower() == name]


def is_attempt(version: int, fields: Fields) -> bool:
    """Tell whether a request asks for a WebSocket: the token in Upgrade, `upgrade` in Connection, HTTP/1.1 (RFC 9110, 7.8)."""
    return version >= 11 and "websocket" in tokens(fields, "upgrade") and "upgrade" in tokens(fields, "connection")


def check_attempt(method: str, fields: Fields, *, has_body: bool) -> Answer | None:
    """Return the answer to a malformed attempt (RFC 6455, 4.2.1); None: it is well-formed."""
    if method != "GET":
        return HANDSHAKE_METHOD
    if has_body:
        return HANDSHAKE_BODY
    if tokens(fields, "upgrade") != ["websocket"]:
        return HANDSHAKE_PROTOCOL
    if values(fields, "sec-websocket-version") != ["13"]:
        return HANDSHAKE_VERSION
    keys = values(fields, "sec-websocket-key")
    if len(keys) != 1 or not is_key(keys[0]):
        return HANDSHAKE_KEY
    return None


def is_key(key: str) -> bool:
    """Tell whether a Sec-WebSocket-Key is 16 bytes in base64."""
    if _KEY.fullmatch(key) is None:
        return False
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def accept_for(key: str) -> str:
    """Return the Sec-WebSocket-Accept that answers a key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode("ascii") + _GUID).digest()).decode()  # noqa: S324  the RFC names SHA-1


def check_switch(request: Fields, answer: Fields) -> str | None:
    """Name why a 101 does not answer the attempt (RFC 6455, 4.1), as in causes.py; None: the connection is a WebSocket now."""
    if tokens(answer, "upgrade") != ["websocket"]:
        return "switch_other_protocol"
    if "upgrade" not in tokens(answer, "connection"):
        return "switch_no_connection"
    if values(answer, "sec-websocket-accept") != [accept_for(values(request, "sec-websocket-key")[0])]:
        return "switch_invalid_accept"
    chosen = values(answer, "sec-websocket-protocol")
    offered = [token for value in values(request, "sec-websocket-protocol") for token in map(str.strip, value.split(","))]
    if len(chosen) > 1 or any(not name.strip() or name.strip() not in offered for name in chosen):
        return "switch_unoffered_subprotocol"
    if not extension_names(answer) <= extension_names(request):
        return "switch_unoffered_extension"
    return None


def extension_names(fields: Fields) -> set[str]:
    """Return the names of the extensions in Sec-WebSocket-Extensions, without their parameters."""
    return {
        name
        for value in values(fields, "sec-websocket-extensions")
        for part in value.split(",")
        if (name := part.split(";", 1)[0].strip().lower())
    }
