"""Header fields that a proxy must touch, and what it adds: hop-by-hop fields, forwarding fields, hosts.

All other fields pass as the client wrote them. One regular expression finds the special ones in a header block; the block has
been checked to be well-formed before (heads.py, parsing.py).
"""

import re
from collections.abc import Callable

from proxy.exchange import Answer, Client
from proxy.routing.hosts import normalise_host
from proxy.websocket.handshake import check_attempt, is_attempt

NO_BODY, CHUNKED = 0, -1

_HOP = (
    r"connection|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade"
    r"|proxy-authenticate|proxy-authorization|http2-settings"
)
_FORWARDING = r"x[-_]forwarded[-_](?:for|proto|host|port|prefix|scheme|server)|x[-_]real[-_]ip|x[-_]request[-_]id|forwarded"
_REQUEST_SPECIAL = re.compile(rf"(?im)^({_HOP}|{_FORWARDING}|host|content-length|expect)[ \t]*:[ \t]*(.*?)[ \t]*\r\n")
_RESPONSE_SPECIAL = re.compile(rf"(?im)^({_HOP}|content-length)[ \t]*:[ \t]*(.*?)[ \t]*\r\n")
_FIELD = re.compile(r"(?m)^([^:\r\n]+):[ \t]*(.*?)[ \t]*\r\n")
_PLAIN_FORWARDING = frozenset(
    (
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-scheme",
        "x-forwarded-server",
        "x-real-ip",
        "x-request-id",
        "forwarded",
    )
)
_KEPT_ANYWAY = frozenset(("host", "content-length", "transfer-encoding", "close", "keep-alive", "upgrade"))
"""Nominating these in Connection removes nothing: they frame or address the message (RFC 9110, 7.6.1)."""

BAD_HOST = Answer(400, "The request must have exactly one valid Host field.", close=True)
BAD_LENGTH = Answer(400, "The request's length is not given in exactly one valid way.", close=True)
BAD_EXPECT = Answer(417, "The only expectation that is supported is 100-continue.", close=True)
BAD_REQUEST = Answer(400, "The request is malformed.", close=True)


def split_fields(block: str) -> list[tuple[str, str]]:
    """Split a well-formed header block into names and values."""
    return _FIELD.findall(block)


class Facts:
    """What a request's header block says, and the part of it that goes on to the backend.

    Depends on nothing but the block, the connection and the version: a block that is sent again need not be read again.
    """

    __slots__ = (
        "address",
        "attempt",
        "authority",
        "expect",
        "forward",
        "host",
        "keep_alive",
        "length",
        "request_id",
        "wrong",
    )

    def __init__(self) -> None:
        self.host = ""
        self.authority = ""
        self.keep_alive = True
        self.length = NO_BODY
        """Bytes of the body, or CHUNKED."""
        self.expect = False
        self.attempt = False
        """Asks for a WebSocket, well or badly; `wrong` says how badly."""
        self.wrong: Answer | None = None
        self.forward = b""
        """Fields for the backend, without Connection, Upgrade and X-Request-ID."""
        self.request_id = ""
        """X-Request-ID of a trusted peer; empty: make one."""
        self.address = ""
        """The client's address, behind trusted proxies."""


def read_request(
    block: str, method: str, version: int, client: Client, *, trusts: Callable[[str], bool], forwarded: bool
) -> Facts | Answer:
    """Read a well-formed header block; return what it says, or the answer to it if it is not exactly one thing."""
    facts = Facts()
    lengths: list[str] = []
    hosts: list[str] = []
    codings: list[str] = []
    connection: list[str] = []
    upgrades = False
    incoming: list[tuple[str, str]] = []
    kept: list[str] = []
    position = 0
    for match in _REQUEST_SPECIAL.finditer(block):
        name = match[1].lower()
        value = match[2]
        if name == "host":
            hosts.append(value)
            continue
        if name == "content-length":
            lengths.append(value)
            continue
        if name == "expect":
            if value.lower() != "100-continue":
                return BAD_EXPECT
            facts.expect = version >= 11
            if facts.expect:
                continue
        elif name == "connection":
            connection += [token for part in value.split(",") if (token := part.strip(" \t").lower())]
        elif name == "transfer-encoding":
            codings.append(value.lower())
        elif name == "upgrade":
            upgrades = True
        elif name in _PLAIN_FORWARDING:
            incoming.append((name, value))
        kept.append(block[position : match.start()])
        position = match.end()
    kept.append(block[position:])
    if len(hosts) != 1:
        if hosts or version >= 11:
            return BAD_HOST
    else:
        host = normalise_host(hosts[0])
        if host is None:
            return BAD_HOST
        facts.host, facts.authority = host, hosts[0]
    length = _body_length(lengths, codings, version)
    if length is None:
        return BAD_LENGTH
    facts.length = length
    facts.keep_alive = "close" not in connection and (version >= 11 or "keep-alive" in connection)
    ordinary = "".join(kept)
    nominated = set(connection) - _KEPT_ANYWAY
    if nominated:
        ordinary = _without(ordinary, nominated)
    if upgrades and version >= 11 and "upgrade" in connection:
        fields = split_fields(block)
        if is_attempt(version, fields):
            facts.attempt = True
            facts.wrong = check_attempt(method, fields, has_body=length != NO_BODY)
    if upgrades and not facts.attempt:
        # Bytes behind an Upgrade that is not followed may be meant for the other protocol: they are never read as a request.
        facts.keep_alive = False
    trusted = dict(incoming) if client.trusted else {}
    facts.address, added = _forwarding_fields(
        facts.authority, client, incoming if client.trusted else [], trusts, forwarded=forwarded
    )
    facts.request_id = trusted.get("x-request-id", "")
    facts.forward = (ordinary + added).encode("latin-1")
    return facts


