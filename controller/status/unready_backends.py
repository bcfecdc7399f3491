"""Which objects have had backends without a ready endpoint for long enough to say so. Pure: the time is given.

What has an endpoint again is taken back at once. Who loses it again is waited for twice as long each time, so that a Service whose
pods come and go all the time makes few writes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from controller.resources.reading.object_ref import ObjectRef
from controller.translate.upstreams import UnreadyBackend

HOLD, HOLD_MOST = 10.0, 640.0
"""Seconds without a ready endpoint until an object says so; at most so many where it was taken back before."""
FORGET = 2 * HOLD_MOST
"""Seconds in which no backend of an object was ready again, after which what was taken back before does not count."""


@dataclass(slots=True)
class _Waiting:
    """What one object lacks."""

    backends: tuple[UnreadyBackend, ...] = ()
    """In the order of the object."""
    due: dict[UnreadyBackend, float] = field(default_factory=dict)
    """When each of them is said."""
    said: set[UnreadyBackend] = field(default_factory=set)
    taken_back: int = 0
    """How often something that was said was taken back."""
    at: float = 0.0
    """When one of them was ready again last, said or not."""


class UnreadyBackends:
    """Follows the backends of all objects."""

    def __init__(self) -> None:
        self._objects: dict[ObjectRef, _Waiting] = {}
        self._unsaid: dict[ObjectRef, float] = {}
        """Objects with something that is not said yet, and when the first of it is."""

    @property
    def waits(self) -> bool:
        """Whether time alone will change what is said."""
        return bool(self._unsaid)

    def update(self, ref: ObjectRef, backends: Sequence[UnreadyBackend], now: float) -> bool:
        """Take the backends of an object that have no ready endpoint now; return whether what it says differs.

        `now`: seconds of any clock that only rises.
        """
        one = self._objects.get(ref)
        if one is None:
            if not backends:
                return False
            one = self._objects[ref] = _Waiting()
        if one.taken_back and now - one.at > FORGET:
            one.taken_back = 0
        one.backends = tuple(backends)
        if not one.due.keys() <= set(backends):
            one.at = now
        before = set(one.said)
        hold = min(HOLD * 2**one.taken_back, HOLD_MOST)
        one.due = {backend: one.due.get(backend, now + hold) for backend in backends}
        one.said &= one.due.keys()
        if differs := one.said != before:
            one.taken_back = min(one.taken_back + 1, 16)
        self._note_unsaid(ref, one)
        if not one.due and not one.taken_back:
            del self._objects[ref]
        return differs

    def forget(self, ref: ObjectRef) -> None:
        """Drop an object that is not ours any more."""
        self._objects.pop(ref, None)
        self._unsaid.pop(ref, None)

    def advance(self, now: float) -> list[ObjectRef]:
        """Let time pass; return the objects that say more than before."""
        due = [ref for ref, time in self._unsaid.items() if time <= now]
        for ref in due:
            one = self._objects[ref]
            one.said.update(backend for backend, time in one.due.items() if time <= now)
            self._note_unsaid(ref, one)
        return due

    def said(self, ref: ObjectRef) -> tuple[UnreadyBackend, ...]:
        """Return the backends that an object is to name, in its order."""
        one = self._objects.get(ref)
        return tuple(backend for backend in one.backends if backend in one.said) if one is not None else ()

    def is_waiting(self, ref: ObjectRef) -> bool:
        """Tell whether an object lacks something that it does not say yet."""
        return ref in self._unsaid

    def _note_unsaid(self, ref: ObjectRef, one: _Waiting) -> None:
        unsaid: Iterable[float] = (time for backend, time in one.due.items() if backend not in one.said)
        first = min(unsaid, default=None)
        if first is None:
            self._unsaid.pop(ref, None)
        else:
            self._unsaid[ref] = first
