"""IngressClasses: which objects are ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.annotations import is_default_class
from controller.resources.fields import Reader, check_names, metadata_ref
from controller.resources.problems import Malformed
from controller.resources.refs import ObjectRef


@dataclass(frozen=True, slots=True)
class IngressClass:
    """A networking.k8s.io/v1 IngressClass."""

    ref: ObjectRef
    controller: str
    default: bool
    """Objects without a class are of this one."""


def parse_ingress_class(raw: Mapping[str, Any]) -> IngressClass | Malformed:
    """Read an IngressClass."""
    ref = metadata_ref(raw, "IngressClass", namespaced=False)
    reader = Reader(ref)
    check_names(reader, raw, namespaced=False)
    controller = reader.text(reader.mapping(raw, "spec", "spec"), "controller", "spec.controller")
    if reader.problems:
        return Malformed(ref, tuple(reader.problems))
    return IngressClass(ref, controller, is_default_class(raw))
