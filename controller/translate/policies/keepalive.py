"""Pings of the proxy's own."""

from collections.abc import Mapping
from typing import Literal

from controller.resources.features.keepalive import KeepaliveSpec, Side
from proxy.model.policy import Keepalive

_SIDES: Mapping[Side, Literal["client", "backend", "both"]] = {"Client": "client", "Backend": "backend", "Both": "both"}


def translate_keepalive(spec: KeepaliveSpec | None) -> Keepalive | None:
    """Make the policy; None: the proxy sends no pings."""
    return None if spec is None else Keepalive(spec.interval, spec.misses, _SIDES[spec.to])
