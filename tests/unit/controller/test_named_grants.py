"""Which named objects are granted: limits, whom they strike, and that it depends on nothing but what there is now."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.resources.reading.named_objects import Reference
from controller.resources.reading.object_ref import ObjectRef
from controller.sources.named_grants import LIMITS, MEBIBYTE, Limits, grant, refuse_bytes

SMALL = Limits(names_of_namespace=2, names=4, bytes_of_namespace=10, bytes=25)
MIB = MEBIBYTE


def reference(owner: str, name: str, *, created: str = "", keys: tuple[str, ...] = (), field: str = "f") -> Reference:
    namespace, _, own = owner.partition("/")
    return Reference(ObjectRef("Ingress", namespace, own), created, field, "Secret", name, keys)


def secret(path: str) -> ObjectRef:
    namespace, _, name = path.partition("/")
    return ObjectRef("Secret", namespace, name)


def test_oldest_objects_have_their_names_granted_and_the_others_are_told_which_limit() -> None:
    found = grant(
        [reference("a/c", "z", created="3"), reference("a/b", "y", created="2"), reference("a/a", "x", created="1")], SMALL
    )

    assert list(found.granted) == [secret("a/x"), secret("a/y")]
    assert {ref: problem.text for ref, problem in found.refused.items()} == {
        secret("a/z"): "is not read: 2 others are named before it in this namespace, by the oldest objects first, "
        "and more are not read; one of these would be accepted."
    }


def test_sum_over_all_namespaces_has_a_limit_of_its_own() -> None:
    names = [reference(f"{namespace}/o", name, created="1") for namespace in "abc" for name in ("x", "y")]

    found = grant([*names, reference("d/o", "x", created="0")], SMALL)

    assert list(found.granted) == [secret("d/x"), secret("a/x"), secret("a/y"), secret("b/x")]
    assert {ref: "in all namespaces" in problem.text for ref, problem in found.refused.items()} == {
        secret("b/y"): True,
        secret("c/x"): True,
        secret("c/y"): True,
    }


def test_name_that_several_objects_have_counts_once_and_needs_the_keys_of_all() -> None:
    found = grant(
        [
            reference("a/a", "x", keys=("k", "l")),
            reference("a/b", "x", keys=("m",)),
            reference("a/c", "y", keys=("k",)),
            reference("a/d", "y"),
            reference("a/e", "y", keys=("n",)),
        ],
        SMALL,
    )

    assert dict(found.granted) == {secret("a/x"): frozenset("klm"), secret("a/y"): None}
    assert dict(found.refused) == {}


def test_secret_and_config_map_of_one_name_are_two() -> None:
    of_map = Reference(ObjectRef("Ingress", "a", "o"), "", "g", "ConfigMap", "x")

    assert set(grant([reference("a/o", "x"), of_map]).granted) == {secret("a/x"), ObjectRef("ConfigMap", "a", "x")}


def test_namespace_that_names_five_thousand_objects_takes_none_from_another() -> None:
    attacker = [reference(f"attacker/o{number:04}", f"s{number:04}", created="1") for number in range(5000)]

    found = grant([*attacker, reference("innocent/o", "s", created="2")])

    assert secret("innocent/s") in found.granted
    assert len(found.granted) == 1 + LIMITS.names_of_namespace
    assert len(found.refused) == 5000 - LIMITS.names_of_namespace
    assert secret("innocent/s") not in refuse_bytes(tuple(found.granted), dict.fromkeys(found.granted, MIB))


REFERENCES = st.lists(
    st.builds(
        reference,
        st.sampled_from(["a/o", "a/p", "b/o", "b/p", "c/o"]),
        st.sampled_from("uvwxyz"),
        created=st.sampled_from("123"),
        keys=st.sampled_from([(), ("k",), ("l",)]),
        field=st.sampled_from("fg"),
    ),
    max_size=24,
)


@given(REFERENCES, st.randoms())
def test_grants_are_the_same_in_whatever_order_references_come(references: list[Reference], random: object) -> None:
    shuffled = list(references)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    first, second = grant(references, SMALL), grant([*shuffled, *references[:3]], SMALL)

    assert list(first.granted.items()) == list(second.granted.items())
    assert dict(first.refused) == dict(second.refused)


@given(REFERENCES)
def test_limits_hold_and_whoever_is_refused_is_over_one(references: list[Reference]) -> None:
    found = grant(references, SMALL)

    of_namespace = {name: sum(ref.namespace == name for ref in found.granted) for name in "abc"}
    assert set(found.granted) | set(found.refused) == {one.target for one in references}
    assert not set(found.granted) & set(found.refused)
    assert max(of_namespace.values()) <= SMALL.names_of_namespace
    assert len(found.granted) <= SMALL.names
    for ref, problem in found.refused.items():
        full = len(found.granted) == SMALL.names if "all namespaces" in problem.text else of_namespace[ref.namespace] == 2
        assert full


@given(REFERENCES, REFERENCES)
def test_what_comes_later_takes_no_grant_away(references: list[Reference], later: list[Reference]) -> None:
    before = grant(references, SMALL).granted
    younger = [Reference(one.owner, "9", one.field, one.kind, one.name, one.keys) for one in later]

    assert set(before) <= set(grant([*references, *younger], SMALL).granted)


@pytest.mark.parametrize(
    ("sizes", "refused"),
    [
        ([("a/1", 10), ("a/2", 0)], {}),
        ([("a/1", 10), ("a/2", 1)], {"a/2": "this namespace"}),
        ([("a/1", 6), ("a/2", 6), ("a/3", 4)], {"a/2": "this namespace"}),
        ([("a/1", 10), ("b/1", 10), ("c/1", 6), ("d/1", 5)], {"c/1": "all namespaces"}),
        ([("a/1", 11), ("b/1", 10)], {"a/1": "this namespace"}),
    ],
)
def test_bytes_are_kept_of_the_oldest_as_far_as_they_fit(sizes: list[tuple[str, int]], refused: dict[str, str]) -> None:
    order = [secret(path) for path, _ in sizes]

    found = refuse_bytes(order, {secret(path): size for path, size in sizes}, SMALL)

    assert set(found) == {secret(path) for path in refused}
    assert all(limit in found[secret(path)].text for path, limit in refused.items())


SIZES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), max_size=12)


def kept(order: Sequence[tuple[str, int]]) -> list[bool]:
    refs = [secret(f"{namespace}/{number}") for number, (namespace, _) in enumerate(order)]
    refused = refuse_bytes(refs, {ref: size for ref, (_, size) in zip(refs, order, strict=True)}, SMALL)
    return [ref not in refused for ref in refs]


@given(SIZES, SIZES)
def test_bytes_stay_within_limits_and_nothing_later_takes_them_away(
    first: list[tuple[str, int]], later: list[tuple[str, int]]
) -> None:
    sizes = [*first, *later]

    found = kept(sizes)

    bytes_of = dict.fromkeys("abc", 0)
    for (namespace, size), is_kept in zip(sizes, found, strict=True):
        bytes_of[namespace] += size if is_kept else 0
    assert max(bytes_of.values()) <= SMALL.bytes_of_namespace
    assert sum(bytes_of.values()) <= SMALL.bytes
    assert found[: len(first)] == kept(first)
