"""Policies: what a route asks for beyond where it leads. One type per feature; `Policy` is their closed union.

Only values live here. The controller's `translate.policies` makes them, the proxy's filters and timers carry them out.
"""

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


Policy = Timeouts | HttpsRedirect | ClientAddresses | AllowedOrigins | Connections | Rate
