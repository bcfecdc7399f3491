"""Policies: what a route asks for beyond where it leads. One type per feature; `Policy` is their closed union.

Only values live here. The controller's `translate.policies` makes them, the proxy's filters and timers carry them out.
"""

from typing import Literal

import msgspec


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


Policy = Timeouts | HttpsRedirect | HashOn | PodTarget | Rewrite | CookieAffinity | EngineIoAffinity
