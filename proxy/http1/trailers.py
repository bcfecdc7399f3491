# Compiled by mypyc: see setup.py.
"""Fields behind a body (RFC 9110, 6.5): which of them pass. They are never merged into the fields of the head.

chunked.py has checked that they are well-formed, and how many bytes they have. What a recipient would act on before it has the
body, or what says something of the connection, the way or the client that only a head may say, is left out (RFC 9110, 6.5.1).
"""

from collections.abc import Iterable
from typing import Final

from proxy.http.forwarded import is_forwarding

_FORBIDDEN: Final = frozenset(
    (
        # Framing and the connection.
        *(
            b"transfer-encoding",
            b"connection",
            b"keep-alive",
            b"proxy-connection",
            b"te",
            b"trailer",
            b"upgrade",
            b"http2-settings",
        ),
        # Routing, and what modifies a request.
        *(b"host", b"via", b"proxy", b"expect", b"max-forwards", b"range", b"cache-control", b"pragma", b"prefer", b"early-data"),
        # Who the client is, and what it may do.
        *(b"authorization", b"proxy-authorization", b"www-authenticate", b"proxy-authenticate", b"cookie", b"set-cookie"),
        *(b"set-cookie2", b"origin", b"referer"),
        # What controls an answer (RFC 9110, 8.6 to 10.2; RFC 9111, 5).
        *(
            b"age",
            b"date",
            b"expires",
            b"location",
            b"refresh",
            b"retry-after",
            b"vary",
            b"warning",
            b"alt-svc",
            b"clear-site-data",
        ),
        b"strict-transport-security",
    )
)
_FORBIDDEN_PREFIXES: Final = (b"content-", b"accept", b"if-", b"sec-", b"access-control-")
"""Format of the content, negotiation, conditions, handshakes, rights of origins."""
_DIGESTS: Final = frozenset((b"content-digest", b"content-md5"))
"""Of the content, but known when all of it was sent (RFC 9530, 2)."""


def passing_trailers(lines: Iterable[bytes], nominated: frozenset[bytes]) -> bytes:
    """Return the lines that may pass, each with its CRLF. `nominated`: names that the head's Connection keeps to this hop."""
    passing: list[bytes] = []
    for line in lines:
        name = line.partition(b":")[0].lower()
        # Many backends read an underscore as a dash.
        dashed = name.replace(b"_", b"-")
        if dashed in _FORBIDDEN or is_forwarding(dashed) or name in nominated:
            continue
        if dashed.startswith(_FORBIDDEN_PREFIXES) and name not in _DIGESTS:
            continue
        passing.append(line + b"\r\n")
    return b"".join(passing)
