"""What is known of how fast an endpoint answers, and the choice by it."""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.balance import LoadBalancer
from proxy.upstream.ewma import TAU, UNKNOWN, Ewma

SECONDS = st.floats(0.0001, 60.0)


@given(st.lists(st.tuples(SECONDS, st.floats(0.0, 30.0)), min_size=1, max_size=20))
def test_cost_lies_between_the_fastest_and_the_slowest_answer(seen: list[tuple[float, float]]) -> None:
    latency, now = Ewma(), 100.0
    for seconds, later in seen:
        now += later
        latency.observe(seconds, now)
    answers = [seconds for seconds, _ in seen]

    assert min(answers) * 0.999 <= latency.cost(0, now) <= max(answers) * 1.001


def test_slower_answer_counts_at_once_and_a_faster_one_by_and_by() -> None:
    latency = Ewma()
    latency.observe(0.01, 100.0)
    latency.observe(1.0, 100.1)
    slow = latency.cost(0, 100.1)
    latency.observe(0.01, 100.2)
    soon = latency.cost(0, 100.2)
    for step in range(400):
        latency.observe(0.01, 100.3 + step / 10)

    assert slow == 1.0
    assert 0.95 < soon < 1.0
    assert 0.01 < latency.cost(0, 140.2) < 0.03


def test_what_was_seen_fades_while_nobody_asks() -> None:
    latency = Ewma()
    latency.observe(1.0, 100.0)

    assert latency.cost(0, 100.0 + 5 * TAU) < 0.01


def test_load_multiplies_and_an_unknown_endpoint_gets_one_request_first() -> None:
    latency = Ewma()
    assert (latency.cost(0, 100.0), latency.cost(2, 100.0)) == (0.0, 2 * UNKNOWN)
    latency.observe(0.1, 100.0)

    assert latency.cost(3, 100.0) == pytest.approx(0.4)


@dataclass
class One:
    seconds: float
    latency: Ewma = field(default_factory=Ewma)
    load: int = 0
    now: float = 100.0

    @property
    def cost(self) -> float:
        return self.latency.cost(self.load, self.now)


def test_requests_go_where_answers_begin_sooner() -> None:
    random.seed(1)
    chooser, endpoints, found = LoadBalancer(), [One(0.01), One(0.01), One(0.2)], Counter[float]()
    for step in range(3000):
        for one in endpoints:
            one.now = 100.0 + step / 100
        chosen = chooser.choose("ewma", endpoints)
        chosen.latency.observe(chosen.seconds, chosen.now)
        found[chosen.seconds] += 1

    assert found[0.2] < 300
    assert found[0.2] > 0
