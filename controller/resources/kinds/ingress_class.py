"""IngressClasses: which objects are ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.annotations.families.classes import DEFAULT_CLASS
from controller.resources.annotations.read import annotations_of, check_strings
from controller.resources.reading.fields import Reader, check_names, metadata_ref
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Malformed, Problem


@dataclass(frozen=True, slots=True)
class IngressClass:
    """A networking.k8s.io/v1 IngressClass."""

    ref: ObjectRef
    controller: str
    default: bool
    """Objects without a class are of this one."""
    problems: tuple[Problem, ...] = ()
    """Annotations that are no strings; they are honoured all the same."""


def parse_ingress_class(raw: Mapping[str, Any]) -> IngressClass | Malformed:
    """Read an IngressClass."""
    ref = metadata_ref(raw, "IngressClass", namespaced=False)
    reader = Reader(ref)
    check_names(reader, raw, namespaced=False)
    controller = reader.text(reader.mapping(raw, "spec", "spec"), "controller", "spec.controller")
    if reader.problems:
        return Malformed(ref, tuple(reader.problems))
    default = annotations_of(reader, raw).get(DEFAULT_CLASS) == "true"
    check_strings(reader, raw)
    return IngressClass(ref, controller, default, tuple(reader.problems))
