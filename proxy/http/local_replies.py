# Compiled by mypyc: see setup.py.
"""Every answer of the proxy's own that depends on nothing: status, one sentence, cause. None names an address or a version."""

from typing import Final

from proxy.http.message import Answer

# No route, or one that cannot serve.
NOT_FOUND = Answer(404, "No route of this proxy serves this host and path.", cause="no_route")
UPGRADE_REQUIRED = Answer(
    426,
    "This path serves WebSockets only; the request asks for no upgrade.",
    (("Upgrade", "websocket"), ("Connection", "Upgrade")),
    cause="upgrade_required",
)
BAD_PATH = Answer(
    400,
    "The request's path can be read in more than one way, and these lead to different routes:"
    ' leave out "//", ".", "..", ";" and what is encoded without need.',
    cause="path_ambiguous",
)

# A client that keeps its connection would ask on it again, and be told the same.
MISDIRECTED = Answer(
    421, "This connection was made for another host; make a new one for this host.", close=True, cause="misdirected"
)
FAULT = Answer(500, "The route of this host and path has a fault in its configuration.", cause="route_fault")
UNRESOLVED = Answer(
    500,
    "The backend of this route cannot be resolved; its object's conditions or Events, and /problems of the admin port, say why.",
    cause="backend_unresolved",
)
NO_ENDPOINTS = Answer(503, "The backend of this route has no ready endpoint.", (("Retry-After", "5"),), cause="no_endpoint")
ENDPOINTS_FULL = Answer(
    503, "Every endpoint of this route has as many open WebSockets as it may have.", (("Retry-After", "5"),), cause="endpoints_full"
)

# What is no request that can be served: its fields.
BAD_HOST = Answer(400, "The request must have exactly one valid Host field.", close=True, cause="host_malformed")
BAD_LENGTH = Answer(400, "The request's length is not given in exactly one valid way.", close=True, cause="length_malformed")
BAD_EXPECT = Answer(417, "The only expectation that is supported is 100-continue.", close=True, cause="expectation_unsupported")
BAD_REQUEST = Answer(400, "The request is malformed.", close=True, cause="request_malformed")

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
BAD_FORM: Final = Answer(
    400, 'The request\'s target must begin with "/", or with http:// or https:// and a host.', close=True, cause="target_malformed"
)

# Targets in absolute form.
OTHER_HOST = Answer(400, "The request's target names another host or port than its Host field.", close=True, cause="host_mismatch")
USERINFO = Answer(
    400, 'The request\'s target has "@" before its path; a user name may not be in it.', close=True, cause="target_malformed"
)

# What became of a request on its way; the cause is found there.
GATEWAY = {
    400: Answer(400, "The request's body is malformed.", close=True),
    502: Answer(502, "The backend of this route refused the connection or did not answer properly."),
    503: Answer(503, "The backend of this route has no ready endpoint.", (("Retry-After", "5"),)),
    504: Answer(504, "The backend of this route did not answer in time."),
}

TIMED_OUT = Answer(408, "The request did not arrive in time.", close=True, cause="request_timeout")
NO_CONTENT = Answer(204, "")

# Doors.
PLAIN_ON_TLS = Answer(400, "This port speaks HTTPS; the request came as plain HTTP.", close=True, cause="plain_http_on_tls")

# Guards and limits.
ADDRESS_REFUSED = Answer(403, "This address may not use this route.", cause="address_refused")

RETRY = (("Retry-After", "5"),)
ROUTE_FULL = Answer(503, "This route has as many open WebSockets as it may have.", RETRY, cause="route_full")
CLIENT_FULL = Answer(429, "This address has as many open WebSockets on this route as it may have.", RETRY, cause="client_full")
POD_FULL = Answer(503, "This proxy has as many open WebSockets as it may have.", RETRY, cause="pod_full")
POD_CLIENT_FULL = Answer(429, "This address has as many open WebSockets as it may have.", RETRY, cause="pod_client_full")

ORIGIN_REFUSED = Answer(403, "Pages of this origin may not open WebSockets here.", cause="origin_refused")

# Pods by name.
UNNAMED = Answer(404, "This path must name a pod behind the one that the route serves.", cause="no_pod")
AMBIGUOUS_PATH = Answer(400, "The request's path can be read in more than one way.", cause="path_ambiguous")

NO_POD = Answer(404, "No pod of this name or address is behind this route.", cause="no_pod")
