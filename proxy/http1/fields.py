# Compiled by mypyc: see setup.py.
"""Header fields that a proxy must touch, and what it adds: hop-by-hop fields, forwarding fields, hosts.

All other fields pass as the client wrote them. head_scanner.py has found the lines that matter here, and checked that they are
well-formed.
"""

from collections.abc import Callable, Iterable
from typing import Final

from proxy.http.forwarded import forwarding_fields, is_forwarding
from proxy.http.local_replies import BAD_EXPECT, BAD_HOST, BAD_LENGTH
from proxy.http.message import UNKNOWN_LENGTH, Answer, Client, ResponseHead
from proxy.routing.hosts import normalise_host
from proxy.websocket.handshake import check_attempt, is_attempt

NO_BODY: Final = 0

_LENGTH: Final = frozenset((b"content-length",))
_KEPT_ANYWAY: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"close", b"keep-alive", b"upgrade"))
"""Nominating these in Connection removes nothing: they frame or address the message (RFC 9110, 7.6.1)."""
_NOTHING: Final[frozenset[bytes]] = frozenset()
_EXPECT: Final = frozenset((b"expect",))
_CODINGS: Final = frozenset((b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"))
"""Transfer codings that may lie below chunked (RFC 9112, 7.2)."""


def split_fields(lines: Iterable[bytes]) -> list[tuple[str, str]]:
    """Split well-formed field lines into names and values."""
    return [(name, value.strip(" \t")) for name, _, value in (line.decode("latin-1").partition(":") for line in lines)]


def without(lines: Iterable[bytes], names: frozenset[bytes]) -> list[bytes]:
    """Leave the lines of some fields out, by their lower-case names."""
    return [line for line in lines if line.partition(b":")[0].lower() not in names]


class RequestFraming:
    """What a request's header fields say beside the ordinary ones, and what goes to the backend in their place.

    Depends on nothing but the lines that head_scanner.py calls INSPECT or CONSUME, the connection and the version: where these are
    the same again, this is.
    """

    __slots__ = (
        "added",
        "address",
        "attempt",
        "authority",
        "connection_auth",
        "dropped",
        "expect",
        "host",
        "keep_alive",
        "length",
        "refusal",
        "request_id",
        "takes_trailers",
    )

    def __init__(self) -> None:
        self.host = ""
        self.authority = ""
        self.keep_alive = True
        self.length = NO_BODY
        """Bytes of the body; UNKNOWN_LENGTH: it is chunked."""
        self.expect = False
        self.attempt = False
        """Asks for a WebSocket, well or badly; `refusal` says how badly."""
        self.refusal: Answer | None = None
        self.added = b""
        """Fields for the backend beside the client's own, each with its CRLF, without Connection, Upgrade and X-Request-ID."""
        self.dropped = _NOTHING
        """Lower-case names of ordinary fields that do not go to the backend all the same."""
        self.connection_auth = False
        """Logs the backend's connection in: it is not pooled."""
        self.takes_trailers = False
        """The client reads fields behind a body (RFC 9110, 6.5.1), and the backend is told so."""
        self.request_id = ""
        """X-Request-ID of a trusted peer; empty: make one."""
        self.address = ""
        """The client's address, behind trusted proxies."""


def read_request(
    lines: list[bytes], method: str, version: int, client: Client, *, trusts: Callable[[bytes], bool], forwarded: bool
) -> RequestFraming | Answer:
    """Read the field lines that matter; return what they say, or the answer if the request is not exactly one thing."""
    framing = RequestFraming()
    lengths: list[str] = []
    hosts: list[str] = []
    codings: list[str] = []
    connection: list[bytes] = []
    accepted: list[str] = []
    upgrades = False
    incoming: list[tuple[str, str]] = []
    for line in lines:
        raw_name, _, raw_value = line.partition(b":")
        name = raw_name.lower()
        value = raw_value.strip(b" \t").decode("latin-1")
        if name == b"host":
            hosts.append(value)
        elif name == b"connection":
            connection += [token for part in raw_value.split(b",") if (token := part.strip(b" \t").lower())]
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"expect":
            if value.lower() != "100-continue":
                return BAD_EXPECT
            framing.expect = version >= 11
        elif name == b"upgrade":
            upgrades = True
        elif name == b"te":
            accepted += [part.partition(";")[0].strip(" \t").lower() for part in value.split(",")]
        elif name == b"authorization":
            framing.connection_auth = True
        elif is_forwarding(name) and b"_" not in name:
            incoming.append((name.decode(), value))
    if len(hosts) != 1:
        if hosts or version >= 11:
            return BAD_HOST
    else:
        host = normalise_host(hosts[0])
        if host is None:
            return BAD_HOST
        framing.host, framing.authority = host, hosts[0]
    length = _body_length(lengths, codings, version)
    if length is None:
        return BAD_LENGTH
    framing.length = length
    framing.keep_alive = b"close" not in connection and (version >= 11 or b"keep-alive" in connection)
    framing.dropped = frozenset(connection) - _KEPT_ANYWAY
    if version < 11:
        framing.dropped |= _EXPECT
    if upgrades and version >= 11 and b"upgrade" in connection:
        fields = split_fields(lines)
        if is_attempt(version, fields):
            framing.attempt = True
            framing.refusal = check_attempt(method, fields, has_body=length != NO_BODY)
    if upgrades and not framing.attempt:
        # Bytes behind an Upgrade that is not followed may be meant for the other protocol: they are never read as a request.
        framing.keep_alive = False
    trusted = incoming if client.trusted else []
    framing.address, added = forwarding_fields(framing.authority, client, trusted, trusts, forwarded=forwarded)
    framing.request_id = dict(trusted).get("x-request-id", "")
    if "trailers" in accepted and version >= 11 and not framing.attempt:
        framing.takes_trailers = True
        added += "TE: trailers\r\nConnection: TE\r\n"
    framing.added = added.encode("latin-1")
    return framing


def _body_length(lengths: list[str], codings: list[str], version: int) -> int | None:
    if codings:
        return UNKNOWN_LENGTH if codings == ["chunked"] and not lengths and version >= 11 else None
    if not lengths:
        return NO_BODY
    value = lengths[0]
    if len(lengths) > 1 or not value.isascii() or not value.isdigit() or len(value) > 18 or (value[0] == "0" and value != "0"):
        # Some read leading zeros as octal.
        return None
    return int(value)


class ResponseFraming:
    """What a response's head says: its head for the client, and how HTTP/1.1 frames its body."""

    __slots__ = ("chunked", "head", "keep_alive", "length", "lines", "nominated")

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        """The field lines that the proxy reads, as head_scanner.py sorts them."""
        self.head: ResponseHead
        self.chunked = False
        self.length = -1
        """Content-Length; -1: none."""
        self.keep_alive = True
        self.nominated = _NOTHING
        """Lower-case names of fields that Connection keeps to this hop."""


def read_response(status: int, reason: str, version: int, forwarded: list[bytes], inspected: list[bytes]) -> ResponseFraming | None:
    """Read a backend's field lines, sorted by head_scanner.py; None: their framing is not exactly one thing."""
    framing = ResponseFraming(inspected)
    connection: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    below: list[bytes] = []
    connection_auth = False
    for line in inspected:
        raw_name, _, raw_value = line.partition(b":")
        name, value = raw_name.lower(), raw_value.strip(b" \t")
        if name == b"content-length":
            lengths.append(value)
        elif name == b"connection":
            connection += [token for part in value.split(b",") if (token := part.strip(b" \t").lower())]
        elif name == b"transfer-encoding":
            codings += [part.strip(b" \t").lower() for part in value.split(b",")]
        elif name == b"www-authenticate":
            connection_auth = True
    if codings:
        if lengths or version < 11:
            return None
        # Without chunked at the end the body lasts until the connection ends (RFC 9112, 6.3).
        framing.chunked = codings[-1] == b"chunked"
        below = codings[:-1] if framing.chunked else codings
        if not _CODINGS.issuperset(below):
            return None
    elif lengths:
        value = lengths[0]
        if len(lengths) > 1 or not value.isdigit() or len(value) > 18 or (value[:1] == b"0" and value != b"0"):
            return None
        framing.length = int(value)
    framing.keep_alive = b"close" not in connection and (version >= 11 or b"keep-alive" in connection) and not connection_auth
    framing.nominated = frozenset(connection) - _KEPT_ANYWAY
    dropped = framing.nominated
    if lengths and (status < 200 or status == 204):
        # RFC 9110, 8.6: these have no length, not even of nothing.
        dropped |= _LENGTH
    if dropped:
        forwarded = without(forwarded, dropped)
    block = b"\r\n".join((*forwarded, b""))
    framing.head = ResponseHead(status, reason.encode("latin-1"), block, b"".join([coding + b", " for coding in below]))
    return framing
