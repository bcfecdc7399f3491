"""The status of each object: the verdict of the last translation joined with what the proxy acknowledged. Pure.

Objects whose status may differ from what was last written are dirty; the writer takes them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from controller.resources.reading.object_ref import ObjectRef
from controller.sources.snapshot import SourceSnapshot
from controller.status.conditions import NOT_ACCEPTED, PENDING, SERVED, Programmed, rejected
from controller.status.unready_backends import UnreadyBackends
from controller.translate import Verdict
from controller.translate.dependencies import changed_refs
from controller.translate.upstreams import UnreadyBackend

_NO_VERDICTS: Mapping[ObjectRef, Verdict] = {}
_ALL_READY: Mapping[ObjectRef, tuple[UnreadyBackend, ...]] = {}


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What the status of one object is to say."""

    verdict: Verdict
    generation: int
    programmed: Programmed
    unready: tuple[UnreadyBackend, ...] = ()
    """Backends that have had no endpoint that is ready for so long that it is said."""


@dataclass(slots=True)
class _Tracked:
    record: object
    verdict: Verdict
    generation: int
    build: int
    """The build in which its record or its verdict last changed."""


class Tracker:
    """Follows builds and acknowledgements."""

    def __init__(self) -> None:
        self._objects: dict[ObjectRef, _Tracked] = {}
        self._verdicts = _NO_VERDICTS
        self._snapshot = SourceSnapshot()
        self._builds = 0
        self._roots: dict[str, int] = {}
        self._acknowledged = 0
        """The newest build that is served."""
        self._served_root = ""
        self._rejected: Mapping[str, str] = {}
        self._pending: set[ObjectRef] = set()
        self._dirty: dict[ObjectRef, None] = {}
        self._unready = UnreadyBackends()

    def built(
        self,
        snapshot: SourceSnapshot,
        verdicts: Mapping[ObjectRef, Verdict],
        root: str,
        changed_verdicts: Collection[ObjectRef] | None = None,
        *,
        changed_readiness: Mapping[ObjectRef, tuple[UnreadyBackend, ...]] = _ALL_READY,
        now: float = 0.0,
    ) -> None:
        """Take a build: its snapshot, its verdicts, and the root of its configuration.

        `changed_verdicts`: objects whose verdict differs from the last build's; None: all are compared. `changed_readiness`: the
        backends without a ready endpoint of objects of which they differ. `now`: seconds of a clock that only rises.
        """
        self._builds += 1
        self._roots.pop(root, None)
        self._roots[root] = self._builds
        while len(self._roots) > 64:
            del self._roots[next(iter(self._roots))]
        changed = {
            *(changed_verdicts if changed_verdicts is not None else {**self._verdicts, **verdicts}),
            *changed_refs(self._snapshot.ws_routes, snapshot.ws_routes),
            *changed_refs(self._snapshot.ingresses, snapshot.ingresses),
            *changed_refs(self._snapshot.malformed, snapshot.malformed),
        }
        self._verdicts, self._snapshot = verdicts, snapshot
        for ref in changed:
            verdict = verdicts.get(ref)
            if verdict is None:
                if self._objects.pop(ref, None) is not None:
                    self._pending.discard(ref)
                    self._unready.forget(ref)
                    self._dirty[ref] = None
                continue
            known = snapshot.malformed.get(ref) or snapshot.ws_routes.get(ref) or snapshot.ingresses.get(ref)
            generation = known.generation if known is not None else 0
            tracked = self._objects.get(ref)
            if tracked is not None and tracked.record is known and tracked.verdict == verdict:
                continue
            self._objects[ref] = _Tracked(known, verdict, generation, self._builds)
            self._pending.add(ref)
            self._dirty[ref] = None
        for ref, backends in changed_readiness.items():
            # An Ingress has no conditions.
            if ref.kind == "WsRoute" and ref in self._objects and self._unready.update(ref, backends, now):
                self._dirty[ref] = None
        if root == self._served_root:
            self._serve(self._builds)

    @property
    def waits(self) -> bool:
        """Whether time alone will make something dirty: then `advance` is to be called now and then."""
        return self._unready.waits

    def advance(self, now: float) -> bool:
        """Let time pass, by the clock of `built`; return whether something became dirty."""
        late = self._unready.advance(now)
        self._dirty.update(dict.fromkeys(late))
        return bool(late)

    def awaits_endpoints(self, ref: ObjectRef) -> bool:
        """Tell whether an object lacks ready endpoints, but not for long enough to say so."""
        return self._unready.is_waiting(ref)

    def acknowledged(self, root: str, reasons: Mapping[str, str]) -> None:
        """Take what every worker of the pod has applied, and the routes that they could not."""
        self._served_root = root
        build = self._roots.get(root)
        if reasons != self._rejected:
            for route in {*reasons, *self._rejected}:
                ref = owner_of(route)
                if ref is not None and ref in self._objects:
                    self._dirty[ref] = None
            self._rejected = dict(reasons)
        if build is not None:
            self._serve(build)

    def _serve(self, build: int) -> None:
        self._acknowledged = max(self._acknowledged, build)
        served = [ref for ref in self._pending if self._objects[ref].build <= self._acknowledged]
        for ref in served:
            self._pending.discard(ref)
            self._dirty[ref] = None

    def mark_dirty(self, ref: ObjectRef) -> None:
        """Have the writer look at an object again, as when another writer wrote its status."""
        self._dirty[ref] = None

    def mark_all_dirty(self) -> None:
        """Have the writer look at every object again, as when this replica begins to lead."""
        self._dirty.update(dict.fromkeys(self._objects))

    def take_dirty(self) -> list[ObjectRef]:
        """Return the dirty objects, which are clean from then on."""
        dirty = list(self._dirty)
        self._dirty.clear()
        return dirty

    def report_of(self, ref: ObjectRef) -> StatusReport | None:
        """Return what the status of an object is to say; None: it is not ours, or gone."""
        tracked = self._objects.get(ref)
        if tracked is None:
            return None
        rejections = {route: reason for route, reason in self._rejected.items() if owner_of(route) == ref} if self._rejected else {}
        if tracked.verdict.accepted.status == "False":
            programmed = NOT_ACCEPTED
        elif ref in self._pending:
            programmed = PENDING
        else:
            programmed = rejected(rejections) if rejections else SERVED
        return StatusReport(tracked.verdict, tracked.generation, programmed, self._unready.reported(ref))


def owner_of(route: str) -> ObjectRef | None:
    """Return the object of a route id (`wsroute/ns/name/rule`, `ingress/ns/name/index`)."""
    kind, _, rest = route.partition("/")
    parts = rest.split("/")
    known = {"wsroute": "WsRoute", "ingress": "Ingress"}.get(kind)
    return ObjectRef(known, parts[0], parts[1]) if known is not None and len(parts) == 3 else None
