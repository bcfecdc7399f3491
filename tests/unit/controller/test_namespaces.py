"""Namespaces by label: the selector's grammar, and the store whose snapshots have objects of some namespaces alone."""

from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cli import controller_command
from controller.resources import parse_object
from controller.resources.reading.object_ref import ObjectRef
from controller.settings import _selector
from controller.sources.snapshot import SourceSnapshot, Store

TAKEN = (
    "team=shop",
    "team==shop",
    "team!=shop",
    "example.com/team = shop",
    "team",
    "!team",
    "team in (shop,blog)",
    "team notin ( shop , blog ),env",
    "team=",
    "env in (test,prod),!example.com/legacy,tier!=3",
)
REFUSED = (
    "team in shop",
    "team=shop,",
    "=shop",
    "team>3,",
    "te am",
    "team in (shop",
    "-team",
    "team=shop;env=test",
    "team=a/b",
    "{}",
)


@pytest.mark.parametrize("text", TAKEN)
def test_selector_of_kubectl_is_taken_as_it_is(text: str) -> None:
    assert _selector(click.Context(controller_command), controller_command.params[0], f" {text} ") == text


@pytest.mark.parametrize("text", REFUSED)
def test_other_text_is_refused_with_what_would_be_accepted(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"was found, a selector of labels as kubectl takes it, .* would be accepted"):
        _selector(click.Context(controller_command), controller_command.params[0], text)


def test_names_and_labels_of_namespaces_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--control-socket=/x", "--watch-namespaces=shop", "--watch-namespace-selector=team=shop"]
    monkeypatch.delenv("SLUICE_WATCH_NAMESPACES", raising=False)

    with pytest.raises(click.UsageError, match="'team=shop' was found beside --watch-namespaces; one of the two would be accepted"):
        controller_command.main(arguments, standalone_mode=False)


def service(namespace: str, port: int, name: str = "chat") -> dict[str, Any]:
    """A Service; a port of 0 cannot be read."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"ports": [{"port": port}]},
    }


CLASS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "sluice"},
    "spec": {"controller": "sluice.dev/ingress-controller"},
}
NAMESPACES = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), NAMESPACES, st.integers(0, 3)),
        st.tuples(st.just("remove"), NAMESPACES, st.just(0)),
        st.tuples(st.just("select"), NAMESPACES, st.integers(0, 1)),
        st.tuples(st.just("look"), NAMESPACES, st.just(0)),
    ),
    max_size=25,
)
KEPT = ObjectRef("Service", "c", "chat")


def only(snapshot: SourceSnapshot, selected: set[str]) -> tuple[dict[ObjectRef, object], ...]:
    kinds = (snapshot.services, snapshot.malformed, snapshot.ingress_classes)
    return tuple(
        {ref: one for ref, one in kind.items() if not ref.namespace or ref.namespace in selected or ref == KEPT} for kind in kinds
    )


@given(STEPS)
def test_snapshot_is_that_of_a_store_of_everything_less_the_namespaces_that_are_not_selected(
    steps: list[tuple[str, str, int]],
) -> None:
    """Whatever came first, objects or labels; the last good version of an object outlives a time without the label."""
    some, everything, selected = Store(selective=True, always=[KEPT]), Store(), set[str]()
    for store in (some, everything):
        store.apply(parse_object(CLASS))  # type: ignore[arg-type]
    for step, namespace, number in steps:
        match step:
            case "apply":
                record = parse_object(service(namespace, number))
                assert record is not None
                assert some.apply(record) == everything.apply(record)
            case "remove":
                ref = ObjectRef("Service", namespace, "chat")
                assert some.remove(ref) == everything.remove(ref)
            case "select":
                changed = some.select(namespace, selected=bool(number))
                assert changed is (bool(number) is not (namespace in selected))
                (selected.add if number else selected.discard)(namespace)
            case _:
                some.snapshot()
        assert some.is_served(ObjectRef("Service", namespace, "x")) is (namespace in selected)
    found = some.snapshot()

    assert (dict(found.services), dict(found.malformed), dict(found.ingress_classes)) == only(everything.snapshot(), selected)
    assert some.snapshot() is found


def test_store_without_selection_serves_everything_and_selects_nothing() -> None:
    store = Store()
    record = parse_object(service("a", 80))
    assert record is not None
    store.apply(record)

    assert not store.select("a", selected=True)
    assert store.is_served(record.ref)
    assert set(store.snapshot().services) == {record.ref}
