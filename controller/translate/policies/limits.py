"""Limits on open sockets, and on how fast clients come."""

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import Connections, Rate


def translate_limits(features: Features, _context: RouteContext) -> tuple[Rate | Connections, ...]:
    """Return the rate of handshakes per second, and the numbers of open sockets; limits of 0 are none."""
    limits = features.limits
    if limits is None:
        return ()
    handshakes = limits.handshakes
    rate = () if handshakes is None else (Rate("handshakes", handshakes.rate / handshakes.per, handshakes.burst),)
    connections = Connections(limits.connections, limits.per_client, limits.per_endpoint)
    return rate if connections == Connections() else (*rate, connections)
