"""Queries of the supervisor to all workers, and the answers so far: rows, not counts."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.model.sockets import SocketRow
from proxy.processes.channel import Drained, Listed

ANSWER_SECONDS = 5.0
"""How long the workers may take; what came by then is the answer."""


@dataclass(slots=True)
class Query:
    """One query and its answers so far."""

    waiting: set[int]
    """Workers that have not answered, by process id."""
    complete: asyncio.Event
    rows: list[SocketRow] = field(default_factory=list)
    sockets: int = 0

    def worker_done(self, worker: int) -> None:
        """Stop waiting for a worker, which has answered or is gone."""
        self.waiting.discard(worker)
        if not self.waiting:
            self.complete.set()


class Queries:
    """Queries that are not answered yet, by number."""

    def __init__(self) -> None:
        self._open: dict[int, Query] = {}
        self._last = 0

    def begin(self, workers: Iterable[int]) -> int:
        """Begin a query to some workers; it is sent under the number that is returned, then awaited by `end`."""
        self._last += 1
        query = self._open[self._last] = Query(set(workers), asyncio.Event())
        if not query.waiting:
            query.complete.set()
        return self._last

    async def end(self, number: int) -> Query:
        """Wait for the answers; return what there is."""
        query = self._open[number]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await query.complete.wait()
        except TimeoutError:
            pass
        finally:
            del self._open[number]
        return query

    def take(self, worker: int, answer: Listed | Drained) -> None:
        """Add an answer; one that comes too late is dropped."""
        query = self._open.get(answer.number)
        if query is None:
            return
        match answer:
            case Listed(_, rows, last):
                query.rows.extend(rows)
                if last:
                    query.worker_done(worker)
            case Drained(_, sockets):
                query.sockets += sockets
                query.worker_done(worker)

    def worker_gone(self, worker: int) -> None:
        """Stop waiting for a worker that ended."""
        for query in self._open.values():
            query.worker_done(worker)
