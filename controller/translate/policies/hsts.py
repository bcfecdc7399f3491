"""What browsers are told about https."""

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import Hsts


def translate_hsts(features: Features, _context: RouteContext) -> tuple[Hsts, ...]:
    """Make the policy."""
    spec = features.hsts
    return () if spec is None else (Hsts(spec.max_age, spec.include_subdomains, spec.preload, spec.override),)
