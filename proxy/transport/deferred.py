# Compiled by mypyc: see setup.py.
"""Work over the limit of one turn of the loop: it is left to a later turn, and its connection is not read meanwhile.

How much a turn may do is counted where the work is done; here is what all connections with such work have in common: an entry of
the run queue, and that a source is read again only if neither work is left nor its receiver is paused.
"""

from collections.abc import Callable
from typing import Protocol

from proxy.transport.run_queue import RunQueue


class Source(Protocol):
    """Where the data comes from: a transport."""

    def pause_reading(self) -> None:
        """Read nothing."""

    def resume_reading(self) -> None:
        """Read again."""


class Deferred:
    """The work that one source left. It holds neither the source nor the work, which are given with each call: both hold it."""

    __slots__ = ("_queue", "paused", "queued")

    def __init__(self, queue: RunQueue) -> None:
        self._queue = queue
        self.queued = False
        """Work waits in the worker's queue for its turn."""
        self.paused = False
        """The receiver of the work's results is paused."""

    def leave(self, source: Source | None, work: Callable[[], None]) -> None:
        """Leave `work` to a later turn; it must ask `begin` first, and say `end` last. None: the source is read on all the same."""
        if not self.queued:
            self.queued = True
            if source is not None:
                source.pause_reading()
            self._queue.add(work)

    def begin(self) -> bool:
        """Begin the turn; False: nothing is wanted now, `resume` goes on."""
        self.queued = False
        return not self.paused

    def end(self, source: Source) -> None:
        """End the turn: read on, unless it left more, or its receiver is paused."""
        if not self.queued and not self.paused:
            source.resume_reading()

    def pause(self, source: Source) -> None:
        """Stop: nothing is wanted."""
        self.paused = True
        source.pause_reading()

    def resume(self, source: Source, work: Callable[[], None], *, has_more: bool) -> None:
        """Go on: with the work that is left, if there is any, else with reading."""
        self.paused = False
        if has_more:
            self.leave(source, work)
        elif not self.queued:
            source.resume_reading()
