# Compiled by mypyc: see setup.py.
"""Every answer of the proxy's own: status, one sentence, cause. No other module makes one; none names an address or a version.

What depends on the request or on a limit is made by a function. Its bytes are a codec's: text, or JSON where the client prefers it
(proxy/http1/render.py). A status and a cause are part of the interface (docs/troubleshooting.md), the sentence is not.
"""

from typing import Final

from proxy.http.message import Answer

RETRY: Final = (("Retry-After", "5"),)

# No route, or one that cannot serve.
NOT_FOUND: Final = Answer(404, "No route of this proxy serves this host and path.", cause="no_route")
UPGRADE_REQUIRED: Final = Answer(
    426,
    "This path serves WebSockets only; the request asks for no upgrade.",
    (("Upgrade", "websocket"), ("Connection", "Upgrade")),
    cause="upgrade_required",
)
BAD_PATH: Final = Answer(
    400,
    "The request's path can be read in more than one way, and these lead to different routes:"
    ' leave out "//", ".", "..", ";" and what is encoded without need.',
    cause="path_ambiguous",
)
EXPRESSIONS_FAILED: Final = Answer(
    503,
    "The proxy has no memory to match the request's path with the regular expressions of its host.",
    (("Retry-After", "5"),),
    cause="expressions_failed",
)

# A client that keeps its connection would ask on it again, and be told the same.
MISDIRECTED: Final = Answer(
    421, "This connection was made for another host; make a new one for this host.", close=True, cause="misdirected"
)
FAULT: Final = Answer(500, "The route of this host and path has a fault in its configuration.", cause="route_fault")
FILTER_FAILED: Final = Answer(500, "A filter of this route failed.", cause="filter_failed")
UNRESOLVED: Final = Answer(
    500,
    "The backend of this route cannot be resolved; its object's conditions or Events, and /problems of the admin port, say why.",
    cause="backend_unresolved",
)
NO_ENDPOINTS: Final = Answer(503, "The backend of this route has no ready endpoint.", RETRY, cause="no_endpoint")
ENDPOINTS_FULL: Final = Answer(
    503, "Every endpoint of this route has as many open WebSockets as it may have.", RETRY, cause="endpoints_full"
)

# What is no request that can be served: its fields.
BAD_HOST: Final = Answer(400, "The request must have exactly one valid Host field.", close=True, cause="host_malformed")
BAD_LENGTH: Final = Answer(400, "The request's length is not given in exactly one valid way.", close=True, cause="length_malformed")
BAD_EXPECT: Final = Answer(
    417, "The only expectation that is supported is 100-continue.", close=True, cause="expectation_unsupported"
)
BAD_REQUEST: Final = Answer(400, "The request is malformed.", close=True, cause="request_malformed")

# Heads that are too much.
TOO_LARGE: Final = Answer(431, "The request's header fields are too large.", close=True, cause="fields_too_large")
TOO_LONG: Final = Answer(414, "The request's target is too long.", close=True, cause="target_too_long")

# The request line.
UNKNOWN_METHOD: Final = Answer(501, "The request's method is longer than any that is known.", close=True, cause="method_unknown")
BAD_LINE: Final = Answer(
    400,
    "The request line is not a method, a target and an HTTP version with one space between them.",
    close=True,
    cause="request_line_malformed",
)
BAD_VERSION: Final = Answer(
    505, "The HTTP version is not supported; HTTP/1.0 and HTTP/1.1 are.", close=True, cause="version_unsupported"
)


