"""Limits on the messages of a socket: their bytes, and how fast a client may send them."""

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import MessageLimits


def translate_message_limits(features: Features, _context: RouteContext) -> tuple[MessageLimits, ...]:
    """Return them with their rate per second."""
    spec = features.message_limits
    return () if spec is None else (MessageLimits(spec.size, spec.rate / spec.per, spec.burst),)