def _without(block: str, names: set[str]) -> str:
    return "".join(match[0] for match in _FIELD.finditer(block) if match[1].lower() not in names)


def _body_length(lengths: list[str], codings: list[str], version: int) -> int | None:
    if codings:
        return CHUNKED if codings == ["chunked"] and not lengths and version >= 11 else None
    if not lengths:
        return NO_BODY
    value = lengths[0]
    if len(lengths) > 1 or not value.isascii() or not value.isdigit() or len(value) > 18:
        return None
    return int(value)


def _forwarding_fields(
    authority: str, client: Client, incoming: list[tuple[str, str]], trusts: Callable[[str], bool], *, forwarded: bool
) -> tuple[str, str]:
    """Return the client's address and the forwarding fields for the backend (spec/ingress.md)."""
    values: dict[str, str] = {}
    for name, value in incoming:
        values[name] = f"{values[name]}, {value}" if name in values else value
    peer = client.peer
    address = peer
    chain = peer
    if "x-forwarded-for" in values:
        chain = f"{values['x-forwarded-for']}, {peer}"
        for hop in reversed(values["x-forwarded-for"].split(",")):
            address = hop.strip()
            if not trusts(address):
                break
    proto = values.get("x-forwarded-proto", "https" if client.secure else "http")
    lines = [
        f"X-Forwarded-For: {chain}\r\n",
        f"X-Forwarded-Proto: {proto}\r\n",
        f"X-Forwarded-Host: {values.get('x-forwarded-host', authority)}\r\n",
        f"X-Forwarded-Port: {values.get('x-forwarded-port', client.port)}\r\n",
        f"X-Real-IP: {values.get('x-real-ip', address)}\r\n",
    ]
    lines += [
        f"{name.title()}: {values[name]}\r\n"
        for name in ("x-forwarded-prefix", "x-forwarded-scheme", "x-forwarded-server")
        if name in values
    ]
    if forwarded:
        node = f'"[{peer}]"' if ":" in peer else peer
        ours = f'for={node};host="{authority}";proto={proto}'
        lines.append(f"Forwarded: {values['forwarded']}, {ours}\r\n" if "forwarded" in values else f"Forwarded: {ours}\r\n")
    elif "forwarded" in values:
        lines.append(f"Forwarded: {values['forwarded']}\r\n")
    return address, "".join(lines)


class ResponseFacts:
    """What a response's header block says, and what of it goes to the client."""

    __slots__ = ("block", "chunked", "forward", "keep_alive", "length", "reason", "status")

    def __init__(self, status: int, reason: str, block: str) -> None:
        self.status = status
        self.reason = reason
        self.block = block
        self.chunked = False
        self.length = -1
        """Content-Length; -1: none."""
        self.keep_alive = True
        self.forward = b""
        """Status line and fields for an HTTP/1.1 client, without Connection, Transfer-Encoding and the empty line."""


def read_response(status: int, reason: str, version: int, block: str) -> ResponseFacts | None:
    """Read a well-formed header block of a backend; None: its framing is not exactly one thing."""
    facts = ResponseFacts(status, reason, block)
    connection: list[str] = []
    lengths: list[str] = []
    codings: list[str] = []
    kept: list[str] = []
    position = 0
    for match in _RESPONSE_SPECIAL.finditer(block):
        name, value = match[1].lower(), match[2]
        if name == "content-length":
            lengths.append(value)
            if len(lengths) == 1:
                continue
        elif name == "connection":
            connection += [token for part in value.split(",") if (token := part.strip(" \t").lower())]
        elif name == "transfer-encoding":
            codings.append(value.lower())
        elif name == "proxy-authenticate":
            continue
        kept.append(block[position : match.start()])
        position = match.end()
    kept.append(block[position:])
    if codings:
        if codings != ["chunked"] or lengths or version < 11:
            return None
        facts.chunked = True
    elif lengths:
        value = lengths[0]
        if len(lengths) > 1 or not value.isascii() or not value.isdigit() or len(value) > 18:
            return None
        facts.length = int(value)
    facts.keep_alive = "close" not in connection and (version >= 11 or "keep-alive" in connection)
    ordinary = "".join(kept)
    if nominated := set(connection) - _KEPT_ANYWAY:
        ordinary = _without(ordinary, nominated)
    facts.forward = f"HTTP/1.1 {status} {reason}\r\n{ordinary}".encode("latin-1")
    return facts
