"""What is known of the named Secrets and ConfigMaps, whatever it was read from: grants, contents within the limits, states.

No I/O: a source (`named_objects.py` for the API server, `folder_named_objects.py` for a folder) follows the names that `want`
grants and puts in what it reads. Bytes of what is wanted no more, or is over a limit, are let go at once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from controller.resources.reading.named_objects import PENDING, NamedObject, NamedProblem, NamedState, Reference
from controller.resources.reading.object_ref import ObjectRef
from controller.sources.named_grants import LIMITS, Grants, Limits, grant, refuse_bytes


class NamedSource(Protocol):
    """Where features get named objects from."""

    def want(self, references: Iterable[Reference]) -> None:
        """Follow what these references name, and nothing else: all references of all objects that are served."""

    @property
    def states(self) -> Mapping[ObjectRef, NamedState]:
        """What is known of each object that is named; the same mapping while nothing changed. `resolve` reads it."""

    @property
    def settled(self) -> bool:
        """Whether nothing that is granted is still to be read for the first time; who waits for it needs a deadline."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the names that are followed differ from those before."""

    added: tuple[ObjectRef, ...] = ()
    dropped: tuple[ObjectRef, ...] = ()
    reread: tuple[ObjectRef, ...] = ()
    """Names that were followed before: other keys of them are needed now, or there is room for their bytes now."""


class NamedStore:
    """The named objects of one source. `changed` is called with an object when its state is another one."""

    def __init__(self, changed: Callable[[ObjectRef], None], limits: Limits = LIMITS) -> None:
        self._changed, self._limits = changed, limits
        self._references: tuple[Reference, ...] = ()
        self._grants = Grants()
        self._order: tuple[ObjectRef, ...] = ()
        self._read: dict[ObjectRef, NamedObject | NamedProblem] = {}
        """What reading them last gave, without the bytes that are over a limit."""
        self._sizes: dict[ObjectRef, int] = {}
        """Bytes of what was read, kept or not."""
        self._problems: dict[ObjectRef, NamedProblem] = {}
        """Why they cannot be read now."""
        self._over: dict[ObjectRef, NamedProblem] = {}
        """Whose bytes are not kept."""
        self._states: dict[ObjectRef, NamedState] = {}
        self._shown: Mapping[ObjectRef, NamedState] | None = None

    def want(self, references: Iterable[Reference]) -> Wanted:
        """Take other references; return what is to be followed differently."""
        given = tuple(references)
        if given == self._references:
            return Wanted()
        before, self._references, self._grants = self._grants, given, grant(given, self._limits)
        old, new = before.granted, self._grants.granted
        self._order = tuple(new)
        dropped = tuple(ref for ref in old if ref not in new)
        for ref in dropped:
            self._forget(ref)
        reread = dict.fromkeys(ref for ref, keys in new.items() if ref in old and keys != old[ref])
        reread.update(dict.fromkeys(self._admit({*old, *new, *before.refused, *self._grants.refused})))
        return Wanted(tuple(ref for ref in new if ref not in old), dropped, tuple(reread))

    def keys(self, ref: ObjectRef) -> frozenset[str] | None:
        """Return the keys that are needed of a granted object; None: all."""
        return self._grants.granted[ref]

    def is_granted(self, ref: ObjectRef) -> bool:
        """Tell whether an object is followed."""
        return ref in self._grants.granted

    def knows(self, ref: ObjectRef) -> bool:
        """Tell whether reading an object gave something, be it that it is not there."""
        return ref in self._sizes

    def put(self, ref: ObjectRef, result: NamedObject | NamedProblem) -> tuple[ObjectRef, ...]:
        """Take what reading an object gave, which is possible again; return those that are to be read as there is room for them."""
        if not self.is_granted(ref):
            return ()
        self._problems.pop(ref, None)
        self._read[ref] = result
        before = self._sizes.get(ref)
        self._sizes[ref] = result.size if isinstance(result, NamedObject) else 0
        if self._sizes[ref] == before and ref not in self._over:
            self._refresh(ref)
            return ()
        return self._admit((ref,))

    def fail(self, ref: ObjectRef, problem: NamedProblem) -> None:
        """Take note that an object cannot be read now; what was read of it stays."""
        if self.is_granted(ref):
            self._problems[ref] = problem
            self._refresh(ref)

    def recover(self, ref: ObjectRef) -> None:
        """Take note that an object can be read again."""
        if self._problems.pop(ref, None) is not None:
            self._refresh(ref)

    def _forget(self, ref: ObjectRef) -> None:
        for known in (self._read, self._sizes, self._problems, self._over):
            known.pop(ref, None)

    def _admit(self, touched: Iterable[ObjectRef]) -> tuple[ObjectRef, ...]:
        """Decide anew whose bytes are kept; `touched`: whose state may differ in any case."""
        before, self._over = self._over, refuse_bytes(self._order, self._sizes, self._limits)
        for ref in self._over:
            self._read.pop(ref, None)
        for ref in {*touched, *before, *self._over}:
            self._refresh(ref)
        return tuple(ref for ref in before if ref not in self._over and ref in self._sizes and ref not in self._read)

    def _refresh(self, ref: ObjectRef) -> None:
        state = self._state(ref)
        if state == self._states.get(ref):
            return
        if state is None:
            del self._states[ref]
        else:
            self._states[ref] = state
        self._shown = None
        self._changed(ref)

    def _state(self, ref: ObjectRef) -> NamedState | None:
        refused = self._grants.refused.get(ref) or self._over.get(ref)
        if refused is not None:
            return NamedState(None, refused)
        if not self.is_granted(ref):
            return None
        result = self._read.get(ref)
        if isinstance(result, NamedProblem):
            return NamedState(None, self._problems.get(ref, result))
        return NamedState(result, self._problems.get(ref)) if result is not None or ref in self._problems else PENDING

    @property
    def states(self) -> Mapping[ObjectRef, NamedState]:
        """What is known of each object that is named; the same mapping while nothing changed."""
        if self._shown is None:
            self._shown = MappingProxyType(dict(self._states))
        return self._shown

    @property
    def settled(self) -> bool:
        """Whether something is known of everything that is named."""
        return PENDING not in self._states.values()

    @property
    def kept_bytes(self) -> int:
        """How many bytes of values are kept."""
        return sum(result.size for result in self._read.values() if isinstance(result, NamedObject))


class StoredNames:
    """What a `NamedSource` says of its store, wherever it reads from."""

    _store: NamedStore

    @property
    def states(self) -> Mapping[ObjectRef, NamedState]:
        """What is known of each object that is named."""
        return self._store.states

    @property
    def settled(self) -> bool:
        """Whether nothing that is granted is still to be read for the first time."""
        return self._store.settled

    @property
    def kept_bytes(self) -> int:
        """How many bytes of values are kept."""
        return self._store.kept_bytes
