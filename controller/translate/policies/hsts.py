"""Strict-Transport-Security (RFC 6797) of a WsRoute's hosts."""

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import Hsts


def translate_hsts(features: Features, _context: RouteContext) -> tuple[Hsts, ...]:
    """Return it for the answers of a route; the proxy leaves it out over plain HTTP."""
    spec = features.hsts
    return () if spec is None else (Hsts(spec.max_age, spec.include_subdomains, spec.preload, spec.override),)
