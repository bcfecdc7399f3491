"""The wheel: never early, at most a tick late, and cheap to push back."""

import asyncio
import gc
import tracemalloc
import weakref

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.transport.timer_wheel import TICK, Deadline, TimerWheel


class Clock:
    """A loop that only tells the time and is turned by hand."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.turns: list[object] = []

    def time(self) -> float:
        return self.clock

    def call_later(self, _delay: float, callback: object) -> "Clock":
        self.turns.append(callback)
        return self

    def cancel(self) -> None:
        self.turns.clear()

    def advance(self, seconds: float) -> None:
        target = self.clock + seconds
        while self.clock < target:
            self.clock = min(self.clock + TICK / 2, target)
            self.turns.pop()()  # type: ignore[operator]


def make_wheel() -> tuple[Clock, TimerWheel]:
    clock = Clock()
    return clock, TimerWheel(clock, lambda _: None)  # type: ignore[arg-type]


def test_deadline_expires_once_after_its_time() -> None:
    clock, wheel = make_wheel()
    fired: list[float] = []
    wheel.schedule(Deadline(lambda: fired.append(clock.time())), 1.0)

    clock.advance(5.0)

    assert len(fired) == 1
    assert 1001.0 <= fired[0] <= 1001.0 + 2 * TICK


def test_deadline_pushed_back_by_attribute_expires_later() -> None:
    clock, wheel = make_wheel()
    fired: list[float] = []
    deadline = Deadline(lambda: fired.append(clock.time()))
    wheel.schedule(deadline, 1.0)
    deadline.at = 1003.0

    clock.advance(5.0)

    assert len(fired) == 1
    assert 1003.0 <= fired[0] <= 1003.0 + 2 * TICK


def test_deadline_scheduled_again_earlier_expires_earlier_and_once() -> None:
    clock, wheel = make_wheel()
    fired: list[float] = []
    deadline = Deadline(lambda: fired.append(clock.time()))
    wheel.schedule(deadline, 10.0)
    wheel.schedule(deadline, 1.0)

    clock.advance(12.0)

    assert len(fired) == 1
    assert fired[0] < 1002.0


def test_cancelled_deadline_does_not_expire() -> None:
    clock, wheel = make_wheel()
    fired: list[float] = []
    deadline = Deadline(lambda: fired.append(clock.time()))
    wheel.schedule(deadline, 1.0)
    deadline.at = 0.0

    clock.advance(5.0)

    assert fired == []


def test_failing_expiry_does_not_stop_the_wheel() -> None:
    clock, wheel = make_wheel()
    fired: list[float] = []

    def fail() -> None:
        raise ZeroDivisionError

    wheel.schedule(Deadline(fail), 1.0)
    wheel.schedule(Deadline(lambda: fired.append(clock.time())), 1.0)
    wheel.schedule(Deadline(lambda: fired.append(clock.time())), 3.0)
    clock.advance(6.0)

    assert len(fired) == 2


def test_dropped_deadline_is_forgotten_with_what_it_would_have_called() -> None:
    clock, wheel = make_wheel()

    class Owner:
        def __init__(self) -> None:
            self.deadline = Deadline(self.expired)

        def expired(self) -> None:
            raise AssertionError

    owner = Owner()
    wheel.schedule(owner.deadline, 75.0)
    gc.disable()
    try:
        wheel.cancel(owner.deadline)
        gone = weakref.ref(owner)
        del owner
        freed = gone() is None
    finally:
        gc.enable()
    clock.advance(80.0)

    assert freed


def test_deadlines_that_were_far_away_leave_no_memory_behind() -> None:
    clock, wheel = make_wheel()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            deadline = Deadline(lambda: None)
            wheel.schedule(deadline, 3600.0)
            wheel.schedule(deadline, 1800.0)
            wheel.cancel(deadline)
            clock.advance(TICK)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 10_000


def test_deadline_cancelled_or_scheduled_again_by_another_in_the_same_turn_obeys() -> None:
    clock, wheel = make_wheel()
    fired: list[str] = []
    dropped = Deadline(lambda: fired.append("dropped"))
    again = Deadline(lambda: fired.append("again"))

    def act() -> None:
        wheel.cancel(dropped)
        wheel.schedule(again, 0.0)
        wheel.schedule(again, 2.0)

    wheel.schedule(Deadline(act), 1.0)
    wheel.schedule(dropped, 1.0)
    wheel.schedule(again, 1.0)
    clock.advance(1.5)
    early = list(fired)
    clock.advance(3.0)

    assert (early, fired) == ([], ["again"])


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.sampled_from(["file", "push", "cancel", "drop"]), st.floats(0.05, 5.0)), max_size=20)
)
def test_any_sequence_expires_never_early_and_at_most_two_ticks_late(moves: list[tuple[float, str, float]]) -> None:
    clock, wheel = make_wheel()
    fired: list[float] = []
    deadline = Deadline(lambda: fired.append(clock.time()))
    wanted = 0.0
    for pause, kind, after in moves:
        clock.advance(pause)
        if fired:
            assert wanted
            assert fired == [fired[0]]
            assert wanted <= fired[0] <= wanted + 2 * TICK
            fired.clear()
            wanted = 0.0
        if kind == "file":
            wheel.schedule(deadline, after)
            wanted = clock.time() + after
        elif kind == "push" and wanted:
            wanted = deadline.at = max(wanted, clock.time() + after)
        elif kind == "cancel":
            wanted = deadline.at = 0.0
        elif kind == "drop":
            wheel.cancel(deadline)
            deadline = Deadline(lambda: fired.append(clock.time()))
            wanted = 0.0
    clock.advance(10.0)

    assert len(fired) == bool(wanted)
    if wanted:
        assert wanted <= fired[0] <= wanted + 2 * TICK


async def test_wheel_turns_on_a_real_loop() -> None:
    wheel = TimerWheel(asyncio.get_running_loop(), lambda _: None)
    done = asyncio.Event()
    wheel.schedule(Deadline(done.set), 0.05)
    async with asyncio.timeout(5):
        await done.wait()
    wheel.close()


def test_each_turn_says_how_late_it_came() -> None:
    clock, lates = Clock(), []
    TimerWheel(clock, lates.append)  # type: ignore[arg-type]
    for step in (TICK, TICK + 0.3, TICK):
        clock.clock += step
        clock.turns.pop()()  # type: ignore[operator]

    assert [round(late, 6) for late in lates] == [0.0, 0.3, 0.0]
