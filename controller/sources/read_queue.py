"""Which named object is read next: by turns of namespaces, each at a pace, so that none waits for what another one changes.

Pure but for `next`, which waits. An object that changes while it waits in the queue is read once.
"""

import asyncio
import math
from collections.abc import Callable

from controller.resources.reading.object_ref import ObjectRef

PACE = 1024 * 1024
"""Bytes per second that are read of one namespace in the long run."""
BURST = 8 * 1024 * 1024
"""Bytes that may be read of one namespace at once: all that is kept of it."""
LEAST = 16 * 1024
"""Bytes that a read counts at least: the request costs too. So at most 64 a second are read of a namespace in the long run."""


class ReadQueue:
    """Objects that wait to be read. `clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: dict[str, dict[ObjectRef, None]] = {}
        """Per namespace, the one whose turn it is first."""
        self._paid: dict[str, float] = {}
        """Per namespace, when what was read of it is paid for at the pace; those in the past are left out."""
        self._more = asyncio.Event()

    def push(self, ref: ObjectRef) -> None:
        """Have an object read."""
        self._waiting.setdefault(ref.namespace, {})[ref] = None
        self._more.set()

    def discard(self, ref: ObjectRef) -> None:
        """Have an object not read."""
        waiting = self._waiting.get(ref.namespace)
        if waiting is not None:
            waiting.pop(ref, None)
            if not waiting:
                del self._waiting[ref.namespace]

    def charge(self, namespace: str, size: int) -> None:
        """Count what was read of a namespace, in bytes."""
        now = self._clock()
        self._paid[namespace] = max(self._paid.get(namespace, now), now) + max(size, LEAST) / PACE
        if len(self._paid) > 2 * len(self._waiting) + 16:
            self._paid = {known: when for known, when in self._paid.items() if when > now}

    def take(self) -> ObjectRef | None:
        """Return the object whose turn it is; None: there is none now."""
        latest = self._clock() + BURST / PACE
        for namespace, waiting in self._waiting.items():
            if self._paid.get(namespace, 0.0) < latest:
                ref = next(iter(waiting))
                del waiting[ref], self._waiting[namespace]
                if waiting:
                    self._waiting[namespace] = waiting  # behind the others
                return ref
        return None

    @property
    def patience(self) -> float:
        """Seconds until one that waits may be read; infinite: none waits."""
        first = min((self._paid.get(namespace, 0.0) for namespace in self._waiting), default=math.inf)
        return max(first - self._clock() - BURST / PACE, 0.0)

    async def next(self) -> ObjectRef:
        """Wait for the next object."""
        while True:
            item = self.take()
            if item is not None:
                return item
            self._more.clear()
            patience = self.patience
            try:
                async with asyncio.timeout(patience + 0.001 if patience < math.inf else None):
                    await self._more.wait()
            except TimeoutError:
                continue
