# Compiled by mypyc: see setup.py.
"""Engine.IO's session ids: read from the answer to a polling handshake, and from the requests of a session. Pure."""

import json
import re
from typing import Final

PACKET_LIMIT: Final = 1024
"""Bytes of an answer in which the open packet is looked for; Engine.IO's has about 120."""
SID_LIMIT: Final = 128
"""Characters of a session id; Engine.IO's have 20."""

# Version 4: `0{...}`; version 3: the length of the packet, a colon, the same.
_OPEN: Final = re.compile(r"(?:[0-9]{1,4}:)?0(?=\{)")
_JSON: Final = json.JSONDecoder()


def read_open_packet(data: bytes) -> tuple[str, bool]:
    """Return the session id of an open packet at the beginning of `data`, and whether to look again when more has come."""
    text = data.decode("utf-8", "ignore")
    match = _OPEN.match(text)
    if match is None:
        return "", len(data) < 8
    try:
        packet, _ = _JSON.raw_decode(text, match.end())
    except (ValueError, RecursionError):
        return "", len(data) < PACKET_LIMIT
    sid = packet.get("sid") if isinstance(packet, dict) else None
    return (sid, False) if isinstance(sid, str) and 0 < len(sid) <= SID_LIMIT else ("", False)


def sid_of(query: str) -> str | None:
    """Return the session id that an Engine.IO request carries, empty if it has none; None: it is no request of Engine.IO."""
    if "EIO=" not in query:
        return None
    engine, sid = False, ""
    for pair in query.split("&"):
        if pair.startswith("EIO="):
            engine = True
        elif pair.startswith("sid="):
            sid = pair[4:]
    return sid[:SID_LIMIT] if engine else None
