"""The wheel: never early, at most a tick late, and cheap to push back."""

import asyncio
import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.deadlines import TICK, Deadline, Wheel


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


def make_wheel() -> tuple[Clock, Wheel]:
    clock = Clock()
    return clock, Wheel(clock)  # type: ignore[arg-type]


def test_deadline_expires_once_after_its_time() -> None:
    clock, wheel = make_wheel()
    fired: list[float] = []
    wheel.file(Deadline(lambda: fired.append(clock.time())), 1.0)

    clock.advance(5.0)

    assert len(fired) == 1
    assert 1001.0 <= fired[0] <= 1001.0 + 2 * TICK


def test_deadline_pushed_back_by_attribute_expires_later() -> None:
    clock, wheel = make_wheel()
    fired: list[float] = []
    deadline = Deadline(lambda: fired.append(clock.time()))
    wheel.file(deadline, 1.0)
    deadline.at = 1003.0

    clock.advance(5.0)

    assert len(fired) == 1
    assert 1003.0 <= fired[0] <= 1003.0 + 2 * TICK


def test_deadline_filed_again_earlier_expires_earlier_and_once() -> None:
    clock, wheel = make_wheel()
    fired: list[float] = []
    deadline = Deadline(lambda: fired.append(clock.time()))
    wheel.file(deadline, 10.0)
    wheel.file(deadline, 1.0)

    clock.advance(12.0)

    assert len(fired) == 1
    assert fired[0] < 1002.0


def test_cancelled_deadline_does_not_expire() -> None:
    clock, wheel = make_wheel()
    fired: list[float] = []
    deadline = Deadline(lambda: fired.append(clock.time()))
    wheel.file(deadline, 1.0)
    deadline.at = 0.0

    clock.advance(5.0)

    assert fired == []


def test_failing_expiry_does_not_stop_the_wheel() -> None:
    clock, wheel = make_wheel()
    fired: list[float] = []

    def fail() -> None:
        raise ZeroDivisionError

    wheel.file(Deadline(fail), 1.0)
    wheel.file(Deadline(lambda: fired.append(clock.time())), 3.0)
    with contextlib.suppress(ZeroDivisionError):
        clock.advance(2.0)
    clock.advance(4.0)

    assert len(fired) == 1


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.sampled_from(["file", "push", "cancel"]), st.floats(0.05, 5.0)), max_size=20))
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
            wheel.file(deadline, after)
            wanted = clock.time() + after
        elif kind == "push" and wanted:
            wanted = deadline.at = max(wanted, clock.time() + after)
        elif kind == "cancel":
            wanted = deadline.at = 0.0
    clock.advance(10.0)

    assert len(fired) == bool(wanted)
    if wanted:
        assert wanted <= fired[0] <= wanted + 2 * TICK


async def test_wheel_turns_on_a_real_loop() -> None:
    wheel = Wheel(asyncio.get_running_loop())
    done = asyncio.Event()
    wheel.file(Deadline(done.set), 0.05)
    async with asyncio.timeout(5):
        await done.wait()
    wheel.close()
