"""How large the body of a request may be."""

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import BodySize


def translate_body_size(features: Features, _context: RouteContext) -> tuple[BodySize, ...]:
    """Make the policy."""
    return () if features.body_size is None else (BodySize(features.body_size.most),)
