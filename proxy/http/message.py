# Compiled by mypyc: see setup.py.
"""One request and its answer in the form of HTTP/1.1, into which other versions are translated, and the connection it came by.

What filters, routing and logs need to know of a request lives here; how it was framed does not.
"""

from dataclasses import dataclass
from typing import Final

from proxy.shared_memory.counters import Reservation

NOTHING: Final[frozenset[str]] = frozenset()
UNKNOWN_LENGTH: Final = -1
"""In place of the bytes of a body of which only its end tells how many they are: chunks, or all until the connection ends."""


class Client:
    """One accepted connection, as far as its requests need to know it."""

    __slots__ = ("accepted_at", "certificate", "listener", "peer", "port", "proved", "secure", "sni", "trusted")

    def __init__(
        self,
        *,
        peer: str,
        secure: bool = False,
        sni: str | None = None,
        port: int = 80,
        trusted: bool = False,
        listener: str = "http",
        accepted_at: float | None = None,
    ) -> None:
        self.accepted_at = accepted_at
        """Loop time of the accept, before any TLS handshake; None: the connection is seen from its first byte."""
        self.peer = peer
        """IP address of the other end."""
        self.secure = secure
        """TLS was terminated here."""
        self.sni = sni
        """Server name of the ClientHello; None: none was sent, or not TLS."""
        self.port = port
        """Port that clients see, for X-Forwarded-Port."""
        self.trusted = trusted
        """The peer is in --trusted-proxies: its forwarding headers are believed."""
        self.listener = listener
        self.certificate = b""
        """Fingerprint of the certificate that the handshake's server name got; see `CertificateStore.fingerprint`."""
        self.proved = NOTHING
        """What the handshake proved of what hosts may ask of TLS; see `CertificateStore.requirements_of`."""


class Request:
    """One request, its head parsed and checked."""

    __slots__ = (
        "_lowered",
        "address",
        "authority",
        "client",
        "fields",
        "host",
        "id",
        "length",
        "lines",
        "method",
        "path",
        "pod",
        "query",
        "reservation",
        "sent_target",
        "target",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        client: Client,
        method: str,
        target: str,
        version: int,
        host: str,
        authority: str,
        lines: list[bytes],
        *,
        upgrade: bool,
    ) -> None:
        self.client = client
        self.method = method
        self.target = target
        """Origin-form target, the client's own bytes as Latin-1."""
        self.version = version
        """10 or 11."""
        self.host = host
        """For matching: lower case, without port and trailing dot."""
        self.authority = authority
        """Host as the client sent it."""
        self.lines = lines
        """Well-formed field lines in order, without their CRLF."""
        self.fields = b""
        """The fields for the backend: lines in order, each with its CRLF. A filter may put others in their place."""
        self.length = 0
        """Bytes of its body as its head announces them; UNKNOWN_LENGTH: only its end tells."""
        self.upgrade = upgrade
        """A well-formed WebSocket attempt."""
        path, _, query = target.partition("?")
        self.path = path
        self.query = query
        self.sent_target = target
        """The target that the backend sees: what a rewrite made of the client's."""
        self.pod = ""
        """Name or address of the pod that an upgrade asks for, where its route leads to pods."""
        self.id = ""
        """X-Request-ID of this request."""
        self.address = client.peer
        """The client's address: the peer, or what a trusted proxy says."""
        self.reservation: Reservation | None = None
        """What it counts for, where anything is limited; every upgrade has one from the choice of its endpoint on."""
        self._lowered: dict[str, list[str]] | None = None

    @property
    def secure(self) -> bool:
        """The client speaks https: with us, or with a trusted proxy before us, which says so."""
        return self.client.secure or (self.client.trusted and self.values("x-forwarded-proto")[-1:] == ["https"])

    def values(self, name: str) -> list[str]:
        """Return all values of a field, by its lower-case name."""
        lowered = self._lowered
        if lowered is None:
            lowered = {}
            for line in self.lines:
                field, _, value = line.decode("latin-1").partition(":")
                lowered.setdefault(field.lower(), []).append(value.strip(" \t"))
            self._lowered = lowered
        return lowered.get(name, [])

    def forget_fields(self) -> None:
        """Let go of the field lines; `values` finds nothing any more."""
        self.lines = []
        self._lowered = None

    def subprotocols(self) -> list[str]:
        """Return the subprotocols offered (RFC 6455, 11.3.4)."""
        return [token for value in self.values("sec-websocket-protocol") for part in value.split(",") if (token := part.strip())]


class ResponseHead:
    """The head of a backend's answer, as far as it goes to the client. Never changed: backends repeat theirs, codecs keep it."""

    __slots__ = ("codings", "encoded", "status")

    def __init__(self, status: int, reason: bytes, fields: bytes, codings: bytes = b"") -> None:
        self.status = status
        self.codings = codings
        """Transfer codings that the body keeps, each with a comma behind it (RFC 9112, 7)."""
        self.encoded = b"HTTP/1.1 %d %b\r\n%b" % (status, reason, fields)
        """Status line and fields as HTTP/1.1 has them, without the empty line."""

    @property
    def reason(self) -> bytes:
        """The reason phrase."""
        return self.encoded[: self.encoded.index(b"\r\n")].split(b" ", 2)[2]

    @property
    def fields(self) -> bytes:
        """Its fields but for those that are about the connection: lines in order, each with its CRLF."""
        return self.encoded[self.encoded.index(b"\r\n") + 2 :]


def split_block(block: bytes) -> list[tuple[bytes, bytes]]:
    """Take fields apart that come as lines with their CRLF: names as they were written, values without the space around them."""
    return [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in block.split(b"\r\n")[:-1])]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the proxy's own. `message` is one sentence that says what is wrong and whose fault it is."""

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False
    """The connection ends after it: its framing is not to be trusted any more."""
    cause: str = ""
    """Why, by a name of causes.py."""


class Failure:
    """What kept a request from a whole answer of a backend."""

    __slots__ = ("cause", "endpoint", "seconds", "service", "status")

    def __init__(self, status: int, cause: str, service: str, endpoint: str = "", seconds: float = 0.0) -> None:
        self.status = status
        """What the client is told."""
        self.cause = cause
        """Why, by a name of causes.py."""
        self.service = service
        self.endpoint = endpoint
        """Address and port; empty: it came to none."""
        self.seconds = seconds
        """How long the request had been under way."""
