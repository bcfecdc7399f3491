"""The supervisor's workers: forked, given the configuration before they accept, replaced when they die.

A worker's listening sockets stay open here, so what waits in their queues waits for its successor.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping

from proxy.model.sockets import DrainOrder, SocketRow
from proxy.model.wire import Encoded, Report, encode_message, reply_between
from proxy.observability.metrics import WORKER_RESTARTS, WORKERS
from proxy.observability.pod_totals import Totals
from proxy.processes.channel import (
    Applied,
    Channel,
    Configure,
    Counted,
    Drain,
    Drained,
    DrainSockets,
    Listed,
    ListSockets,
    Refused,
    Release,
    Retire,
    SendCounts,
    Serve,
    ToSupervisor,
    supervisor_end,
)
from proxy.processes.config_sync import SyncError
from proxy.processes.listening_sockets import BACKLOG
from proxy.processes.queries import Queries, Query
from proxy.processes.worker import Inheritance, run_worker

QUICK_DEATH = 3.0
"""A worker that lived for less seconds counts as crashing in a loop from its second death on."""
BACKOFF_FIRST = 0.25
BACKOFF_KILLED = 0.5
BACKOFF_MOST = 15.0
"""Seconds until a worker that crashes in a loop is started again, doubling from the first to this."""
APPLY_SECONDS = 10.0
"""How long a worker may take over a configuration; 5,000 routes take less than one."""
HANG_SECONDS = 10.0
"""A worker that was not heard of for this time is replaced. Each sends what it counted every second."""
WATCH_SECONDS = 1.0
"""How often the workers are looked at."""
GATHER_SECONDS = 1.0
"""How long a scrape waits for a worker's counts."""

_log = logging.getLogger("sluice.processes")


class _Worker:
    """One process."""

    def __init__(self, slot: int, pid: int, now: float) -> None:
        self.slot = slot
        self.pid = pid
        self.started = now
        self.last_message_at = now
        """When it sent something last."""
        self.channel: Channel[ToSupervisor]
        self.connected = False
        self.sent: Encoded | None = None
        """The configuration that it will hold when it has read everything that was sent."""
        self.applied: Encoded | None = None
        self.rejected: Mapping[str, str] = {}
        self.refused = ""
        """Why it did not take what was sent last."""
        self.counted = 0
        """Number of the last `SendCounts` that it answered."""


