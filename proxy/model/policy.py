"""Policies: what a route asks for beyond where it leads. One type per feature; `Policy` is their closed union.

Only values live here. The controller's `translate.policies` makes them, the proxy's filters and timers carry them out.
"""

from typing import Literal

import msgspec

CloseMode = Literal["keep", "drain", "now"]


class Timeouts(msgspec.Struct, frozen=True, tag="timeouts", omit_defaults=True):
    """Time limits of one route, in seconds. The defaults are the API's (spec/wsroute.md)."""

    connect: float = 5.0
    """All attempts to connect to an endpoint, together."""
    handshake: float = 10.0
    """From the upgrade request sent to the backend's 101."""
    response: float = 60.0
    """From the request sent to the head of the answer."""
    idle: float = 3600.0
    """Without an application byte in either direction of a socket; silence of a streaming backend."""
    max_age: float = 0.0
    """Of a socket, give or take a tenth; 0: no limit."""


class HttpsRedirect(msgspec.Struct, frozen=True, tag="https-redirect", omit_defaults=True):
    """Answer plain HTTP with 308 to https, upgrades too, except under `/.well-known/acme-challenge/`."""


class HashOn(msgspec.Struct, frozen=True, tag="hash-on", omit_defaults=True):
    """What `load_balancing: hash` looks at. A request without it is balanced as if no policy was given."""

    kind: Literal["client-ip", "header", "cookie", "query"]
    name: str = ""
    """Of the header (in lower case), the cookie or the query parameter."""


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


class CookieAffinity(msgspec.Struct, frozen=True, tag="cookie-affinity", omit_defaults=True):
    """A cookie names the endpoint of the first answer; later requests and upgrades go there."""

    key: str
    """Keys the digest that stands for an address. The same in every pod of the proxy, and unknown to clients."""
    name: str = "SLUICE"
    max_age: int = 0
    """Seconds; 0: until the browser ends."""
    same_site: Literal["Lax", "Strict", "None"] = "Lax"


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
    """What becomes of open sockets when what they were opened with goes away. The defaults are the API's (spec/wsroute.md)."""

    on_route_removed: CloseMode = "drain"
    """The object, the rule, or the socket's backend in the rule is gone."""
    on_endpoint_terminating: CloseMode = "drain"
    """The socket's endpoint terminates, or left its Service."""
    on_policy_changed: CloseMode = "drain"
    """A guard of the route is another one."""
    drain: Drain = Drain()


Policy = Timeouts | HttpsRedirect | Close | HashOn | PodTarget | Rewrite | CookieAffinity | EngineIoAffinity

GUARDS: tuple[type, ...] = ()
"""Policies that decide who may open a socket: `Close.on_policy_changed` is about these."""
