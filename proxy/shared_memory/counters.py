# Compiled by mypyc: see setup.py.
"""Counters that decide, over all workers of the pod: open sockets by route, client and endpoint, and the rates of clients.

They lie in anonymous memory that is mapped before the fork. Under a key (a digest of what is counted) there is an entry; in it
each worker has a cell that nobody else writes, and the sum of the cells is the count. A sum is only worth something if nobody
adds between it and the claim that it allows: so both are done under a lock of the kernel, which takes it back from a process that
dies (fcntl(2), F_SETLK). Giving back needs no lock, nor does reading what only has to be about right. What a dead worker left in
its cells the supervisor wipes out, under the lock too.

An entry whose cells are all zero is free, whatever its key says. An owner that counts something in it may therefore remember where
it is, and needs to look for it again only after its count went to zero.
"""

import fcntl
import hashlib
import math
import mmap
import os
import time
from collections.abc import Callable
from typing import Final

WAYS: Final = 16
"""Entries of a bucket; a key may be in either of two."""
COUNT_BUCKETS = 16384
"""262,144 things counted at once. Only memory that was touched is there: 16 bytes for an entry, and 8 for each worker."""
RATE_BUCKETS: Final = 4096
_KEY: Final = 16
_CELL: Final = 8

REQUESTS: Final = 1 << 28
"""An endpoint's cell has three parts: sockets and handshakes from bit 0, other requests from here,"""
REFERENCED: Final = 1 << 56
"""and whether the worker has the endpoint at all: then its entry is nobody else's."""

SECOND: Final = 1_000_000_000


class _Keys:
    """The keys of a table, in shared memory: where one is, and where there is room for it."""

    __slots__ = ("_buckets", "_memory", "size")

    def __init__(self, buckets: int) -> None:
        self._buckets = buckets
        self.size = buckets * WAYS
        self._memory = mmap.mmap(-1, self.size * _KEY)

    def find(self, key: bytes) -> int:
        """Return the entry of a key; -1: it has none."""
        for start in self.buckets(key):
            at = self._memory.find(key, start * _KEY, (start + WAYS) * _KEY)
            while at >= 0:
                if at % _KEY == 0:
                    return at // _KEY
                at = self._memory.find(key, at + 1, (start + WAYS) * _KEY)
        return -1

    def assign(self, entry: int, key: bytes) -> None:
        """Give an entry to a key."""
        self._memory[entry * _KEY : (entry + 1) * _KEY] = key

    def buckets(self, key: bytes) -> tuple[int, int]:
        """Return the first entries of the two buckets in which a key may be."""
        first = int.from_bytes(key[:4], "little") % self._buckets
        second = int.from_bytes(key[4:8], "little") % self._buckets
        return first * WAYS, second * WAYS


class Reservation:
    """The counts that one request or socket takes part in. Released once, however often `release` is called."""

    __slots__ = ("_cells", "_counters", "endpoint_counter")

    def __init__(self, counters: "Counters") -> None:
        self._counters = counters
        self._cells: tuple[int, ...] = ()
        self.endpoint_counter: EndpointCounter | None = None
        """The endpoint on which a socket counts; None: on none."""

    def add(self, cells: tuple[int, ...]) -> None:
        """Add cells that count this one."""
        self._cells += cells

    def has(self, cell: int) -> bool:
        """Tell whether a cell counts this one."""
        return cell in self._cells

    def release(self) -> None:
        """Give everything back."""
        cells, self._cells = self._cells, ()
        for cell in cells:
            self._counters.decrement(cell)
        self.release_endpoint()

    def release_endpoint(self) -> None:
        """Stop counting on an endpoint."""
        counter, self.endpoint_counter = self.endpoint_counter, None
        if counter is not None:
            counter.release()


