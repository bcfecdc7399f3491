"""What the memo's stages are built of."""

from hypothesis import given
from hypothesis import strategies as st

from controller.resources.reading.object_ref import ObjectRef
from controller.translate.dependencies import Dependents, changed_refs

REFS = [ObjectRef("Ingress", "shop", f"i{number}") for number in range(4)]


@given(st.lists(st.tuples(st.sampled_from(REFS), st.frozensets(st.sampled_from("abc")))))
def test_users_of_a_thing_are_those_whose_last_word_named_it(said: list[tuple[ObjectRef, frozenset[str]]]) -> None:
    users = Dependents[str]()
    uses = dict.fromkeys(REFS, frozenset[str]())
    for ref, new in said:
        users.replace(ref, uses[ref], new)
        uses[ref] = new

    for key in "abc":
        assert sorted(users.of(key)) == [ref for ref in REFS if key in uses[ref]]


@given(
    st.dictionaries(st.sampled_from(REFS), st.integers(1000, 1003)), st.dictionaries(st.sampled_from(REFS), st.integers(1000, 1003))
)
def test_changed_refs_are_those_that_differ_in_any_order(old: dict[ObjectRef, int], new: dict[ObjectRef, int]) -> None:
    records = {(ref, value): object() for known in (old, new) for ref, value in known.items()}
    before = {ref: records[ref, value] for ref, value in old.items()}
    after = {ref: records[ref, value] for ref, value in new.items()}

    assert sorted(changed_refs(before, after)) == [ref for ref in REFS if before.get(ref) is not after.get(ref)]
