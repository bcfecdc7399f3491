"""Which objects are ours: by IngressClass, by the old annotation, by the default class."""

from collections.abc import Mapping
from dataclasses import dataclass

from controller.resources import Ingress, IngressClass, Malformed, WsRoute
from controller.resources.reading.object_ref import ObjectRef

CONTROLLER = "sluice.dev/ingress-controller"
IMPLICIT_CLASS = "sluice"


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes that are ours, and whether objects without one are."""

    names: frozenset[str]
    default: bool

    def serves(self, item: Ingress | WsRoute | Malformed) -> bool:
        """Tell whether an object is ours (docs/ingress.md): its class, else the old annotation, else the default class."""
        name = item.class_name
        if name is None and not isinstance(item, WsRoute):
            name = item.legacy_class or None
        return self.default if name is None else name in self.names


def find_classes(classes: Mapping[ObjectRef, IngressClass], controller: str, *, implicit: bool) -> Classes:
    """Find the classes of `controller`. `implicit`: where none is, one named sluice is assumed and is the default."""
    ours = [item for item in classes.values() if item.controller == controller]
    if not ours and implicit:
        return Classes(frozenset({IMPLICIT_CLASS}), default=True)
    return Classes(frozenset(item.ref.name for item in ours), default=any(item.default for item in ours))