class EndpointCounter:
    """Requests and sockets open to one endpoint, of this worker and of all. One object for all upstreams that lead there."""

    __slots__ = ("_cell", "_counters", "_key", "_refs", "_requests", "_sockets")

    def __init__(self, counters: "Counters", key: bytes, cell: int) -> None:
        self._counters = counters
        self._key = key
        self._cell = cell
        """This worker's; -1: it is counted by this worker alone."""
        self._refs = 0
        self._sockets = 0
        self._requests = 0

    @property
    def load(self) -> int:
        """Requests in flight and open sockets, of all workers."""
        return self._total(sockets_only=False)

    @property
    def sockets(self) -> int:
        """Open sockets and handshakes under way, of all workers."""
        return self._total(sockets_only=True)

    def _total(self, *, sockets_only: bool) -> int:
        if self._cell < 0:
            return self._sockets if sockets_only else self._sockets + self._requests
        total = self._counters.total(self._cell)
        sockets = total % REQUESTS
        return sockets if sockets_only else sockets + total % REFERENCED // REQUESTS

    def ref(self) -> None:
        """Add a reference: the entry is kept while there is one."""
        self._refs += 1
        self._publish()

    def unref(self) -> None:
        """Drop one reference; without any, another endpoint may get the entry."""
        self._refs -= 1
        self._publish()

    def begin_request(self) -> None:
        """Count a request that is no upgrade."""
        self._requests += 1
        self._publish()

    def end_request(self) -> None:
        """Stop counting it."""
        self._requests -= 1
        self._publish()

    def acquire(self, limit: int) -> bool:
        """Count an upgrade, unless `limit` sockets and handshakes are counted already; 0: no limit."""
        counters = self._counters
        if not limit:
            self._sockets += 1
            self._publish()
            return True
        if self._cell < 0 and counters.shared:
            return False  # there was no room for it, or it is gone: nobody knows how many there are
        counters.lock()
        try:
            if self.sockets >= limit:
                return False
            self._sockets += 1
            self._publish()
            return True
        finally:
            counters.unlock()

    def release(self) -> None:
        """Stop counting an upgrade or its socket."""
        self._sockets -= 1
        self._publish()

    def _publish(self) -> None:
        if self._cell >= 0:
            self._counters.write(self._cell, self._sockets + self._requests * REQUESTS + (REFERENCED if self._refs else 0))
        if not (self._refs or self._sockets or self._requests):
            # The entry may be somebody else's from now on.
            self._cell = -1
            self._counters.drop_endpoint_counter(self._key, self)


