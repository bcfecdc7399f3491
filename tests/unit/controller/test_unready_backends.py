"""When a WsRoute says that a backend has no ready endpoint, and when it takes it back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.resources import WsRoute, parse_object
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.stored_status import StoredCondition, read_stored_status
from controller.sources.snapshot import SourceSnapshot
from controller.status.conditions import NO_READY_ENDPOINTS, SERVED, make_conditions, unready_sentence
from controller.status.tracker import Tracker
from controller.status.unready_backends import FORGET, HOLD, HOLD_MOST, UnreadyBackends
from controller.translate.upstreams import UnreadyBackend
from controller.translate.verdicts import NO_PROBLEMS

REF, OTHER = ObjectRef("WsRoute", "shop", "chat"), ObjectRef("WsRoute", "shop", "other")
CHAT: UnreadyBackend = ("spec.rules[0].websocket.backends[0]", "shop/chat:80")
WEB: UnreadyBackend = ("spec.rules[1].http.backends[0]", "shop/web:80")
NOW, LATER = "2026-11-21T08:00:00Z", "2026-11-21T09:00:00Z"


def test_backend_is_said_after_ten_seconds_and_taken_back_at_once() -> None:
    followed = UnreadyBackends()

    assert not followed.update(REF, (CHAT,), 100.0)
    assert followed.is_waiting(REF)
    assert followed.advance(100.0 + HOLD - 0.1) == []
    assert followed.advance(100.0 + HOLD) == [REF]
    assert (followed.reported(REF), followed.is_waiting(REF), followed.waits) == ((CHAT,), False, False)
    assert followed.update(REF, (), 111.0)
    assert (followed.reported(REF), followed.waits) == ((), False)


def test_backend_that_is_ready_again_in_time_is_never_said() -> None:
    followed = UnreadyBackends()
    for second in range(0, 300, 9):
        assert not followed.update(REF, (CHAT,), float(second))
        assert followed.advance(second + 8.9) == []
        assert not followed.update(REF, (), second + 8.9)

    assert not followed.waits


def test_each_backend_has_its_own_time_and_they_are_named_in_the_order_of_the_object() -> None:
    followed = UnreadyBackends()
    followed.update(REF, (WEB,), 0.0)
    followed.update(REF, (CHAT, WEB), 5.0)

    assert followed.advance(10.0) == [REF]
    assert followed.reported(REF) == (WEB,)
    assert followed.is_waiting(REF)
    assert followed.advance(15.0) == [REF]
    assert followed.reported(REF) == (CHAT, WEB)
    assert followed.update(REF, (CHAT,), 16.0)
    assert followed.reported(REF) == (CHAT,)


def test_object_that_goes_is_forgotten_and_another_is_not_touched() -> None:
    followed = UnreadyBackends()
    followed.update(REF, (CHAT,), 0.0)
    followed.update(OTHER, (CHAT,), 0.0)
    followed.forget(REF)

    assert followed.advance(HOLD) == [OTHER]
    assert followed.reported(REF) == ()


def changes(period: float, seconds: float) -> int:
    """How often an object says something else whose backend is gone for a period, and there for an instant after it."""
    followed, count, now = UnreadyBackends(), 0, 0.0
    while now < seconds:
        followed.update(REF, (CHAT,), now)
        now += period
        count += len(followed.advance(now))
        count += followed.update(REF, (), now)
    return count


@pytest.mark.parametrize("period", [10.5, 15.0, 25.0, 60.0, 300.0])
def test_backend_that_comes_and_goes_all_day_is_said_less_and_less(period: float) -> None:
    """Each time it is waited for twice as long, so that after seven times it is said no more: a period of 300 s is below 640 s."""
    assert 2 <= changes(period, 86_400) <= 14


def test_what_was_quiet_for_long_is_said_after_ten_seconds_again() -> None:
    followed = UnreadyBackends()
    now = 0.0
    for _ in range(5):
        followed.update(REF, (CHAT,), now)
        now += HOLD_MOST
        assert followed.advance(now) == [REF]
        followed.update(REF, (), now)
    followed.update(REF, (CHAT,), now + 1)
    assert followed.advance(now + 1 + HOLD) == []
    followed.update(REF, (), now + 2 + HOLD)
    now += 20 + FORGET
    followed.update(REF, (CHAT,), now)

    assert followed.advance(now + HOLD) == [REF]


BACKENDS = st.sampled_from([(), (CHAT,), (WEB,), (CHAT, WEB)])
"""In the order of the object: another order is another object, whose conditions are written anyway."""


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from([REF, OTHER]), BACKENDS), max_size=30))
def test_what_is_said_is_unready_now_and_every_change_of_it_is_told(steps: list[tuple[float, ObjectRef, Any]]) -> None:
    followed, now = UnreadyBackends(), 0.0
    unready: dict[ObjectRef, dict[UnreadyBackend, float]] = {REF: {}, OTHER: {}}
    for pause, ref, backends in steps:
        before = {one: followed.reported(one) for one in unready}
        now += pause
        told = set(followed.advance(now))
        unready[ref] = {backend: unready[ref].get(backend, now) for backend in backends}
        told |= {ref} if followed.update(ref, backends, now) else set()
        for one, since in unready.items():
            said = followed.reported(one)
            assert set(said) <= set(since)
            assert all(now >= since[backend] + HOLD for backend in said)
            assert before[one] == said or one in told
            assert followed.is_waiting(one) == (set(since) != set(said))
        assert followed.waits == any(followed.is_waiting(one) for one in unready)


def stored(conditions: list[dict[str, object]] | None) -> tuple[StoredCondition, ...]:
    return read_stored_status({"metadata": {"name": "chat"}, "status": {"conditions": conditions}}, "WsRoute").conditions


def test_condition_is_there_while_it_is_true_and_written_once() -> None:
    normal = make_conditions(NO_PROBLEMS, SERVED, 1, (), NOW)
    said = make_conditions(NO_PROBLEMS, SERVED, 1, stored(normal), LATER, (CHAT, WEB))
    assert said is not None
    again = make_conditions(NO_PROBLEMS, SERVED, 1, stored(said), LATER, (CHAT, WEB))
    kept = make_conditions(NO_PROBLEMS, SERVED, 1, stored(said), LATER, keep_unready=True)
    back = make_conditions(NO_PROBLEMS, SERVED, 1, stored(said), LATER)

    assert said[-1] == {
        "type": NO_READY_ENDPOINTS,
        "status": "True",
        "reason": NO_READY_ENDPOINTS,
        "message": f"{unready_sentence(CHAT)} {unready_sentence(WEB)}",
        "observedGeneration": 1,
        "lastTransitionTime": LATER,
    }
    assert (again, kept, back) == (None, None, normal)


def test_new_generation_keeps_what_another_replica_said_of_endpoints_until_more_is_known() -> None:
    said = make_conditions(NO_PROBLEMS, SERVED, 1, (), NOW, (CHAT,))
    newer = make_conditions(NO_PROBLEMS, SERVED, 2, stored(said), LATER, keep_unready=True)

    assert newer is not None
    assert [(one["type"], one["observedGeneration"], one["lastTransitionTime"]) for one in newer][-1] == (
        NO_READY_ENDPOINTS,
        2,
        NOW,
    )


def record(generation: int = 1) -> WsRoute:
    found = parse_object(
        {
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "WsRoute",
            "metadata": {"name": "chat", "namespace": "shop", "generation": generation},
            "spec": {"rules": [{"http": {"backends": [{"service": "chat", "port": 80}]}}]},
        }
    )
    assert isinstance(found, WsRoute)
    return found


def test_tracker_makes_an_object_dirty_when_its_time_has_come_and_when_endpoints_are_back() -> None:
    tracker, snapshot = Tracker(), SourceSnapshot(ws_routes={REF: record()})
    tracker.built(snapshot, {REF: NO_PROBLEMS}, "root", changed_readiness={REF: (CHAT,), OTHER: (CHAT,)}, now=50.0)
    tracker.acknowledged("root", {})
    tracker.take_dirty()

    assert tracker.waits
    assert tracker.awaits_endpoints(REF)
    assert not tracker.awaits_endpoints(OTHER), "it is not ours"
    assert not tracker.advance(59.0)
    assert tracker.advance(60.0)
    assert tracker.take_dirty() == [REF]
    report = tracker.report_of(REF)
    assert report is not None
    assert report.unready == (CHAT,)
    tracker.built(snapshot, {REF: NO_PROBLEMS}, "root-2", (), changed_readiness={REF: ()}, now=61.0)
    assert tracker.take_dirty() == [REF]
    report = tracker.report_of(REF)
    assert report is not None
    assert report.unready == ()


def test_ingress_has_no_conditions_so_nothing_waits_for_it() -> None:
    tracker, ref = Tracker(), ObjectRef("Ingress", "shop", "chat")
    tracker.built(SourceSnapshot(), {ref: NO_PROBLEMS}, "root", changed_readiness={ref: (CHAT,)}, now=50.0)

    assert not tracker.waits


def test_upstream_that_an_object_speaks_to_over_tls_is_told_by_its_port() -> None:
    field, upstream = CHAT

    assert unready_sentence((field, f"{upstream}/https")) == unready_sentence(CHAT)
