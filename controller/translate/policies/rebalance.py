"""Endpoints that shed sockets after a scale-up."""

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import Rebalance


def translate_rebalance(features: Features, _context: RouteContext) -> tuple[Rebalance, ...]:
    """Make the policy; without it sockets stay where they are."""
    spec = features.rebalance
    return () if spec is None else (Rebalance(spec.above, spec.rate),)
