"""All records of a source at one moment, and the store that keeps them: the last good version of every object."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from controller.resources import Ingress, IngressClass, Record, Secret, Service, WsRoute
from controller.resources.kinds.secret import is_valid
from controller.resources.kinds.service import EndpointSlice
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Malformed

R = TypeVar("R")


def _none() -> Mapping[ObjectRef, R]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """Every object that is known, by kind."""

    ingress_classes: Mapping[ObjectRef, IngressClass] = field(default_factory=_none)
    ingresses: Mapping[ObjectRef, Ingress] = field(default_factory=_none)
    services: Mapping[ObjectRef, Service] = field(default_factory=_none)
    endpoint_slices: Mapping[ObjectRef, EndpointSlice] = field(default_factory=_none)
    secrets: Mapping[ObjectRef, Secret] = field(default_factory=_none)
    ws_routes: Mapping[ObjectRef, WsRoute] = field(default_factory=_none)
    malformed: Mapping[ObjectRef, Malformed] = field(default_factory=_none)
    """What could not be read. An object may stand here and above: then its last good version is served."""

    @property
    def objects(self) -> int:
        """How many objects are known."""
        known = (self.ingress_classes, self.ingresses, self.services, self.endpoint_slices, self.secrets, self.ws_routes)
        return sum(map(len, known))


_KINDS = {
    "IngressClass": "ingress_classes",
    "Ingress": "ingresses",
    "Service": "services",
    "EndpointSlice": "endpoint_slices",
    "Secret": "secrets",
    "WsRoute": "ws_routes",
}


class Store:
    """The objects of one source. Changed by one owner; a snapshot of it never changes. `clock`: Unix time.

    `selective`: snapshots have only the objects of namespaces that were selected, and those named in `always`. What is known of
    the others is kept, last good versions too, so that a namespace is served at once when it is selected.
    """

    __slots__ = ("_always", "_changed", "_clock", "_kinds", "_last", "_selected")

    def __init__(
        self, clock: Callable[[], float] = time.time, *, selective: bool = False, always: Collection[ObjectRef] = ()
    ) -> None:
        self._clock = clock
        self._selected: set[str] | None = set() if selective else None
        self._always = frozenset(always)
        self._kinds: dict[str, dict[ObjectRef, object]] = {name: {} for name in (*_KINDS.values(), "malformed")}
        self._changed: set[str] = set()
        self._last = SourceSnapshot()

    def apply(self, record: Record | Malformed) -> bool:
        """Take a new version of an object; one that cannot be read leaves the last good one in place. True: something changed."""
        if isinstance(record, Malformed):
            return self._put("malformed", record.ref, record)
        if isinstance(record, Secret):
            record = self._with_last_good(record)
        return self._put(_KINDS[record.ref.kind], record.ref, record) | self._drop("malformed", record.ref)

    def _with_last_good(self, secret: Secret) -> Secret:
        """Keep the certificate before one that has ended or has not begun, where that is valid: nothing good is lost to it."""
        known, now = self._kinds["secrets"].get(secret.ref), self._clock()
        if not isinstance(known, Secret) or is_valid(secret, now):
            return secret
        before = replace(known, last_good=None)
        earlier = (version for version in (before, known.last_good) if version is not None and version != secret)
        return replace(secret, last_good=next((version for version in earlier if is_valid(version, now)), None))

    def malformed_fields(self, ref: ObjectRef) -> tuple[str, ...]:
        """Return the fields for which the last version of an object could not be read."""
        malformed = self._kinds["malformed"].get(ref)
        return tuple(problem.field for problem in malformed.problems) if isinstance(malformed, Malformed) else ()

    def remove(self, ref: ObjectRef) -> bool:
        """Forget an object. True: it was known."""
        return self._drop(_KINDS[ref.kind], ref) | self._drop("malformed", ref)

    def _put(self, kind: str, ref: ObjectRef, record: object) -> bool:
        known = self._kinds[kind]
        if known.get(ref) == record:
            return False
        known[ref] = record
        self._changed.add(kind)
        return True

    def _drop(self, kind: str, ref: ObjectRef) -> bool:
        if self._kinds[kind].pop(ref, None) is None:
            return False
        self._changed.add(kind)
        return True

    def select(self, namespace: str, *, selected: bool) -> bool:
        """Let snapshots have the objects of a namespace, or not. True: it was otherwise before."""
        known = self._selected
        if known is None or (namespace in known) is selected:
            return False
        (known.add if selected else known.discard)(namespace)
        self._changed.update(self._kinds)
        return True

    def is_served(self, ref: ObjectRef) -> bool:
        """Tell whether snapshots have an object, if it is known."""
        return self._selected is None or not ref.namespace or ref.namespace in self._selected or ref in self._always

    def slices_in(self, namespace: str) -> Iterator[EndpointSlice]:
        """Return the EndpointSlices of a namespace, selected or not."""
        for ref, record in list(self._kinds["endpoint_slices"].items()):
            if ref.namespace == namespace and isinstance(record, EndpointSlice):
                yield record

    def _served(self, known: Mapping[ObjectRef, object]) -> dict[ObjectRef, object]:
        if self._selected is None:
            return dict(known)
        return {ref: record for ref, record in known.items() if self.is_served(ref)}

    @property
    def pending(self) -> frozenset[str]:
        """The kinds that changed since the last snapshot, as `SourceSnapshot` names them."""
        return frozenset(self._changed)

    def snapshot(self) -> SourceSnapshot:
        """Return what is known now; kinds that did not change are the same mappings as before."""
        if self._changed:
            parts = {
                kind: MappingProxyType(self._served(known)) if kind in self._changed else getattr(self._last, kind)
                for kind, known in self._kinds.items()
            }
            self._last = SourceSnapshot(**parts)  # type: ignore[arg-type]  # the names are the fields
            self._changed.clear()
        return self._last