class Counters:
    """The memory of all counters. Made before the fork; a worker calls `use_slot` then."""

    __slots__ = (
        "_cells",
        "_endpoint_counters",
        "_fd",
        "_keys",
        "_memory",
        "_now",
        "_rate_keys",
        "_rates",
        "_secret",
        "_slot",
        "_workers",
    )

    def __init__(self, workers: int, now: Callable[[], int] = time.monotonic_ns) -> None:
        """`now`: nanoseconds of a clock that all workers share."""
        self._workers = workers
        self._slot = 0
        self._now = now
        self._secret = os.urandom(16)
        self._keys = _Keys(COUNT_BUCKETS)
        self._memory = mmap.mmap(-1, workers * self._keys.size * _CELL)
        self._cells = memoryview(self._memory).cast("Q")
        self._rate_keys = _Keys(RATE_BUCKETS)
        self._rates = memoryview(mmap.mmap(-1, self._rate_keys.size * _CELL)).cast("Q")
        """When the tokens of a client will all be back (generic cell rate algorithm), in nanoseconds."""
        self._endpoint_counters: dict[bytes, EndpointCounter] = {}
        self._fd = os.memfd_create("sluice-lock") if workers > 1 else -1

    @property
    def shared(self) -> bool:
        """There are other workers."""
        return self._fd >= 0

    @property
    def descriptor(self) -> int:
        """The descriptor of the lock, which a worker must keep; -1: there is none."""
        return self._fd

    def use_slot(self, slot: int) -> None:
        """Count in the cells of this worker from now on."""
        self._slot = slot

    def clear_worker(self, slot: int) -> None:
        """Set everything to zero that a worker counted which is dead."""
        size = self._keys.size * _CELL
        start = slot * size
        self.lock()
        try:
            self._memory.madvise(mmap.MADV_REMOVE, start, size)
        except OSError:
            # Not every kernel punches holes into shared memory; then the pages stay.
            self._memory[start : start + size] = bytes(size)
        finally:
            self.unlock()

    def lock(self) -> None:
        """Take the lock of all workers, for microseconds only."""
        if self._fd >= 0:
            fcntl.lockf(self._fd, fcntl.LOCK_EX, 1)

    def unlock(self) -> None:
        """Release the lock."""
        if self._fd >= 0:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1)

    def key(self, *parts: bytes) -> bytes:
        """Return the key of what these parts name. Nobody outside can choose names that share a bucket."""
        digest = hashlib.blake2b(digest_size=_KEY, key=self._secret)
        for part in parts:
            digest.update(len(part).to_bytes(4, "little"))
            digest.update(part)
        return digest.digest()

    def claim(self, reservation: Reservation, wanted: list[tuple[bytes, int]]) -> int:
        """Count one more under each key, if all of them are below their limits; else nothing, and return which one was not.

        -1: all were counted, and `reservation` has them.
        """
        cells: list[int] = []
        self.lock()
        try:
            for number, (key, limit) in enumerate(wanted):
                entry = self._entry(key)
                if entry < 0 or self._sum(entry) >= limit:
                    return number
                cells.append(self._slot * self._keys.size + entry)
                # Before the next key is looked at: an entry that counts nothing could be given to that one.
                self._cells[cells[-1]] += 1
            reservation.add(tuple(cells))
            cells = []
            return -1
        finally:
            for cell in cells:
                self._cells[cell] -= 1
            self.unlock()

    def count_open(self, reservation: Reservation, keys: list[bytes]) -> None:
        """Count what is open already under each key that does not count it yet, whatever the limits are."""
        self.lock()
        try:
            for key in keys:
                entry = self._entry(key)
                cell = self._slot * self._keys.size + entry
                if entry >= 0 and not reservation.has(cell):
                    self._cells[cell] += 1
                    reservation.add((cell,))
        finally:
            self.unlock()

    def decrement(self, cell: int) -> None:
        """Count one less in a cell."""
        self._cells[cell] -= 1

    def count(self, key: bytes) -> int:
        """Return how many there are under a key, of all workers."""
        entry = self._keys.find(key)
        return self._sum(entry) if entry >= 0 else 0

    def take_token(self, key: bytes, interval: int, burst: int) -> int:
        """Take one of the `burst` tokens of a key, of which one comes back every `interval` nanoseconds.

        Returns how many nanoseconds are missing until there is one; 0: it was taken.
        """
        now = self._now()
        self.lock()
        try:
            entry = self._rate_entry(key, now)
            if entry < 0:
                return interval
            refilled_at = max(self._rates[entry], now)
            missing: int = refilled_at - now - interval * (burst - 1)
            if missing > 0:
                return missing
            self._rates[entry] = refilled_at + interval
            return 0
        finally:
            self.unlock()

    def endpoint_counter(self, key: bytes) -> EndpointCounter:
        """Return the counter of an endpoint, the same one for each call while it is in use."""
        counter = self._endpoint_counters.get(key)
        if counter is None:
            cell = -1
            if self.shared:
                self.lock()
                try:
                    entry = self._entry(key)
                    if entry >= 0:
                        cell = self._slot * self._keys.size + entry
                        self._cells[cell] = REFERENCED
                finally:
                    self.unlock()
            counter = self._endpoint_counters[key] = EndpointCounter(self, key, cell)
        return counter

    def drop_endpoint_counter(self, key: bytes, counter: EndpointCounter) -> None:
        """Forget the counter of an endpoint that nothing uses any more."""
        if self._endpoint_counters.get(key) is counter:
            del self._endpoint_counters[key]

    def total(self, cell: int) -> int:
        """Return the sum of an entry, given one of its cells."""
        return self._sum(cell % self._keys.size)

    def write(self, cell: int, value: int) -> None:
        """Set a cell of this worker."""
        self._cells[cell] = value

    def _sum(self, entry: int) -> int:
        size = self._keys.size
        total = 0
        for worker in range(self._workers):
            total += self._cells[worker * size + entry]
        return total

    def _entry(self, key: bytes) -> int:
        entry = self._keys.find(key)
        if entry >= 0:
            return entry
        for start in self._keys.buckets(key):
            for candidate in range(start, start + WAYS):
                if not self._sum(candidate):
                    self._keys.assign(candidate, key)
                    return candidate
        return -1

    def _rate_entry(self, key: bytes, now: int) -> int:
        entry = self._rate_keys.find(key)
        if entry >= 0:
            return entry
        for start in self._rate_keys.buckets(key):
            for candidate in range(start, start + WAYS):
                # Whose tokens are all back is as if it had never come.
                if self._rates[candidate] <= now:
                    self._rate_keys.assign(candidate, key)
                    return candidate
        return -1


def whole_seconds(nanoseconds: int) -> int:
    """Return whole seconds that are enough, at least one."""
    return max(1, math.ceil(nanoseconds / SECOND))
