# Compiled by mypyc: see setup.py.
"""The head of a backend's answer as a route's filters see and change it, whatever version of HTTP it travels in."""

import http
import re
from typing import Final

from proxy.http.message import ResponseHead, split_block

BODILESS_STATUSES: Final = frozenset((204, 304))
"""Statuses of answers without a body (RFC 9110, 6.4.1)."""

_OURS: Final = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"http2-settings"),
        b"content-length",
    )
)
"""Framing and the connection: these are the codecs' to say."""
_HANDSHAKE: Final = b"sec-websocket-"
_OF_THE_BYTES: Final = frozenset((b"content-md5", b"content-digest", b"repr-digest", b"digest", b"accept-ranges"))
"""What is no longer true of a body whose bytes changed."""
_OF_THE_BODY: Final = _OF_THE_BYTES | {b"content-encoding", b"content-range", b"content-type", b"etag", b"last-modified"}
"""And of one that another took the place of."""
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class AnswerHead:
    """Status and fields; a filter changes them in place. `fields` are names as they were written and values, in order.

    What frames the answer, or is about the connection, is not among them; where a filter adds such a field, it is dropped. So are,
    of a 101, the fields of the handshake, and another status.
    """

    __slots__ = ("_backend_status", "_head", "_kept", "_length", "body", "fields", "has_body", "replaced", "status")

    def __init__(self, head: ResponseHead, added: bytes, *, has_body: bool) -> None:
        """Take a head apart. `added`: fields of ours that the answer gets, as lines with their CRLF."""
        self.status = head.status
        self.has_body = has_body
        """The backend's answer has one: not of HEAD, not a 204, 304 or 101."""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body: bytes | None = None
        """What takes the place of the backend's body, see `replace_body`."""
        self.replaced = False
        """Since it was last looked at, which is behind each filter: with the same bytes as before, too."""
        self._head = head
        self._backend_status = head.status
        self._length = b""
        """Content-Length, as the backend gave it."""
        self._kept: list[tuple[bytes, bytes]] = []
        """Of a 101: what makes it one."""
        for name, value in split_block(head.fields + added):
            lowered = name.lower()
            if lowered == b"content-length":
                self._length = value
            elif head.status == 101 and lowered.startswith(_HANDSHAKE):
                self._kept.append((name, value))
            else:
                self.fields.append((name, value))

    @property
    def partial(self) -> bool:
        """The body is a part of the whole one (RFC 9110, 14.4): it goes through no filter."""
        return self._backend_status == 206

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field, by its lower-case name."""
        return [value for field, value in self.fields if field.lower() == name]

    def set(self, name: bytes, value: bytes) -> None:
        """Give a field one value, in the place of the first that it had."""
        lowered, fields, found = name.lower(), [], False
        for field, old in self.fields:
            if field.lower() != lowered:
                fields.append((field, old))
            elif not found:
                found = True
                fields.append((name, value))
        if not found:
            fields.append((name, value))
        self.fields = fields

    def add(self, name: bytes, value: bytes) -> None:
        """Add a field behind all others."""
        self.fields.append((name, value))

    def remove(self, name: bytes) -> None:
        """Take all fields of a name away."""
        lowered = name.lower()
        self.fields = [(field, value) for field, value in self.fields if field.lower() != lowered]

    def replace_body(self, body: bytes) -> None:
        """Answer with another body; the backend's is not read. Its fields go with it: type, coding, validators, digests."""
        self.body, self.replaced = body, True
        self._drop(_OF_THE_BODY)

    def drop_fields_of_old_body(self) -> None:
        """Take away what is not true of a body that a filter changes, whether or not there is one (RFC 9110, 7.7, 8.8.1)."""
        self._length = b""
        self._drop(_OF_THE_BYTES)
        self.fields = [
            (name, b"W/" + value if name.lower() == b"etag" and value.startswith(b'"') else value) for name, value in self.fields
        ]

    def _drop(self, names: frozenset[bytes]) -> None:
        self.fields = [(name, value) for name, value in self.fields if name.lower() not in names]

    def render(self, length: bytes | None) -> ResponseHead:
        """Return the head as it goes to the client; `length`: its Content-Length, None for the backend's own.

        Raises ValueError where a filter wrote what is no field.
        """
        head, upgrade = self._head, self._backend_status == 101
        lines: list[bytes] = []
        for name, value in self.fields:
            lowered = name.lower()
            if lowered in _OURS or (upgrade and lowered.startswith(_HANDSHAKE)):
                continue
            if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
                raise ValueError(f"{name!r}: {value!r} is no field")
            lines.append(name + b": " + value + b"\r\n")
        lines += [name + b": " + value + b"\r\n" for name, value in self._kept]
        if length is None:
            length = self._length
        codings = head.codings if self.body is None else b""
        if length:
            lines.append(b"Content-Length: " + length + b"\r\n")
        if upgrade or self.status == head.status:
            return ResponseHead(head.status, head.reason, b"".join(lines), codings)
        if not 200 <= self.status <= 599:
            raise ValueError(f"{self.status} is no status of a final answer")
        return ResponseHead(self.status, _reason(self.status), b"".join(lines), codings)


def _reason(status: int) -> bytes:
    try:
        return http.HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
