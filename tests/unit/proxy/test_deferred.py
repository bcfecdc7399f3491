"""Work that is left to a later turn: its source is not read until it is done, nor while whoever takes it is paused."""

import asyncio
from typing import cast

from turns import Turns

from proxy.transport.deferred import Deferred
from proxy.transport.run_queue import RunQueue


class Source:
    """Something that is read, and has so many pieces of work at once."""

    def __init__(self, pieces: int) -> None:
        self.turns = Turns()
        self.deferred = Deferred(RunQueue(cast("asyncio.AbstractEventLoop", self.turns)))
        self.reading = True
        self.left = pieces
        self.done = 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def work(self) -> None:
        self.done += 1
        self.left -= 1
        if self.left:
            self.deferred.leave(self, self.go_on)

    def go_on(self) -> None:
        if self.deferred.begin():
            self.work()
            self.deferred.end(self)

    def resume(self) -> None:
        self.deferred.resume(self, self.go_on, has_more=self.left > 0)


def test_source_is_read_again_when_all_work_is_done_one_piece_a_turn() -> None:
    source = Source(3)
    source.work()
    seen = []
    while source.turns.soon:
        seen.append((source.done, source.reading))
        source.turns.turn()

    assert seen == [(1, False), (2, False)]
    assert (source.done, source.reading) == (3, True)


def test_work_that_is_left_twice_is_done_once() -> None:
    source = Source(2)
    source.work()
    source.deferred.leave(source, source.go_on)
    source.turns.turn()

    assert (source.done, source.left) == (2, 0)
    assert not source.turns.soon


def test_nothing_is_done_for_a_taker_that_is_paused_and_all_of_it_afterwards() -> None:
    source = Source(3)
    source.work()
    source.deferred.pause(source)
    source.turns.turn()
    assert (source.done, source.reading, source.turns.soon) == (1, False, [])
    source.resume()
    assert not source.reading
    while source.turns.soon:
        source.turns.turn()

    assert (source.done, source.reading) == (3, True)


def test_taker_that_pauses_and_resumes_while_work_waits_has_it_done_once() -> None:
    source = Source(2)
    source.work()
    source.deferred.pause(source)
    source.resume()
    assert not source.reading
    source.turns.turn()

    assert (source.done, source.reading) == (2, True)


def test_taker_that_resumes_without_work_has_its_source_read() -> None:
    source = Source(1)
    source.deferred.pause(source)
    assert not source.reading
    source.left = 0
    source.resume()

    assert source.reading


def test_work_whose_source_is_to_be_read_on_does_not_stop_it() -> None:
    source = Source(2)
    source.deferred.leave(None, source.go_on)

    assert source.reading
    assert source.deferred.queued
