"""The worker's queue of work that was left over: in order, a bounded time per turn of the loop, one failure costs no other."""

import asyncio
import time
from typing import cast

import pytest
from turns import Turns

from proxy.transport.run_queue import TURN_SECONDS, RunQueue


def queue(turns: Turns) -> RunQueue:
    return RunQueue(cast("asyncio.AbstractEventLoop", turns))


def test_work_is_done_in_the_order_in_which_it_was_left_each_once_per_turn() -> None:
    turns, done = Turns(), list[str]()
    work = queue(turns)

    def leave(name: str, times: int) -> None:
        done.append(name)
        if times > 1:
            work.add(lambda: leave(name, times - 1))

    for name in ("greedy", "other"):
        work.add(lambda name=name: leave(name, 3))  # type: ignore[misc]
    turns.turn()
    assert done == ["greedy", "other"]
    work.add(lambda: leave("innocent", 1))
    turns.turn()

    assert done == ["greedy", "other", "greedy", "other", "innocent"]
    turns.turn()
    assert turns.turn() == 0


def test_one_turn_goes_on_for_a_bounded_time_however_much_waits() -> None:
    turns, done = Turns(), list[int]()
    work = queue(turns)

    def burn(number: int) -> None:
        end = time.monotonic() + TURN_SECONDS / 4
        while time.monotonic() < end:
            pass
        done.append(number)

    for number in range(100):
        work.add(lambda number=number: burn(number))  # type: ignore[misc]
    turns.turn()

    assert 1 <= len(done) <= 4
    while turns.turn():
        pass
    assert done == list(range(100))


def test_work_that_fails_holds_up_no_other() -> None:
    turns, done = Turns(), list[str]()
    work = queue(turns)
    work.add(lambda: {}["none"])
    work.add(lambda: done.append("other"))
    with pytest.raises(KeyError):
        turns.turn()
    turns.turn()

    assert done == ["other"]
    assert turns.turn() == 0
