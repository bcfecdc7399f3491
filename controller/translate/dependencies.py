"""What the stages are built of: finding what differs between two mappings, and which objects depend on what."""

import itertools
import operator
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from controller.resources.reading.object_ref import ObjectRef

K = TypeVar("K", bound=Hashable)
_NONE: frozenset[ObjectRef] = frozenset()


def changed_refs(old: Mapping[ObjectRef, object], new: Mapping[ObjectRef, object]) -> list[ObjectRef]:
    """Return the objects that were added, removed or replaced: those whose record is not the very same value.

    Compares identities alone, without hashing a single ref where refs are the same in the same order, as they are unless objects
    came or went.
    """
    if old is new:
        return []
    if len(old) == len(new) and all(map(operator.is_, old, new)):
        return list(itertools.compress(new, map(operator.is_not, old.values(), new.values())))
    held, now = set(map(id, old.values())), set(map(id, new.values()))
    if held == now:
        return []
    changed = {ref: None for ref, record in new.items() if id(record) not in held}
    changed.update((ref, None) for ref, record in old.items() if id(record) not in now)
    return list(changed)


class Dependents(Generic[K]):
    """Which objects use a thing: a Secret, a Service, an upstream, a host. Most have one user, kept without a set."""

    __slots__ = ("_several", "_single")

    def __init__(self) -> None:
        self._single: dict[K, ObjectRef] = {}
        self._several: dict[K, dict[ObjectRef, None]] = {}
        """As dictionaries: a set of thousands takes twice the memory."""

    def of(self, key: K) -> Collection[ObjectRef]:
        """Return the objects that use `key`."""
        single = self._single.get(key)
        return (single,) if single is not None else self._several.get(key, _NONE)

    def replace(self, user: ObjectRef, old: Iterable[K], new: Iterable[K]) -> None:
        """Let `user` use `new` instead of `old`."""
        for key in old:
            if self._single.get(key) == user:
                del self._single[key]
            elif (users := self._several.get(key)) is not None:
                users.pop(user, None)
                if not users:
                    del self._several[key]
        for key in new:
            single = self._single.get(key)
            if key in self._several:
                self._several[key][user] = None
            elif single is None:
                self._single[key] = user
            elif single != user:
                del self._single[key]
                self._several[key] = {single: None, user: None}
