"""Policies: what a route asks for beyond where it leads. One type per feature; `Policy` is their closed union.

Only values live here. The controller's `translate.policies` makes them, the proxy's filters and timers carry them out.
"""

from typing import Literal

import msgspec

CloseMode = Literal["keep", "drain", "now"]


class Timeouts(msgspec.Struct, frozen=True, tag="timeouts", omit_defaults=True):
    """Time limits of one route, in seconds. The defaults are the API's (docs/wsroute.md)."""

    connect: float = 5.0
    """All attempts to connect to an endpoint, together."""
    handshake: float = 10.0
    """From the upgrade request sent to the backend's 101."""
    response: float = 60.0
    """From the request sent to the head of the answer."""
    idle: float = 3600.0
    """Without an application byte in either direction of a socket; silence of a streaming backend."""
    send: float = 60.0
    """Without the backend taking anything of a request's body."""
    max_age: float = 0.0
    """Of a socket, give or take a tenth; 0: no limit."""


class Keepalive(msgspec.Struct, frozen=True, tag="keepalive", omit_defaults=True):
    """The proxy's own pings on the sockets of a route (docs/wsroute.md). A side of which nothing is heard is closed."""

    interval: float = 30.0
    """Seconds of silence after which a side is asked."""
    misses: int = 2
    """Intervals without a sign of life, after the first ping, that make it dead."""
    to: Literal["client", "backend", "both"] = "client"


class MessageLimits(msgspec.Struct, frozen=True, tag="message-limits", omit_defaults=True):
    """What one socket may send. A guard: a route that cannot honour it answers 500."""

    size: int = 0
    """Payload bytes of a message of either side, as they are on the wire; 0: any."""
    rate: float = 0.0
    """Messages of the client per second; 0: any."""
    burst: int = 1
    """Messages that may come at once."""


class BodySize(msgspec.Struct, frozen=True, tag="body-size"):
    """How large a request's body may be; a larger one gets 413."""

    most: int
    """Bytes, without what frames them."""


class HttpsRedirect(msgspec.Struct, frozen=True, tag="https-redirect", omit_defaults=True):
    """Answer plain HTTP with 308 to https, upgrades too, except under `/.well-known/acme-challenge/`."""

    hosts: tuple[str, ...] = ()
    """Of a route for any host: the hosts (exact or ``*.suffix``) to which this applies; empty: all of the route's."""


class ClientAddresses(msgspec.Struct, frozen=True, tag="client-addresses", omit_defaults=True):
    """Networks, as CIDRs, whose clients are served, and those whose clients are not; others get 403."""

    allow: tuple[str, ...] = ()
    """Empty: every network."""
    deny: tuple[str, ...] = ()
    """These win."""


class AllowedOrigins(msgspec.Struct, frozen=True, tag="origins"):
    """Upgrades with another Origin, or with none, get 403. An origin is exact, or has `*` for the first label of its host."""

    allowed: tuple[str, ...]


class Connections(msgspec.Struct, frozen=True, tag="connections", omit_defaults=True):
    """How many sockets may be open, handshakes under way among them, over all workers of the pod. 0: any number."""

    total: int = 0
    """Over it: 503."""
    per_client: int = 0
    """By the client's address; over it: `status`."""
    per_endpoint: int = 0
    """By endpoint, whichever route its sockets came by. A full one is skipped; where all are, 503."""
    requests: bool = False
    """Ordinary requests count while they are under way, too."""
    status: int = 429
    scope: str = ""
    """What counts together: routes with the same text; empty: each route by itself."""
    exempt: tuple[str, ...] = ()
    """CIDRs of clients to which `per_client` does not apply."""


class Rate(msgspec.Struct, frozen=True, tag="rate", omit_defaults=True):
    """How fast each client address may come: a bucket of `burst` tokens that fills with `rate` per second."""

    kind: str
    """Tells the rates of one route apart."""
    rate: float
    burst: int
    upgrades_only: bool = True
    status: int = 429
    scope: str = ""
    """What counts together: routes with the same text; empty: each route by itself."""
    exempt: tuple[str, ...] = ()
    """CIDRs of clients to which it does not apply."""


class HashPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a text that is hashed. What a request lacks is empty."""

    kind: Literal["literal", "client-ip", "host", "target", "path", "header", "cookie", "query"]
    """`target`: with its query, as it was sent. `path`: decoded, without empty and dot segments."""
    name: str = ""
    """The literal, or in lower case the name of the header, the cookie or the query parameter."""


class HashOn(msgspec.Struct, frozen=True, tag="hash-on", omit_defaults=True):
    """What `load_balancing: hash` looks at. A request without it is balanced as if no policy was given; all have a text."""

    kind: Literal["client-ip", "header", "cookie", "query", "text"]
    name: str = ""
    """Of the header (in lower case), the cookie or the query parameter."""
    parts: tuple[HashPart, ...] = ()
    """Of the text."""


class PodTarget(msgspec.Struct, frozen=True, tag="pod-target", omit_defaults=True):
    """Upgrades go to the pod that they name, by its name or address; to no other, and only behind the route's upstreams."""

    after: str | None = None
    """The segment after this prefix (without its trailing slash) names the pod; None: the first label of the host does."""


class Rewrite(msgspec.Struct, frozen=True, tag="rewrite", omit_defaults=True):
    """Put a path in place of the one that matched; what follows it stays (Gateway API, ReplacePrefixMatch)."""

    prefix: str
    """What is put there, without its trailing slash."""
    matched: str | None
    """What is taken away, without its trailing slash; None: the whole path."""
    pod: bool = False
    """Of upgrades, the segment after it is taken away too: it names a pod."""
    answers: str | None = None
    """The path that matched, without its trailing slash, which takes the place of `prefix` in answers; None: they stay."""


