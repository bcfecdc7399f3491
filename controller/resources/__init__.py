"""Typed records of the objects that we understand, and the pure functions that read them from raw ones.

Raw dictionaries end here. Nothing in this package does I/O or logs.
"""

from collections.abc import Callable, Mapping
from typing import Any

from controller.resources.ingress import Ingress, parse_ingress
from controller.resources.ingressclass import IngressClass, parse_ingress_class
from controller.resources.problems import Malformed
from controller.resources.secret import Secret, parse_secret
from controller.resources.service import EndpointSlice, Service, parse_endpoint_slice, parse_service
from controller.resources.wsroute import WsRoute, parse_ws_route

Record = Ingress | IngressClass | Service | EndpointSlice | Secret | WsRoute

_PARSERS: Mapping[tuple[str, str], Callable[[Mapping[str, Any]], Record | Malformed | None]] = {
    ("networking.k8s.io/v1", "Ingress"): parse_ingress,
    ("networking.k8s.io/v1", "IngressClass"): parse_ingress_class,
    ("v1", "Service"): parse_service,
    ("discovery.k8s.io/v1", "EndpointSlice"): parse_endpoint_slice,
    ("v1", "Secret"): parse_secret,
    ("sluice.dev/v1alpha1", "WsRoute"): parse_ws_route,
}


def parse_object(raw: Mapping[str, Any]) -> Record | Malformed | None:
    """Read one object; None: it is of a kind that is not ours. Never raises, whatever the object looks like."""
    parse = _PARSERS.get((str(raw.get("apiVersion")), str(raw.get("kind"))))
    if parse is None:
        return None
    if not isinstance(raw.get("metadata"), Mapping):
        raw = {**raw, "metadata": {}}
    return parse(raw)


__all__ = ["EndpointSlice", "Ingress", "IngressClass", "Malformed", "Record", "Secret", "Service", "WsRoute", "parse_object"]
