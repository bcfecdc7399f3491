"""The drain schedule, under a clock that the test turns: evenness, order, and what a second cause may change."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.websocket.drain_schedule import BATCH_SECONDS, MAX_SHIFT, CloseReason, DrainSchedule, Handle, ScheduledClose

DRAIN, OTHER = CloseReason("route_deleted", 1012, b"service restart"), CloseReason("endpoint_gone", 1012, b"service restart")


@dataclass
class Call:
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A loop whose time goes from one call to the next."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._calls: list[tuple[float, int, Call, Callable[[], None]]] = []
        self._number = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Handle:
        call = Call()
        heapq.heappush(self._calls, (when, next(self._number), call, callback))
        return call

    def run(self, until: float) -> None:
        while self._calls and self._calls[0][0] <= until:
            when, _, call, callback = heapq.heappop(self._calls)
            if not call.cancelled:
                self.now = max(self.now, when)
                callback()
        self.now = max(self.now, until)


@dataclass
class Socket:
    clock: Clock
    opened: float
    scheduled: ScheduledClose | None = None
    closes: list[tuple[float, CloseReason]] = field(default_factory=list)

    def close(self, close_reason: CloseReason) -> None:
        self.closes.append((self.clock.now, close_reason))

    def goes(self) -> None:
        """Its peer ends it."""
        if self.scheduled is not None:
            self.scheduled.cancel()


ages = st.lists(st.floats(0, 999), min_size=1, max_size=300)


@settings(deadline=None)
@given(ages, st.floats(0.5, 600), st.floats(0, 0.99))
def test_closes_are_even_oldest_first_and_one_for_each_socket(ages: list[float], over: float, phase: float) -> None:
    clock = Clock()
    sockets = [Socket(clock, opened) for opened in ages]
    DrainSchedule(clock, phase).spread(sockets, clock.now + over, DRAIN)
    clock.run(clock.now + over)

    assert [len(one.closes) for one in sockets] == [1] * len(sockets)
    times = [one.closes[0][0] for one in sorted(sockets, key=lambda one: one.opened)]
    step = over / len(sockets)
    for number, at in enumerate(times):
        assert abs(at - (1000.0 + step * number + min(step, MAX_SHIFT) * phase)) <= BATCH_SECONDS + 1e-6
    assert times == sorted(times)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(2000, 6000), st.floats(1, 60))
def test_each_tenth_of_the_time_closes_a_tenth_over_any_number_of_workers(workers: int, count: int, over: float) -> None:
    clock = Clock()
    sockets = [Socket(clock, float(number)) for number in range(count)]
    for worker in range(workers):
        DrainSchedule(clock, worker / workers).spread(sockets[worker::workers], clock.now + over, DRAIN)
    clock.run(clock.now + over)

    tenths = [0] * 10
    for one in sockets:
        tenths[min(9, int(10 * (one.closes[0][0] - 1000.0) / over))] += 1
    assert all(abs(found - count / 10) <= count / 100 for found in tenths)


@settings(deadline=None)
@given(ages, st.floats(1, 60), st.floats(0, 1), st.floats(0.1, 60))
def test_second_cause_makes_no_close_later_and_repeats_none(ages: list[float], over: float, when: float, again: float) -> None:
    clock, alone = Clock(), Clock()
    sockets, control = [Socket(clock, opened) for opened in ages], [Socket(alone, opened) for opened in ages]
    DrainSchedule(alone).spread(control, 1000.0 + over, DRAIN)
    alone.run(2000.0)
    schedule = DrainSchedule(clock)
    schedule.spread(sockets, 1000.0 + over, DRAIN)
    clock.run(1000.0 + when * over)
    moved = schedule.spread([one for one in sockets if not one.closes], clock.now + again, OTHER)
    end = clock.now + again
    clock.run(2000.0)

    for one, first in zip(sockets, control, strict=True):
        ((at, close_reason),) = one.closes
        ((before, _),) = first.closes
        assert at <= before + BATCH_SECONDS
        assert close_reason is (DRAIN if before <= end else OTHER) or abs(before - end) <= BATCH_SECONDS
    if end >= 1000.0 + over:
        assert moved == 0


@pytest.mark.slow
@settings(deadline=None)
@given(ages, st.lists(st.booleans(), min_size=300, max_size=300))
def test_sockets_that_went_by_themselves_leave_the_others_their_times(ages: list[float], going: list[bool]) -> None:
    clock = Clock()
    sockets = [Socket(clock, opened) for opened in ages]
    DrainSchedule(clock).spread(sockets, clock.now + 30, DRAIN)
    scheduled = [one.scheduled.at if one.scheduled is not None else 0.0 for one in sockets]
    gone = [goes for _, goes in zip(sockets, going, strict=False)]
    for one, goes in zip(sockets, gone, strict=True):
        if goes:
            one.goes()
    clock.run(2000.0)

    for one, goes, at in zip(sockets, gone, scheduled, strict=True):
        assert len(one.closes) == (0 if goes else 1)
        assert all(abs(found - at) <= BATCH_SECONDS for found, _ in one.closes)
        assert one.scheduled is None


@pytest.mark.parametrize("phase", [0.0, 0.5, 0.875])
def test_one_socket_does_not_wait_for_a_share_of_a_long_time(phase: float) -> None:
    clock = Clock()
    socket = Socket(clock, 1.0)
    DrainSchedule(clock, phase).spread([socket], clock.now + 3600, DRAIN)
    clock.run(clock.now + 3600)

    ((at, _),) = socket.closes
    assert at <= 1000.0 + MAX_SHIFT


def test_time_that_is_over_closes_at_once() -> None:
    clock = Clock()
    sockets = [Socket(clock, float(number)) for number in range(5)]
    DrainSchedule(clock).spread(sockets, clock.now - 3, DRAIN)
    clock.run(clock.now)

    assert [one.closes for one in sockets] == [[(1000.0, DRAIN)]] * 5


def test_socket_that_cannot_be_closed_leaves_the_others_no_worse() -> None:
    class Broken(Socket):
        def close(self, close_reason: CloseReason) -> None:
            raise RuntimeError(close_reason)

    clock = Clock()
    good = Socket(clock, 2.0)
    DrainSchedule(clock).spread([Broken(clock, 1.0), good], clock.now, DRAIN)
    clock.run(clock.now)

    assert good.closes == [(1000.0, DRAIN)]
