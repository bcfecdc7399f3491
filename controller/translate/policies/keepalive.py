"""Pings that the proxy sends."""

from collections.abc import Mapping
from typing import Literal

from controller.resources.features import Features
from controller.resources.features.keepalive import Side
from controller.translate.route_context import RouteContext
from proxy.model.policy import Keepalive

_SIDES: Mapping[Side, Literal["client", "backend", "both"]] = {"Client": "client", "Backend": "backend", "Both": "both"}


def translate_keepalive(features: Features, _context: RouteContext) -> tuple[Keepalive, ...]:
    """Make the policy; without it the proxy sends no pings."""
    spec = features.keepalive
    return () if spec is None else (Keepalive(spec.interval, spec.misses, _SIDES[spec.to]),)