def unsupported_method(method: str) -> Answer:
    """Refuse CONNECT and TRACE (RFC 9110, 9.3.6, 9.3.8)."""
    allowed = (("Allow", "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),)
    return Answer(405, f"The method {method} is not supported.", allowed, close=True, cause="method_not_allowed")


def odd_method(character: str) -> Answer:
    """Refuse a method that has a character in it which none may have."""
    sentence = f"The request's method has {_named(character)} in it; it may have letters, digits and -."
    return Answer(400, sentence, close=True, cause="method_malformed")


def odd_target(character: str) -> Answer:
    """Refuse a target that has a character in it which must be encoded."""
    sentence = f"The request's target has {_named(character)} in it, which must be written %{ord(character):02X}."
    return Answer(400, sentence, close=True, cause="target_malformed")


def unreadable_target(sentence: str) -> Answer:
    """Refuse a path that no backend can read; `sentence` says why (proxy/routing/paths.py)."""
    return Answer(400, sentence, cause="target_malformed")


def _named(character: str) -> str:
    return f'"{character}"' if "!" <= character <= "~" else f"the byte 0x{ord(character):02X}"


BAD_FORM: Final = Answer(
    400, 'The request\'s target must begin with "/", or with http:// or https:// and a host.', close=True, cause="target_malformed"
)

# Targets in absolute form.
OTHER_HOST: Final = Answer(
    400, "The request's target names another host or port than its Host field.", close=True, cause="host_mismatch"
)
USERINFO: Final = Answer(
    400, 'The request\'s target has "@" before its path; a user name may not be in it.', close=True, cause="target_malformed"
)

# Handshakes of WebSockets (RFC 6455, 4.2.1).
HANDSHAKE_METHOD: Final = Answer(400, "A WebSocket handshake must be a GET request.", close=True, cause="handshake_malformed")
HANDSHAKE_BODY: Final = Answer(400, "A WebSocket handshake must not have a body.", close=True, cause="handshake_malformed")
HANDSHAKE_PROTOCOL: Final = Answer(
    400, "A WebSocket handshake must ask for no other protocol in Upgrade.", close=True, cause="handshake_malformed"
)
HANDSHAKE_KEY: Final = Answer(
    400, "A WebSocket handshake must have one Sec-WebSocket-Key of 16 bytes in base64.", close=True, cause="handshake_malformed"
)
HANDSHAKE_VERSION: Final = Answer(
    426,
    "The WebSocket version asked for is not supported; version 13 is.",
    (("Sec-WebSocket-Version", "13"),),
    cause="websocket_version",
)

# What became of a request on its way; the cause is found there.
GATEWAY: Final = {
    400: Answer(400, "The request's body is malformed.", close=True),
    413: Answer(413, "The request's body is larger than this route takes."),
    500: Answer(500, "The answer of this route's backend could not be filtered."),
    502: Answer(502, "The backend of this route refused the connection or did not answer properly."),
    503: Answer(503, "The backend of this route has no ready endpoint.", RETRY),
    504: Answer(504, "The backend of this route did not answer in time."),
}

TIMED_OUT: Final = Answer(408, "The request did not arrive in time.", close=True, cause="request_timeout")
NO_CONTENT: Final = Answer(204, "")

# Doors.
PLAIN_ON_TLS: Final = Answer(400, "This port speaks HTTPS; the request came as plain HTTP.", close=True, cause="plain_http_on_tls")

# Guards and limits.
ADDRESS_REFUSED: Final = Answer(403, "This address may not use this route.", cause="address_refused")
ORIGIN_REFUSED: Final = Answer(403, "Pages of this origin may not open WebSockets here.", cause="origin_refused")

BODY_TOO_LARGE: Final = Answer(413, "The request's body is larger than this route takes.", cause="body_too_large")

ROUTE_FULL: Final = Answer(503, "This route has as many open WebSockets as it may have.", RETRY, cause="route_full")
POD_FULL: Final = Answer(503, "This proxy has as many open WebSockets as it may have.", RETRY, cause="pod_full")
POD_CLIENT_FULL: Final = Answer(429, "This address has as many open WebSockets as it may have.", RETRY, cause="pod_client_full")


def client_full(status: int) -> Answer:
    """Refuse a client that has as many sockets on a route as it may have; `status` is what the limit's kind of object says."""
    return Answer(status, "This address has as many open WebSockets on this route as it may have.", RETRY, cause="client_full")


def rate_exceeded(status: int, seconds: int, *, upgrades_only: bool) -> Answer:
    """Refuse a client that comes too fast, and say after how many seconds it may come again."""
    what = "opens WebSockets" if upgrades_only else "sends requests"
    return Answer(status, f"This address {what} faster than it may.", (("Retry-After", str(seconds)),), cause="rate_exceeded")


def https_redirect(location: str) -> Answer:
    """Send a request over plain HTTP to https (RFC 9110, 15.4.9)."""
    return Answer(308, "This host is served over https.", (("Location", location),), cause="https_redirect")


def with_hsts(answer: Answer, value: str) -> Answer:
    """Add Strict-Transport-Security to an answer over https (RFC 6797, 7.1)."""
    headers = (*answer.headers, ("Strict-Transport-Security", value))
    return Answer(answer.status, answer.message, headers, answer.close, answer.cause)


def expression_redirect(location: str) -> Answer:
    """Answer that what a path of a route leads to has another address."""
    return Answer(302, "What this path leads to has another address.", (("Location", location),), cause="redirect")


# Pods by name.
UNNAMED: Final = Answer(404, "This path must name a pod behind the one that the route serves.", cause="no_pod")
NO_POD: Final = Answer(404, "No pod of this name or address is behind this route.", cause="no_pod")
REWRITTEN_PATH: Final = Answer(
    400,
    "The path that the route makes of the request's for its backend has an empty segment, or one of dots.",
    cause="path_ambiguous",
)
AMBIGUOUS_PATH: Final = Answer(400, "The request's path can be read in more than one way.", cause="path_ambiguous")
