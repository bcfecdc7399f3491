"""Limits on open sockets, and on how fast clients come."""

from collections.abc import Iterator

from controller.resources.features.limits import Handshakes, Limits, RequestLimits
from proxy.model.policy import Connections, Policy, Rate

MINUTE = 60.0
NGINX_STATUS = 503
"""What ingress-nginx answers to a client that is over its limits (limit-conn-status-code, limit-req-status-code)."""


def translate_limits(limits: Limits, scope: str) -> tuple[Policy, ...]:
    """Make the policies; `scope` names the object, whose routes count together where ingress-nginx has them do so."""
    return tuple(_policies(limits, scope))


def _policies(limits: Limits, scope: str) -> Iterator[Policy]:
    if limits.handshakes is not None:
        yield _handshakes(limits.handshakes)
    if limits.requests is not None:
        yield from _requests(limits.requests, scope)
    connections = Connections(limits.connections, limits.per_client, limits.per_endpoint)
    if connections != Connections():
        yield connections


def _handshakes(asked: Handshakes) -> Rate:
    return Rate("handshakes", asked.rate / asked.per, asked.burst)


def _requests(asked: RequestLimits, scope: str) -> Iterator[Policy]:
    exempt = tuple(sorted(asked.exempt))
    if asked.connections:
        yield Connections(per_client=asked.connections, requests=True, status=NGINX_STATUS, scope=scope, exempt=exempt)
    for kind, count, seconds in (("rpm", asked.per_minute, MINUTE), ("rps", asked.per_second, 1.0)):
        if count:
            # nginx lets `burst` come beside the one that is due (ngx_http_limit_req_module, nodelay).
            burst = count * asked.multiplier + 1
            yield Rate(kind, count / seconds, burst, upgrades_only=False, status=NGINX_STATUS, scope=scope, exempt=exempt)
