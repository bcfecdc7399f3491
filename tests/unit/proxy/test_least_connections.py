"""LeastConnections against the minimum; of many endpoints, within two rounds of choices."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.upstream.balance import MOST_COMPARED, LoadBalancer


@dataclass(frozen=True)
class One:
    load: int


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=MOST_COMPARED), st.integers(0, 100))
def test_least_loaded_of_some_endpoints_is_chosen(loads: list[int], turns: int) -> None:
    chooser = LoadBalancer()
    endpoints = [One(load) for load in loads]
    for _ in range(turns):
        chooser.choose("least-connections", endpoints)

    assert chooser.choose("least-connections", endpoints).load == min(loads)


@settings(max_examples=50, deadline=None)
@given(st.integers(MOST_COMPARED + 1, 400), st.integers(0, 399), st.integers(0, 20))
def test_idle_endpoint_among_many_is_found_within_two_rounds(count: int, idle: int, turns: int) -> None:
    chooser = LoadBalancer()
    endpoints = [One(int(number != idle % count)) for number in range(count)]
    for _ in range(turns):
        chooser.choose("least-connections", endpoints)
    found = [chooser.choose("least-connections", endpoints).load for _ in range(2 * -(-count // MOST_COMPARED))]

    assert min(found) == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200))
def test_endpoints_with_equal_loads_take_turns(count: int) -> None:
    chooser = LoadBalancer()
    endpoints = [One(0) for _ in range(count)]
    found = {id(chooser.choose("least-connections", endpoints)) for _ in range(count * -(-count // MOST_COMPARED))}

    assert len(found) == count
