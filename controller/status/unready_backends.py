"""Which objects have had backends without a ready endpoint for long enough to report it. Pure: the time is given.

A backend with an endpoint again is withdrawn at once. The next report of its object waits twice as long each time, so that a
Service whose pods come and go all the time makes few writes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from controller.resources.reading.object_ref import ObjectRef
from controller.translate.upstreams import UnreadyBackend

HOLD, HOLD_MOST = 10.0, 640.0
"""Seconds without a ready endpoint until it is reported; at most so many where it was withdrawn before."""
FORGET = 2 * HOLD_MOST
"""Seconds in which no backend of an object was ready again, after which earlier withdrawals do not count."""


@dataclass(slots=True)
class _Unready:
    """The unready backends of one object."""

    backends: tuple[UnreadyBackend, ...] = ()
    """In the order of the object."""
    due: dict[UnreadyBackend, float] = field(default_factory=dict)
    """When each of them is reported."""
    reported: set[UnreadyBackend] = field(default_factory=set)
    withdrawn: int = 0
    """How often something that was reported was withdrawn."""
    at: float = 0.0
    """When one of them was ready again last, reported or not."""


class UnreadyBackends:
    """Follows the backends of all objects."""

    def __init__(self) -> None:
        self._objects: dict[ObjectRef, _Unready] = {}
        self._pending: dict[ObjectRef, float] = {}
        """Objects with something that is not reported yet, and when the first of it is."""

    @property
    def waits(self) -> bool:
        """Whether time alone will change what is reported."""
        return bool(self._pending)

    def update(self, ref: ObjectRef, backends: Sequence[UnreadyBackend], now: float) -> bool:
        """Take the backends of an object that have no ready endpoint now; return whether what is reported differs.

        `now`: seconds of any clock that only rises.
        """
        unready = self._objects.get(ref)
        if unready is None:
            if not backends:
                return False
            unready = self._objects[ref] = _Unready()
        if unready.withdrawn and now - unready.at > FORGET:
            unready.withdrawn = 0
        unready.backends = tuple(backends)
        if not unready.due.keys() <= set(backends):
            unready.at = now
        before = set(unready.reported)
        hold = min(HOLD * 2**unready.withdrawn, HOLD_MOST)
        unready.due = {backend: unready.due.get(backend, now + hold) for backend in backends}
        unready.reported &= unready.due.keys()
        if differs := unready.reported != before:
            unready.withdrawn = min(unready.withdrawn + 1, 16)
        self._note_pending(ref, unready)
        if not unready.due and not unready.withdrawn:
            del self._objects[ref]
        return differs

    def forget(self, ref: ObjectRef) -> None:
        """Drop an object that is not ours any more."""
        self._objects.pop(ref, None)
        self._pending.pop(ref, None)

    def advance(self, now: float) -> list[ObjectRef]:
        """Let time pass; return the objects of which more is reported than before."""
        due = [ref for ref, time in self._pending.items() if time <= now]
        for ref in due:
            unready = self._objects[ref]
            unready.reported.update(backend for backend, time in unready.due.items() if time <= now)
            self._note_pending(ref, unready)
        return due

    def reported(self, ref: ObjectRef) -> tuple[UnreadyBackend, ...]:
        """Return the backends that an object is to name, in its order."""
        unready = self._objects.get(ref)
        return tuple(backend for backend in unready.backends if backend in unready.reported) if unready is not None else ()

    def is_waiting(self, ref: ObjectRef) -> bool:
        """Tell whether an object lacks something that is not reported yet."""
        return ref in self._pending

    def _note_pending(self, ref: ObjectRef, unready: _Unready) -> None:
        pending: Iterable[float] = (time for backend, time in unready.due.items() if backend not in unready.reported)
        first = min(pending, default=None)
        if first is None:
            self._pending.pop(ref, None)
        else:
            self._pending[ref] = first
