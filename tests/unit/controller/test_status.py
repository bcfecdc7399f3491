"""What owners are report: conditions, Events and the tracker that joins verdicts with acknowledgements."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller.resources import WsRoute, parse_object
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from controller.resources.reading.stored_status import StoredCondition, StoredStatus, read_stored_status, service_addresses
from controller.sources.snapshot import SourceSnapshot
from controller.status.conditions import NOT_ACCEPTED, PENDING, SERVED, make_conditions, rejected
from controller.status.events import MAX_MESSAGE, event_name, event_text, make_event
from controller.status.tracker import Tracker, owner_of
from controller.translate import Verdict
from controller.translate.verdicts import NO_PROBLEMS, make_verdict

REF = ObjectRef("WsRoute", "shop", "chat")
NOW, LATER = "2026-11-21T08:00:00Z", "2026-11-21T09:00:00Z"
BAD = make_verdict([Problem(REF, Reason.INVALID_SPEC, "spec.rules", "spec.rules: nothing was found.")], served=False)
UNRESOLVED = make_verdict([Problem(REF, Reason.PORT_NOT_FOUND, "spec.rules[0]", "spec.rules[0]: no such port.")], served=True)
VERDICTS = (NO_PROBLEMS, BAD, UNRESOLVED)
PROGRAMMED = (SERVED, PENDING, NOT_ACCEPTED, rejected({"wsroute/shop/chat/0": "its pattern is too large"}))


def stored(conditions: list[dict[str, Any]]) -> tuple[StoredCondition, ...]:
    """What the API server gives back of conditions that were written to it."""
    return read_stored_status({"metadata": {"name": "chat"}, "status": {"conditions": conditions}}, "WsRoute").conditions


def test_conditions_are_three_with_the_generation_and_the_time_of_their_status() -> None:
    first = make_conditions(NO_PROBLEMS, PENDING, 3, (), NOW)
    assert first is not None
    assert [(one["type"], one["status"], one["reason"]) for one in first] == [
        ("Accepted", "True", "Accepted"),
        ("ResolvedRefs", "True", "ResolvedRefs"),
        ("Programmed", "False", "Pending"),
    ]
    second = make_conditions(NO_PROBLEMS, SERVED, 4, stored(first), LATER)
    assert second is not None
    assert {one["observedGeneration"] for one in second} == {4}
    assert [one["lastTransitionTime"] for one in second] == [NOW, NOW, LATER]


@given(
    st.sampled_from(VERDICTS),
    st.sampled_from(PROGRAMMED),
    st.integers(1, 9),
    st.sampled_from(VERDICTS),
    st.sampled_from(PROGRAMMED),
)
def test_what_was_written_is_not_written_again_and_foreign_conditions_stay(
    verdict: Verdict, programmed: Any, generation: int, other: Verdict, report: Any
) -> None:
    theirs = {"type": "Theirs", "status": "Unknown", "reason": "X", "message": "m", "lastTransitionTime": NOW}
    before = make_conditions(other, report, 1, stored([theirs]), NOW)
    assert before is not None
    result = make_conditions(verdict, programmed, generation, stored(before), LATER)
    written = before if result is None else result
    assert (result is None) == ((verdict, programmed, generation) == (other, report, 1))
    assert make_conditions(verdict, programmed, generation, stored(written), LATER) is None
    assert [one["type"] for one in written] == ["Accepted", "ResolvedRefs", "Programmed", "Theirs"]


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda children: st.one_of(
        st.lists(children, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["status", "conditions", "loadBalancer", "ingress", "ip", "hostname", "metadata", "uid", "type", "spec"]
            ),
            children,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["metadata", "status", "spec", "apiVersion"]), ANYTHING))
def test_statuses_that_somebody_else_wrote_are_read_whatever_they_look_like(raw: Mapping[str, Any]) -> None:
    assert isinstance(read_stored_status(raw, "Ingress"), StoredStatus)
    assert all(isinstance(part, str) for pair in service_addresses(raw) for part in pair)


def test_addresses_of_a_service_are_its_load_balancers_else_its_own() -> None:
    def addresses(kind: str, **more: Any) -> Any:
        status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]}}
        return service_addresses({"spec": {"type": kind, "clusterIP": "10.96.0.9", **more}, "status": status})

    assert addresses("LoadBalancer", externalIPs=["192.0.2.9"]) == (("192.0.2.1", ""), ("", "lb.example.com"), ("192.0.2.9", ""))
    assert addresses("NodePort") == (("10.96.0.9", ""),)
    assert addresses("ClusterIP", externalIPs=["192.0.2.9"]) == (("192.0.2.9", ""),)
    assert addresses("ClusterIP", clusterIP="None") == ()
    assert addresses("ExternalName", externalName="away.example.com") == (("", "away.example.com"),)


def test_event_of_a_verdict_has_one_name_and_a_message_that_the_api_server_takes() -> None:
    of = StoredStatus(ObjectRef("Ingress", "shop", "web"), "networking.k8s.io/v1", "uid-1", "7", 1)
    assert event_text(NO_PROBLEMS) is None
    what = event_text(make_verdict([Problem(of.ref, Reason.INVALID_SPEC, "f", "f: " + "x" * 5000)], served=False))
    assert what is not None
    assert (what.type, what.reason, len(what.message)) == ("Warning", "InvalidSpec", MAX_MESSAGE)
    assert event_name(of, what) == event_name(of, what)
    event = make_event(of, what, NOW)
    assert event["involvedObject"] == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "namespace": "shop",
        "name": "web",
        "uid": "uid-1",
    }


def record(name: str, generation: int) -> WsRoute:
    raw = {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "WsRoute",
        "metadata": {"name": name, "namespace": "shop", "generation": generation},
        "spec": {"rules": [{"http": {"backends": [{"service": "web", "port": 80}]}}]},
    }
    found = parse_object(raw)
    assert isinstance(found, WsRoute)
    return found


def snapshot(**generations: int) -> SourceSnapshot:
    return SourceSnapshot(ws_routes={one.ref: one for one in (record(name, number) for name, number in generations.items())})


def ref(name: str) -> ObjectRef:
    return ObjectRef("WsRoute", "shop", name)


def test_object_is_programmed_when_a_build_that_has_it_is_acknowledged() -> None:
    tracker = Tracker()
    tracker.built(snapshot(a=1), {ref("a"): NO_PROBLEMS}, "root-1")
    report = tracker.report_of(ref("a"))
    assert report is not None
    assert (report.generation, report.programmed) == (1, PENDING)
    tracker.acknowledged("root-0", {})
    assert tracker.report_of(ref("a")) == report
    tracker.take_dirty()
    tracker.acknowledged("root-1", {})
    assert tracker.take_dirty() == [ref("a")]
    report = tracker.report_of(ref("a"))
    assert report is not None
    assert report.programmed is SERVED


def test_object_that_changes_nothing_for_the_proxy_is_programmed_at_once() -> None:
    tracker = Tracker()
    tracker.built(snapshot(a=1), {ref("a"): NO_PROBLEMS}, "root")
    tracker.acknowledged("root", {})
    tracker.built(snapshot(a=2), {ref("a"): NO_PROBLEMS}, "root")
    report = tracker.report_of(ref("a"))
    assert report is not None
    assert (report.generation, report.programmed) == (2, SERVED)


def test_rejected_route_is_said_of_its_object_alone_and_again_when_it_is_mended() -> None:
    tracker = Tracker()
    tracker.built(snapshot(a=1, b=1), {ref("a"): NO_PROBLEMS, ref("b"): NO_PROBLEMS}, "root")
    tracker.acknowledged("root", {"wsroute/shop/a/0": "bad pattern"})
    tracker.take_dirty()
    a, b = tracker.report_of(ref("a")), tracker.report_of(ref("b"))
    assert a is not None
    assert b is not None
    assert (a.programmed.reason, "bad pattern" in a.programmed.message, b.programmed) == ("Rejected", True, SERVED)
    tracker.acknowledged("root", {})
    assert tracker.take_dirty() == [ref("a")]


def test_object_that_is_not_ours_any_more_is_looked_at_once_and_forgotten() -> None:
    tracker = Tracker()
    tracker.built(snapshot(a=1), {ref("a"): NO_PROBLEMS}, "root-1")
    tracker.take_dirty()
    tracker.built(snapshot(a=1), {}, "root-2")
    assert tracker.take_dirty() == [ref("a")]
    assert tracker.report_of(ref("a")) is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("build"), st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(1, 2), st.integers(0, 2)))),
        st.tuples(st.just("ack"), st.integers(0, 12)),
    ),
    max_size=14,
)


@given(STEPS)
def test_tracker_says_what_a_naive_one_says_and_misses_no_change(steps: list[tuple[str, Any]]) -> None:
    """The oracle: an object is served when some acknowledged build holds it as it is in the last one, and in all between."""
    tracker = Tracker()
    records: dict[tuple[str, int], WsRoute] = {}
    builds: list[dict[str, tuple[int, int]]] = [{}]
    roots: list[str] = [""]
    served = 0
    last: dict[str, object] = {}
    for step, value in steps:
        if step == "build":
            builds.append(value)
            roots.append(str(sorted(value.items())))
            now = {
                name: records.setdefault((name, generation), record(name, generation)) for name, (generation, _) in value.items()
            }
            tracker.built(
                SourceSnapshot(ws_routes={one.ref: one for one in now.values()}),
                {ref(name): VERDICTS[number] for name, (_, number) in value.items()},
                roots[-1],
            )
            if roots[served] == roots[-1] and served:
                served = len(builds) - 1
        elif value < len(builds) and value:
            newest = max(number for number, root in enumerate(roots) if root == roots[value])
            tracker.acknowledged(roots[value], {})
            served = newest  # what the proxy holds now, older or newer
        dirty = {one.name for one in tracker.take_dirty()}
        for name in "abc":
            report = tracker.report_of(ref(name))
            wanted = builds[-1].get(name)
            assert (report is None) == (wanted is None)
            if report is not None and wanted is not None:
                assert (report.generation, report.verdict) == (wanted[0], VERDICTS[wanted[1]])
            if last.get(name) != report:
                assert name in dirty
            last[name] = report


def test_routes_name_their_objects() -> None:
    assert owner_of("wsroute/shop/chat/live") == REF
    assert owner_of("ingress/shop/web/0") == ObjectRef("Ingress", "shop", "web")
    assert owner_of("-") is None
