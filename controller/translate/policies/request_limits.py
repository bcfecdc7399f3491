"""Limits of ingress-nginx on the requests of a client, for all routes of an object together."""

from collections.abc import Iterator

from controller.resources.features import Features
from controller.resources.features.request_limits import RequestLimits
from controller.translate.route_context import RouteContext
from proxy.model.policy import Connections, Rate

MINUTE = 60.0
STATUS = 503
"""What ingress-nginx answers to a client that is over its limits (limit-conn-status-code, limit-req-status-code)."""


def translate_request_limits(features: Features, context: RouteContext) -> tuple[Rate | Connections, ...]:
    """Make the policies; the routes of one object count together."""
    limits = features.request_limits
    return () if limits is None else tuple(_policies(limits, f"{context.owner.kind.lower()}/{context.owner.path}"))


def _policies(limits: RequestLimits, scope: str) -> Iterator[Rate | Connections]:
    exempt = tuple(sorted(limits.exempt))
    if limits.connections:
        yield Connections(per_client=limits.connections, requests=True, status=STATUS, scope=scope, exempt=exempt)
    for kind, count, seconds in (("rpm", limits.per_minute, MINUTE), ("rps", limits.per_second, 1.0)):
        if count:
            # nginx lets `burst` come beside the one that is due (ngx_http_limit_req_module, nodelay).
            burst = count * limits.multiplier + 1
            yield Rate(kind, count / seconds, burst, upgrades_only=False, status=STATUS, scope=scope, exempt=exempt)
