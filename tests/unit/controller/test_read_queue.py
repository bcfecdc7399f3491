"""Whose object is read next: turns of namespaces, a pace for each, no object twice."""

import asyncio
import math

from controller.resources.reading.object_ref import ObjectRef
from controller.sources.read_queue import BURST, LEAST, PACE, ReadQueue


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def secret(path: str) -> ObjectRef:
    namespace, _, name = path.partition("/")
    return ObjectRef("Secret", namespace, name)


def test_namespaces_take_turns_and_an_object_that_changes_again_is_read_once() -> None:
    queue = ReadQueue(Clock())
    for number in range(100):
        queue.push(secret(f"attacker/s{number}"))
    queue.push(secret("innocent/s"))
    queue.push(secret("attacker/s0"))

    found = [queue.take() for _ in range(102)]

    assert found[:3] == [secret("attacker/s0"), secret("innocent/s"), secret("attacker/s1")]
    assert len(set(found)) == 102
    assert found[101] is None


def test_namespace_that_had_its_burst_waits_for_its_pace_and_no_other_does() -> None:
    clock = Clock()
    queue = ReadQueue(clock)
    queue.charge("attacker", BURST)
    queue.push(secret("attacker/s"))
    queue.push(secret("innocent/s"))

    assert queue.take() == secret("innocent/s")
    assert queue.take() is None
    assert queue.patience < 0.001
    queue.charge("attacker", PACE)
    assert 0.999 < queue.patience < 1.001
    clock.now += 1.01
    assert queue.take() == secret("attacker/s")
    assert queue.patience == math.inf


def test_reads_count_at_least_what_a_request_costs_and_are_paid_for_by_time() -> None:
    clock = Clock()
    queue = ReadQueue(clock)
    for _ in range(BURST // LEAST):
        queue.charge("a", 1)
    queue.push(secret("a/s"))

    assert queue.take() is None
    clock.now += BURST / PACE
    assert queue.take() == secret("a/s")


def test_object_that_is_wanted_no_more_is_not_read() -> None:
    queue = ReadQueue(Clock())
    queue.push(secret("a/s"))
    queue.discard(secret("a/s"))
    queue.discard(secret("b/s"))

    assert (queue.take(), queue.patience) == (None, math.inf)


async def test_who_waits_is_woken_by_what_comes_and_by_time() -> None:
    clock = Clock()
    queue = ReadQueue(clock)
    queue.charge("slow", BURST + PACE // 50)
    queue.push(secret("slow/s"))
    async with asyncio.timeout(5):
        waiting = asyncio.create_task(queue.next())
        await asyncio.sleep(0)
        queue.push(secret("quick/s"))
        assert await waiting == secret("quick/s")
        clock.now += 0.03
        assert await queue.next() == secret("slow/s")
