"""Header fields that are changed on the way."""

from controller.resources.features import Features
from controller.resources.features.header_modifiers import HeaderModifierSpec
from controller.translate.route_context import RouteContext
from proxy.model.policy import HeaderField, RequestHeaderModifier, ResponseHeaderModifier


def translate_request_headers(features: Features, _context: RouteContext) -> tuple[RequestHeaderModifier, ...]:
    """Make the policy for requests."""
    spec = features.request_headers
    return () if spec is None else (RequestHeaderModifier(*_parts(spec)),)


def translate_response_headers(features: Features, _context: RouteContext) -> tuple[ResponseHeaderModifier, ...]:
    """Make the policy for answers."""
    spec = features.response_headers
    return () if spec is None else (ResponseHeaderModifier(*_parts(spec)),)


def _parts(spec: HeaderModifierSpec) -> tuple[tuple[HeaderField, ...], tuple[HeaderField, ...], tuple[str, ...]]:
    written, added = (tuple(HeaderField(name, value) for name, value in fields) for fields in (spec.set, spec.add))
    return written, added, spec.remove
