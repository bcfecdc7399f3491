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


class Keepalive(msgspec.Struct, frozen=True, tag="keepalive", omit_defaults=True):
    """The proxy's own pings on the sockets of a route (spec/wsroute.md). A side of which nothing is heard is closed."""

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


class HttpsRedirect(msgspec.Struct, frozen=True, tag="https-redirect", omit_defaults=True):
    """Answer plain HTTP with 308 to https, upgrades too, except under `/.well-known/acme-challenge/`."""


Policy = Timeouts | HttpsRedirect | Keepalive | MessageLimits
