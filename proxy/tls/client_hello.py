# Compiled by mypyc: see setup.py.
"""Read a ClientHello from peeked bytes, before OpenSSL sees them (RFC 8446 4.1.2 and 5.1, RFC 6066 3, RFC 7301). No I/O.

It reads only what decides how the handshake goes; everything else is OpenSSL's to judge.
"""

import ipaddress
from dataclasses import dataclass
from enum import Enum
from typing import Final

MAX_BYTES: Final = 16 * 1024
"""A hello with post-quantum key shares has about 2 KiB; nothing honest comes near this."""

ALERT_DECODE_ERROR: Final = 50
ALERT_PROTOCOL_VERSION: Final = 70
ALERT_UNRECOGNIZED_NAME: Final = 112
ALERT_NO_APPLICATION_PROTOCOL: Final = 120

TLS_1_2: Final = 0x0303

_EXTENSION_SERVER_NAME: Final = 0
_EXTENSION_ALPN: Final = 16


class HelloStatus(Enum):
    """Why there is no ClientHello (yet)."""

    MORE = "more bytes are needed"
    NOT_TLS = "this is not TLS"
    MALFORMED = "this is TLS, but no ClientHello that we read"


@dataclass(frozen=True, slots=True)
class ClientHello:
    """A client's wishes for the connection."""

    sni: str | None
    """Server name in lower case, without a trailing dot; None: none was sent."""
    alpn: tuple[bytes, ...]
    """Application protocols in the client's order; empty: it does not say."""
    version: int
    """legacy_version: the newest that the client speaks up to TLS 1.2 (0x0303), which newer ones send too (RFC 8446, 4.1.2)."""


class _MalformedError(Exception):
    """A length points past its end, or a name is not ASCII."""


def alert(description: int) -> bytes:
    """Return a fatal alert as it is sent before any handshake (RFC 8446 6)."""
    return bytes((0x15, 0x03, 0x03, 0x00, 0x02, 0x02, description))


class HelloReader:
    """Reads the hello at the start of a connection; it may come in several records and several segments.

    Each byte is looked at once: a hello in records of a byte each costs no more than its length.
    """

    __slots__ = ("_header", "_left", "_message", "_seen")

    def __init__(self) -> None:
        self._header = b""
        """Of the record that begins; what is here of it."""
        self._left = 0
        """Bytes that the record under way still has."""
        self._message = bytearray()
        """The records' fragments, joined: the handshake message (RFC 8446 5.1)."""
        self._seen = 0

    def feed(self, data: bytes) -> ClientHello | HelloStatus:
        """Read on; after anything but `HelloStatus.MORE` there is nothing more to feed."""
        at = 0
        while True:
            hello = self._parse_message()
            if hello is not HelloStatus.MORE:
                return hello
            if self._left:
                piece = data[at : at + self._left]
                self._message += piece
                self._left -= len(piece)
                at += len(piece)
            else:
                piece = data[at : at + 5 - len(self._header)]
                self._header += piece
                at += len(piece)
                problem = self._check_header()
                if problem is not None:
                    return problem
            if not piece:
                break
        self._seen += len(data)
        return HelloStatus.MORE if self._seen < MAX_BYTES else HelloStatus.MALFORMED

    def _check_header(self) -> HelloStatus | None:
        header, first = self._header, not self._message
        if first and header and header[0] != 0x16:
            return HelloStatus.NOT_TLS
        if first and len(header) > 1 and header[1] != 3:
            return HelloStatus.MALFORMED
        if len(header) == 5:
            length = int.from_bytes(header[3:5], "big")
            # RFC 8446 5.1: handshake fragments are not empty, and nothing may come between them.
            if header[0] != 0x16 or not 0 < length <= 16384:
                return HelloStatus.MALFORMED
            self._left, self._header = length, b""
        return None

    def _parse_message(self) -> ClientHello | HelloStatus:
        message = self._message
        if len(message) < 4:
            return HelloStatus.MORE
        if message[0] != 1:
            return HelloStatus.MALFORMED
        size = 4 + int.from_bytes(message[1:4], "big")
        if size > MAX_BYTES - 5:
            return HelloStatus.MALFORMED
        if len(message) < size:
            return HelloStatus.MORE
        try:
            return _read_hello(bytes(message[4:size]))
        except _MalformedError:
            return HelloStatus.MALFORMED


class _Reader:
    """Length-prefixed vectors of the TLS presentation language."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """Read `count` bytes."""
        if count > self.left:
            raise _MalformedError
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, width: int) -> int:
        """Read an integer of `width` bytes."""
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        """Read a vector whose length has `width` bytes."""
        return self.take(self.number(width))


def _read_hello(message: bytes) -> ClientHello:
    hello = _Reader(message)
    version = hello.number(2)
    hello.take(32)  # random
    hello.vector(1)  # legacy_session_id
    hello.vector(2)  # cipher_suites
    hello.vector(1)  # legacy_compression_methods
    sni: str | None = None
    alpn: tuple[bytes, ...] = ()
    extensions = _Reader(hello.vector(2) if hello.left else b"")
    while extensions.left:
        kind = extensions.number(2)
        body = _Reader(extensions.vector(2))
        if kind == _EXTENSION_SERVER_NAME:
            sni = _server_name(_Reader(body.vector(2)))
        elif kind == _EXTENSION_ALPN:
            protocols = _Reader(body.vector(2))
            offered = []
            while protocols.left:
                offered.append(protocols.vector(1))
            alpn = tuple(offered)
    return ClientHello(sni, alpn, version)


def _server_name(names: _Reader) -> str | None:
    while names.left:
        kind = names.number(1)
        value = names.vector(2)
        if kind == 0:  # host_name, the only kind there is
            # RFC 6066, 3. Python's ssl prints a traceback for a name that it cannot decode.
            if not value.isascii():
                raise _MalformedError
            name = value.decode("latin-1").lower().rstrip(".")
            return None if _is_address(name) else name
    return None


def _is_address(name: str) -> bool:
    """Tell whether a name is an IP address: those are not permitted here (RFC 6066, 3), so they count as no name."""
    if ":" not in name and not name[-1:].isdigit():
        # Every address has a colon or ends with a digit, few names do, and the parser costs as much as the rest of the hello.
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