class HeaderField(msgspec.Struct, frozen=True):
    """One header field to write."""

    name: str
    value: str


class RequestHeaderModifier(msgspec.Struct, frozen=True, tag="request-header-modifier", omit_defaults=True):
    """Change the header fields of a request before it goes on (Gateway API, HTTPHeaderFilter). A name is in one of the three."""

    set: tuple[HeaderField, ...] = ()
    """These take the place of all fields of their names."""
    add: tuple[HeaderField, ...] = ()
    """These come beside those that are there."""
    remove: tuple[str, ...] = ()


class ResponseHeaderModifier(msgspec.Struct, frozen=True, tag="response-header-modifier", omit_defaults=True):
    """The same of a backend's answer, a 101 too."""

    set: tuple[HeaderField, ...] = ()
    add: tuple[HeaderField, ...] = ()
    remove: tuple[str, ...] = ()


class Hsts(msgspec.Struct, frozen=True, tag="hsts", omit_defaults=True):
    """Answers over https tell browsers to use nothing else for the host (RFC 6797), those of the proxy's own too."""

    max_age: int
    """Seconds; 0: forget what was told before."""
    include_subdomains: bool = False
    preload: bool = False
    override: bool = False
    """In place of what the application says; else only where it says nothing."""


class ExpressionRewrite(msgspec.Struct, frozen=True, tag="expression-rewrite", omit_defaults=True):
    """Put a path in place of the whole one, made of texts and of what groups of an expression matched (ingress-nginx)."""

    expression: str
    """Matches the beginning of the decoded path; see `proxy.model.expression`."""
    path: tuple[str | int, ...]
    """Texts that need no encoding, and numbers of groups; one that is not there, or took no part, is empty."""


class ExpressionRedirect(msgspec.Struct, frozen=True, tag="expression-redirect", omit_defaults=True):
    """Answer 302 to a URL whose path is made as that of `ExpressionRewrite`, with the request's query."""

    expression: str
    origin: str
    """``http://host`` or ``https://host:port``; nothing of a request goes into it."""
    path: tuple[str | int, ...]


class CookieAffinity(msgspec.Struct, frozen=True, tag="cookie-affinity", omit_defaults=True):
    """A cookie names the endpoint of the first answer; later requests and upgrades go there."""

    key: str
    """Keys the digest that stands for an address. The same in every pod of the proxy, and unknown to clients."""
    name: str = "SLUICE"
    max_age: int = 0
    """Seconds; 0: until the browser ends."""
    same_site: Literal["Lax", "Strict", "None", ""] = "Lax"
    """Empty: without that attribute."""
    same_site_by_browser: bool = False
    """Browsers that refuse cookies with `SameSite=None` get them without it (chromium.org, SameSite incompatible clients)."""
    path: str = "/"
    domain: str = ""
    """Empty: the host alone."""
    secure: bool | None = None
    """None: where the client speaks https."""
    partitioned: bool = False
    expires: int = 0
    """Seconds from now, as a date; 0: none. Both ages below 0 end the cookie at once."""
    replaces_others: bool = False
    """A value that is none of ours is replaced. Else it is the application's, and left alone."""
    balanced: bool = False
    """By a key in the cookie, by which each endpoint has its share of the sessions: one that comes takes its share from the others.
    A value that is none of ours is such a key too, and left alone."""


class EngineIoAffinity(msgspec.Struct, frozen=True, tag="engine-io-affinity", omit_defaults=True):
    """The session id that Engine.IO's polling handshake answers with is remembered: what carries it goes to the same endpoint."""

    scope: str
    """Ids of one scope are one another's; the namespace."""


class Drain(msgspec.Struct, frozen=True, omit_defaults=True):
    """How sockets are closed: spread evenly, oldest first, each with this code and reason to both sides."""

    over: float = 30.0
    """Seconds."""
    code: int = 1012
    reason: str = "service restart"
    """At most 123 bytes of UTF-8 (RFC 6455, 5.5)."""


class Close(msgspec.Struct, frozen=True, tag="close", omit_defaults=True):
    """What becomes of open sockets when what they were opened with goes away. The defaults are the API's (docs/wsroute.md)."""

    on_route_removed: CloseMode = "drain"
    """The object, the rule, or the socket's backend in the rule is gone."""
    on_endpoint_terminating: CloseMode = "drain"
    """The socket's endpoint terminates, or left its Service."""
    on_policy_changed: CloseMode = "drain"
    """A guard of the route is another one."""
    drain: Drain = Drain()


class Rebalance(msgspec.Struct, frozen=True, tag="rebalance"):
    """Endpoints that hold more than `above` times the mean of sockets shed some, with the code and reason of `Close.drain`."""

    above: float
    """More than 1."""
    rate: float
    """Sockets per second, over all endpoints of a route and all workers."""


Policy = (
    Timeouts
    | HttpsRedirect
    | Keepalive
    | MessageLimits
    | BodySize
    | ClientAddresses
    | AllowedOrigins
    | Connections
    | Rate
    | Close
    | HashOn
    | PodTarget
    | Rewrite
    | RequestHeaderModifier
    | ResponseHeaderModifier
    | Hsts
    | ExpressionRewrite
    | ExpressionRedirect
    | CookieAffinity
    | EngineIoAffinity
    | Rebalance
)

GUARDS: tuple[type, ...] = (ClientAddresses, AllowedOrigins, Rate, Connections, MessageLimits)
"""Policies that protect: what a route has of them is never served without."""
SOCKET_ADMISSION: tuple[type, ...] = (ClientAddresses, AllowedOrigins)
"""Guards that decide who may open a socket: `Close.on_policy_changed` is about these."""