class WorkerPool:
    """All workers."""

    def __init__(self, inheritance: Inheritance, totals: Totals) -> None:
        self._inheritance = inheritance
        self._totals = totals
        self._loop = asyncio.get_running_loop()
        self._workers: dict[int, _Worker] = {}
        """By slot."""
        self._starts: set[asyncio.Task[None]] = set()
        self._deaths: dict[int, int] = {}
        self._neighbours: dict[int, int] = {}
        """Slot without a worker to the slot whose worker accepts there."""
        self._changed = asyncio.Event()
        self._target: Encoded | None = None
        self._report = Report()
        self._serving = False
        self._ending = False
        self._end_by = 0.0
        self._last_ask = 0
        self._watched_at = self._loop.time()
        self._queries = Queries()

    @property
    def alive(self) -> int:
        """Number of workers that run."""
        return len(self._workers)

    def start(self) -> None:
        """Fork all workers; they wait for a configuration."""
        for slot in range(len(self._inheritance.slots)):
            self._fork(slot)
        self._loop.call_later(WATCH_SECONDS, self._watch)

    def _watch(self) -> None:
        """Kill workers that hang: their connections get no answer, and nobody else gets what waits for them."""
        now = self._loop.time()
        late, self._watched_at = now - self._watched_at, now
        if self._ending:
            return
        self._loop.call_later(WATCH_SECONDS, self._watch)
        for worker in self._workers.values():
            if late > 2 * WATCH_SECONDS or not worker.connected:
                worker.last_message_at = now  # we did not run ourselves: the machine was stopped, or has no time for anybody
            elif now - worker.last_message_at > HANG_SECONDS:
                os.kill(worker.pid, signal.SIGKILL)
                _log.error(
                    "worker=%d pid=%d hangs for %.0f s and is replaced", worker.slot, worker.pid, now - worker.last_message_at
                )

    @property
    def serving(self) -> bool:
        """Every worker has had a first complete configuration, and somebody accepts."""
        return self._serving and bool(self._workers)

    async def configure(self, target: Encoded, report: Report) -> Mapping[str, str]:
        """Put a configuration in place in every worker, then serve; returns the rejected routes, raises `SyncError`.

        Of what is said about the configuration, workers are told why routes went away.
        """
        self._report = Report(classless=report.classless)
        before, self._target = self._target, target
        for worker in self._workers.values():
            worker.refused = ""
            self._send_configuration(worker)
        try:
            await self._wait_until_applied()
        except SyncError:
            self._target = before
            raise
        self._serve()
        rejected: dict[str, str] = {}
        for worker in self._workers.values():
            rejected.update(worker.rejected)
        return rejected

    async def gather(self) -> None:
        """Have every worker send what it counted."""
        self._last_ask += 1
        number = self._last_ask
        for worker in self._workers.values():
            worker.channel.send(SendCounts(number))
        try:
            async with asyncio.timeout(GATHER_SECONDS):
                while any(worker.connected and worker.counted < number for worker in self._workers.values()):
                    await self._next_change()
        except TimeoutError:
            _log.warning("a worker did not send its counts within %g s", GATHER_SECONDS)

    async def sockets(self) -> list[SocketRow]:
        """Return the open sockets of all workers."""
        return (await self._query(ListSockets)).rows

    async def drain_sockets(self, order: DrainOrder) -> int:
        """Have every worker close its sockets of an order; return how many."""
        return (await self._query(lambda number: DrainSockets(number, order))).sockets

    async def _query(self, question: Callable[[int], ListSockets | DrainSockets]) -> Query:
        connected = [worker for worker in self._workers.values() if worker.connected]
        number = self._queries.begin(worker.pid for worker in connected)
        for worker in connected:
            worker.channel.send(question(number))
        return await self._queries.end(number)

    def retire(self) -> None:
        """Have every worker tell the clients that are connected now to come back by another connection."""
        for worker in self._workers.values():
            worker.channel.send(Retire())

    async def drain(self, within: float) -> None:
        """Have every worker end; what is left after `within` seconds and a moment is killed."""
        self._ending = True
        self._end_by = self._loop.time() + within
        for worker in self._workers.values():
            worker.channel.send(Drain(within))
        if self._serving:
            for slot in range(len(self._inheritance.slots)):
                if slot not in self._workers and slot not in self._neighbours:
                    self._fork(slot)  # what waits in its queue is answered first
        try:
            async with asyncio.timeout(within + 0.5):
                while self._workers:
                    await self._next_change()
        except TimeoutError:
            self.kill()

    def kill(self) -> None:
        """End every worker at once."""
        self._ending = True
        for worker in self._workers.values():
            os.kill(worker.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Collect children that ended; SIGCHLD calls this."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for worker in list(self._workers.values()):
                if worker.pid == pid:
                    self._died(worker, os.waitstatus_to_exitcode(status))

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _wait_until_applied(self) -> None:
        if await self._applied_in_time():
            return
        # A worker that hangs serves nobody; its successor begins with the new configuration.
        for worker in self._workers.values():
            if worker.applied is not self._target:
                _log.error("worker=%d pid=%d hangs and is replaced", worker.slot, worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
        if not await self._applied_in_time():
            raise SyncError(f"not every worker applied the configuration within {APPLY_SECONDS:g} s")

    async def _applied_in_time(self) -> bool:
        try:
            async with asyncio.timeout(APPLY_SECONDS):
                while not self._workers or any(worker.applied is not self._target for worker in self._workers.values()):
                    for worker in self._workers.values():
                        if worker.refused:
                            raise SyncError(f"worker {worker.slot} refused the configuration: {worker.refused}")
                    await self._next_change()
        except TimeoutError:
            return False
        return True

    def _send_configuration(self, worker: _Worker) -> None:
        target = self._target
        if target is not None and worker.connected and worker.sent is not target:
            worker.channel.send(Configure(encode_message(reply_between(worker.sent, target, self._report))))
            worker.sent = target

    def _serve(self) -> None:
        if self._serving:
            return
        self._serving = True
        for slot in self._inheritance.slots:
            slot.http.listen(BACKLOG)
            slot.https.listen(BACKLOG)
        for worker in self._workers.values():
            worker.channel.send(Serve(worker.slot))

    def _fork(self, slot: int) -> None:
        ours, theirs = socket.socketpair()
        supervisor = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal between fork and the child's own handlers would be written to the parent's wakeup descriptor.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                status = run_worker(self._inheritance, theirs, supervisor, slot)
            except BaseException:  # noqa: BLE001  nothing may climb into the parent's copy of the loop
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        theirs.close()
        ours.setblocking(False)
        worker = _Worker(slot, pid, self._loop.time())
        worker.channel = supervisor_end(lambda message: self._received(worker, message), lambda: self._lost(worker))
        self._workers[slot] = worker
        self._totals.set(WORKERS, len(self._workers))
        task = self._loop.create_task(self._connect(worker, ours))
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)

    async def _connect(self, worker: _Worker, channel_socket: socket.socket) -> None:
        await self._loop.create_unix_connection(lambda: worker.channel, sock=channel_socket)
        worker.connected = True
        self._send_configuration(worker)
        if self._serving:
            worker.channel.send(Serve(worker.slot))
            neighbour = self._workers.get(self._neighbours.pop(worker.slot, -1))
            if neighbour is not None:
                neighbour.channel.send(Release(worker.slot))
        if self._ending:
            worker.channel.send(Drain(max(0.0, self._end_by - self._loop.time())))

    def _received(self, worker: _Worker, message: ToSupervisor) -> None:
        worker.last_message_at = self._loop.time()
        match message:
            case Applied(digest, rejected):
                if worker.sent is not None and worker.sent.root == digest:
                    worker.applied, worker.rejected = worker.sent, rejected
            case Refused(_, reason):
                worker.sent, worker.refused = worker.applied, reason
            case Counted(number, delta):
                self._totals.add(worker.pid, delta)
                if self._workers.get(worker.slot) is not worker:
                    self._totals.worker_gone(worker.pid)  # its last words came behind the news of its end
                worker.counted = max(worker.counted, number)
            case Listed() | Drained():
                self._queries.take(worker.pid, message)
        self._changed.set()

    def _lost(self, worker: _Worker) -> None:
        """End a worker whose line is gone, if it has not ended: it cannot be configured any more."""
        if worker.connected and self._workers.get(worker.slot) is worker and not self._ending:
            os.kill(worker.pid, signal.SIGKILL)
        worker.connected = False

    def _died(self, worker: _Worker, status: int) -> None:
        slot = worker.slot
        del self._workers[slot]
        self._inheritance.counters.clear_worker(slot)
        lost = 0 if self._ending else self._totals.worker_lost(worker.pid)
        self._totals.worker_gone(worker.pid)
        self._totals.set(WORKERS, len(self._workers))
        self._queries.worker_gone(worker.pid)
        self._changed.set()
        if self._ending:
            return
        self._totals.count(WORKER_RESTARTS)
        lived = self._loop.time() - worker.started
        deaths = self._deaths[slot] = self._deaths.get(slot, 0) + 1 if lived < QUICK_DEATH else 1
        # A kill comes from outside, by a hand or for want of memory: its successor is promised within a second.
        most = BACKOFF_KILLED if status == -signal.SIGKILL else BACKOFF_MOST
        delay = 0.0 if deaths == 1 else min(BACKOFF_FIRST * 2.0 ** (deaths - 2), most)
        _log.error(
            "worker=%d pid=%d status=%d lived=%.1fs sockets=%d replaced in %g s", slot, worker.pid, status, lived, lost, delay
        )
        for absent in [absent for absent, neighbour in self._neighbours.items() if neighbour == slot]:
            del self._neighbours[absent]
            self._assign_neighbour(absent)
        if delay:
            self._assign_neighbour(slot)
            self._loop.call_later(delay, self._restart, slot)
        else:
            self._fork(slot)

    def _restart(self, slot: int) -> None:
        if not self._ending:
            self._fork(slot)

    def _assign_neighbour(self, slot: int) -> None:
        """Have a neighbour accept for a slot whose worker is away for a while."""
        if self._serving:
            count = len(self._inheritance.slots)
            for distance in range(1, count):
                neighbour = self._workers.get((slot + distance) % count)
                if neighbour is not None and neighbour.applied is not None:
                    self._neighbours[slot] = neighbour.slot
                    neighbour.channel.send(Serve(slot))
                    return
