"""Typed records of the objects that we understand, and the pure functions that read them from raw ones.

Raw dictionaries end here. Nothing in this package does I/O or logs.
"""

from collections.abc import Callable, Mapping
from typing import Any

from controller.resources.annotations.families.classes import CLASS
from controller.resources.kinds.ingress import Ingress, parse_ingress
from controller.resources.kinds.ingress_class import IngressClass, parse_ingress_class
from controller.resources.kinds.secret import Secret, parse_secret
from controller.resources.kinds.service import EndpointSlice, Service, parse_endpoint_slice, parse_service
from controller.resources.kinds.wsroute import WsRoute, parse_ws_route
from controller.resources.reading.fields import Reader, as_mapping, metadata_of, metadata_ref, shown
from controller.resources.reading.problems import Malformed

Record = Ingress | IngressClass | Service | EndpointSlice | Secret | WsRoute

_PARSERS: Mapping[tuple[str, str], Callable[[Mapping[str, Any]], Record | Malformed | None]] = {
    ("networking.k8s.io/v1", "Ingress"): parse_ingress,
    ("networking.k8s.io/v1", "IngressClass"): parse_ingress_class,
    ("v1", "Service"): parse_service,
    ("discovery.k8s.io/v1", "EndpointSlice"): parse_endpoint_slice,
    ("v1", "Secret"): parse_secret,
    ("sluice.dev/v1alpha1", "WsRoute"): parse_ws_route,
}


_VERSIONS = {kind: version for version, kind in _PARSERS}
_FORMER_GROUPS = {"extensions": "networking.k8s.io"}
"""Where Ingresses lived before Kubernetes 1.22."""


def parse_object(raw: Mapping[str, Any]) -> Record | Malformed | None:
    """Read one object; None: it is of a kind that is not ours. Never raises, whatever the object looks like."""
    version, kind = raw.get("apiVersion"), str(raw.get("kind"))
    parse = _PARSERS.get((str(version), kind))
    if not isinstance(raw.get("metadata"), Mapping):
        raw = {**raw, "metadata": {}}
    return parse(raw) if parse is not None else _of_other_version(raw, version, kind)


def _of_other_version(raw: Mapping[str, Any], version: object, kind: str) -> Malformed | None:
    """Refuse an object of a kind of ours whose apiVersion is not the one that we read; None: other groups have such kinds too."""
    accepted = _VERSIONS.get(kind)
    if accepted is None:
        return None
    group = version.rpartition("/")[0] if isinstance(version, str) else None
    if kind != "WsRoute" and group is not None and _FORMER_GROUPS.get(group, group) != accepted.rpartition("/")[0]:
        return None
    reader = Reader(metadata_ref(raw, kind, namespaced=kind != "IngressClass"))
    reader.report("apiVersion", f"{shown(version)} was found, {accepted} would be accepted.")
    classes = (as_mapping(raw.get("spec")).get("ingressClassName"), as_mapping(metadata_of(raw).get("annotations")).get(CLASS))
    class_name, legacy_class = (name if isinstance(name, str) else None for name in classes)
    return Malformed(reader.ref, tuple(reader.problems), class_name, legacy_class)


__all__ = ["EndpointSlice", "Ingress", "IngressClass", "Malformed", "Record", "Secret", "Service", "WsRoute", "parse_object"]
