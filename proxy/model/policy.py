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


Policy = Timeouts | HttpsRedirect | ClientAddresses | AllowedOrigins
