"""Counters over several processes: never one over, given back by the dead, right whoever asks."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.shared_memory.counters import SECOND, Counters, Reservation, whole_seconds

WAIT = 20.0
_FORK = multiprocessing.get_context("fork")


class Other:
    """A worker in a process of its own, which does as it is told."""

    def __init__(self, counters: Counters, slot: int) -> None:
        self.line, theirs = _FORK.Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                counters.use_slot(slot)
                self._obey(counters, theirs)
            os._exit(0)
        theirs.close()

    def _obey(self, counters: Counters, line: Connection) -> None:
        reservations: list[Reservation] = []
        counter = None
        while True:
            match line.recv():
                case ("claim", key, limit, times):
                    taken = 0
                    for _ in range(times):
                        reservation = Reservation(counters)
                        if counters.claim(reservation, [(key, limit)]) < 0:
                            reservations.append(reservation)
                            taken += 1
                    line.send(taken)
                case ("acquire", key, limit, times):
                    counter = counter or counters.endpoint_counter(key)
                    line.send(sum(counter.acquire(limit) for _ in range(times)))
                case ("release",):
                    for reservation in reservations:
                        reservation.release()
                    line.send(len(reservations))
                    reservations = []
                case ("take_token", key, interval, burst, times):
                    line.send(sum(not counters.take_token(key, interval, burst) for _ in range(times)))
                case ("count", key):
                    line.send(counters.count(key))
                case ("lock",):
                    counters.lock()
                    line.send(True)

    def told(self, *order: object) -> None:
        self.line.send(order)

    def says(self) -> object:
        assert self.line.poll(WAIT)
        return self.line.recv()

    def asked(self, *order: object) -> object:
        self.told(*order)
        return self.says()

    def dies(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


@pytest.fixture
def counters() -> Counters:
    return Counters(4)


@pytest.fixture
def others(counters: Counters) -> Iterator[list[Other]]:
    found = [Other(counters, slot) for slot in range(1, 4)]
    yield found
    for one in found:
        one.dies()
        one.line.close()


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize("order", ["claim", "acquire"])
def test_storm_from_several_workers_takes_exactly_what_there_is(
    counters: Counters, others: list[Other], limit: int, order: str
) -> None:
    key = counters.key(b"route")
    for one in others:
        one.told(order, key, limit, 700)
    taken = [one.says() for one in others]

    assert sum(taken) == limit


def test_storm_of_claims_and_releases_is_never_over(counters: Counters, others: list[Other]) -> None:
    key = counters.key(b"route")
    for _ in range(30):
        for one in others:
            one.told("claim", key, 10, 40)
        assert sum(one.says() for one in others) == 10
        assert counters.count(key) == 10
        assert sum(one.asked("release") for one in others) == 10


def test_share_of_a_dead_worker_is_returned_and_no_other(counters: Counters, others: list[Other]) -> None:
    key = counters.key(b"route")
    taken = [others[0].asked("claim", key, 10, 6), others[1].asked("claim", key, 10, 6)]
    others[0].dies()
    before = counters.count(key)
    counters.clear_worker(1)
    after = counters.count(key)
    again = others[2].asked("claim", key, 10, 20)

    assert (taken, before, after, again) == ([6, 4], 10, 4, 6)


def test_share_is_returned_where_memory_cannot_be_given_back(counters: Counters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmap.MADV_REMOVE", -1)
    key = counters.key(b"route")
    counters.use_slot(1)
    counters.claim(Reservation(counters), [(key, 5)])
    counters.use_slot(2)
    counters.claim(Reservation(counters), [(key, 5)])
    before = counters.count(key)
    counters.clear_worker(1)

    assert (before, counters.count(key)) == (2, 1)


def test_lock_of_a_worker_that_dies_is_free(counters: Counters, others: list[Other]) -> None:
    key = counters.key(b"route")
    others[0].asked("lock")
    others[1].told("claim", key, 1, 1)
    waits = not others[1].line.poll(0.05)
    others[0].dies()

    assert (waits, others[1].says()) == (True, 1)


def test_tokens_are_shared_by_all_workers() -> None:
    now = [5 * SECOND]
    counters = Counters(3, lambda: now[0])
    others = [Other(counters, slot) for slot in (1, 2)]
    key = counters.key(b"client")
    for one in others:
        one.told("take_token", key, SECOND, 20, 50)
    taken = [one.says() for one in others]
    for one in others:
        one.dies()
        one.line.close()

    assert sum(taken) == 20


class Bucket:
    """Tokens as one would count them by hand."""

    def __init__(self, interval: int, burst: int) -> None:
        self.interval, self.burst = interval, burst
        self.tokens = burst * interval
        self.at = 0

    def take_token(self, now: int) -> int:
        self.tokens = min(self.burst * self.interval, self.tokens + now - self.at)
        self.at = now
        if self.tokens < self.interval:
            return self.interval - self.tokens
        self.tokens -= self.interval
        return 0


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.integers(1, 50), st.integers(1, 6), st.lists(st.integers(0, 120), max_size=40))
def test_rate_is_a_bucket_of_tokens(interval: int, burst: int, steps: list[int]) -> None:
    now = [1000]
    counters = Counters(1, lambda: now[0])
    key = counters.key(b"client")
    oracle = Bucket(interval, burst)
    oracle.at = 1000
    for step in steps:
        now[0] += step
        assert counters.take_token(key, interval, burst) == oracle.take_token(now[0])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans()), max_size=60), st.integers(1, 4))
def test_claims_are_counted_as_by_hand(steps: list[tuple[int, int, bool]], limit: int) -> None:
    counters = Counters(1)
    held: dict[int, list[Reservation]] = {}
    for name, other, give_back in steps:
        if give_back and held.get(name):
            held[name].pop().release()
        else:
            pair = [(counters.key(bytes([name])), limit)]
            if other == 5:
                pair.append((counters.key(b"no"), 0))
            reservation = Reservation(counters)
            expected = 0 if len(held.get(name, [])) >= limit else 1 if other == 5 else -1
            assert counters.claim(reservation, pair) == expected
            if expected < 0:
                held.setdefault(name, []).append(reservation)

        assert [counters.count(counters.key(bytes([one]))) for one in range(4)] == [len(held.get(one, [])) for one in range(4)]


def test_keys_without_room_are_refused_and_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.shared_memory.counters.COUNT_BUCKETS", 2)
    counters = Counters(1)
    reservations = []
    for number in range(100):
        reservation = Reservation(counters)
        if counters.claim(reservation, [(counters.key(b"%d" % number), 1)]) < 0:
            reservations.append(reservation)
    full = len(reservations)
    for reservation in reservations:
        reservation.release()
        reservation.release()
    again = counters.claim(Reservation(counters), [(counters.key(b"new"), 1)])

    assert 16 <= full <= 32
    assert again == -1


def test_endpoint_is_counted_once_for_all_that_leads_to_it(counters: Counters) -> None:
    key = counters.key(b"endpoint")
    old = counters.endpoint_counter(key)
    old.ref()
    old.begin_request()
    assert old.acquire(0)
    old.unref()
    new = counters.endpoint_counter(key)
    new.ref()
    assert new.acquire(0)

    assert (new.load, new.sockets, counters.endpoint_counter(key) is old) == (3, 2, True)


def test_endpoint_that_is_gone_writes_into_nobodys_cell(counters: Counters) -> None:
    key = counters.key(b"endpoint")
    old = counters.endpoint_counter(key)
    old.ref()
    old.unref()
    new = counters.endpoint_counter(key)
    new.ref()
    old.begin_request()
    acquired = old.acquire(5)

    assert (new is old, new.load, new.sockets, acquired) == (False, 0, 0, False)


@pytest.mark.parametrize(("nanoseconds", "seconds"), [(1, 1), (SECOND, 1), (SECOND + 1, 2)])
def test_seconds_to_wait_are_enough(nanoseconds: int, seconds: int) -> None:
    assert whole_seconds(nanoseconds) == seconds
