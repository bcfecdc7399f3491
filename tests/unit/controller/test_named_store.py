"""What is kept of named objects: within the limits, of what is wanted only, whatever comes in whatever order."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller.resources.reading.named_objects import NamedObject, NamedProblem, NamedState, Reference, absent, forbidden
from controller.resources.reading.object_ref import ObjectRef
from controller.sources.named_grants import Limits, grant, refuse_bytes
from controller.sources.named_store import NamedStore
from proxy.model.sensitive import Sensitive

SMALL = Limits(names_of_namespace=3, names=5, bytes_of_namespace=10, bytes=16)
TARGETS = [ObjectRef("Secret", namespace, name) for namespace in "ab" for name in "wxyz"]


def reference(target: ObjectRef, created: str = "", keys: tuple[str, ...] = ()) -> Reference:
    return Reference(ObjectRef("Ingress", target.namespace, f"of-{target.name}"), created, "f", "Secret", target.name, keys)


def holding(ref: ObjectRef, size: int) -> NamedObject:
    return NamedObject(ref, "Opaque", {"k": Sensitive(bytes(size))})


A, B, C = TARGETS[:3]


def test_state_follows_what_is_read_and_says_each_change_once() -> None:
    changed: list[ObjectRef] = []
    store = NamedStore(changed.append, SMALL)
    refusal = forbidden(A, "403")

    assert store.want([reference(A)]).added == (A,)
    assert (dict(store.states), store.settled) == ({A: NamedState()}, False)
    store.put(A, holding(A, 3))
    store.put(A, holding(A, 3))
    store.fail(A, refusal)
    assert dict(store.states) == {A: NamedState(holding(A, 3), refusal)}
    store.recover(A)
    store.put(A, absent(A))
    assert (dict(store.states), store.settled) == ({A: NamedState(None, absent(A))}, True)
    assert changed == [A] * 5


def test_states_are_the_same_mapping_while_nothing_changes() -> None:
    store = NamedStore(lambda _: None, SMALL)
    store.want([reference(A)])
    store.put(A, holding(A, 3))
    before = store.states

    store.want([reference(A)])
    store.put(A, holding(A, 3))

    assert store.states is before


def test_bytes_of_a_name_that_is_wanted_no_more_are_dropped_at_once_and_taken_no_more() -> None:
    store = NamedStore(lambda _: None, SMALL)
    store.want([reference(A), reference(B)])
    store.put(A, holding(A, 3))
    store.put(B, holding(B, 4))

    assert store.want([reference(B)]).dropped == (A,)
    assert (store.kept_bytes, set(store.states)) == (4, {B})
    store.put(A, holding(A, 3))
    store.fail(A, absent(A))
    assert (store.kept_bytes, set(store.states)) == (4, {B})


def test_object_over_the_bytes_is_dropped_and_read_again_when_there_is_room() -> None:
    store = NamedStore(lambda _: None, SMALL)
    store.want([reference(A, "1"), reference(B, "2"), reference(C, "3")])
    store.put(B, holding(B, 6))
    assert store.put(A, holding(A, 6)) == ()
    assert (store.kept_bytes, store.states[B].content is None) == (6, True)
    assert "is not kept" in str(store.states[B].problem)

    assert store.put(A, holding(A, 4)) == (B,)
    assert store.states[B] == NamedState()
    store.put(B, holding(B, 6))

    assert (store.kept_bytes, store.states[B]) == (10, NamedState(holding(B, 6)))
    assert store.want([reference(B, "2"), reference(C, "3")]).reread == ()


def test_room_that_a_dropped_name_leaves_is_used() -> None:
    store = NamedStore(lambda _: None, SMALL)
    store.want([reference(A, "1"), reference(B, "2")])
    store.put(A, holding(A, 6))
    store.put(B, holding(B, 6))

    assert store.want([reference(B, "2")]).reread == (B,)


def test_name_of_which_other_keys_are_needed_is_read_again() -> None:
    store = NamedStore(lambda _: None, SMALL)
    store.want([reference(A, keys=("k",))])

    found = store.want([reference(A, keys=("k", "l"))])

    assert (found.added, found.dropped, found.reread) == ((), (), (A,))
    assert store.keys(A) == frozenset("kl")


class Stores(RuleBasedStateMachine):
    """Against what the pure decisions say of the last of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: set[ObjectRef] = set()
        self.store = NamedStore(lambda ref: self.changed.add(ref), SMALL)  # noqa: PLW0108  the set is another one later
        self.references: list[Reference] = []
        self.given: dict[ObjectRef, int | None] = {}
        """Size of what an object was last read with; None: absent."""
        self.before: dict[ObjectRef, NamedState] = {}

    def read_again(self, refs: tuple[ObjectRef, ...]) -> None:
        for ref in refs:
            self.put(ref, self.given.get(ref))

    @rule(wanted=st.dictionaries(st.sampled_from(TARGETS), st.sampled_from("123"), max_size=8))
    def want(self, wanted: dict[ObjectRef, str]) -> None:
        self.references = [reference(ref, created) for ref, created in wanted.items()]
        found = self.store.want(self.references)
        for ref in (*found.dropped, *found.added):
            self.given.pop(ref, None)
        self.read_again(found.reread)

    @rule(ref=st.sampled_from(TARGETS), size=st.none() | st.integers(0, 12))
    def put(self, ref: ObjectRef, size: int | None) -> None:
        if ref in grant(self.references, SMALL).granted:
            self.given[ref] = size
        found: NamedObject | NamedProblem = absent(ref) if size is None else holding(ref, size)
        self.read_again(self.store.put(ref, found))

    @invariant()
    def states_are_what_the_decisions_say(self) -> None:
        grants = grant(self.references, SMALL)
        over = refuse_bytes(tuple(grants.granted), {ref: size or 0 for ref, size in self.given.items()}, SMALL)
        expected = {ref: NamedState(None, problem) for ref, problem in grants.refused.items()}
        for ref in grants.granted:
            if ref in over:
                expected[ref] = NamedState(None, over[ref])
            elif ref not in self.given:
                expected[ref] = NamedState()
            else:
                size = self.given[ref]
                expected[ref] = NamedState(None, absent(ref)) if size is None else NamedState(holding(ref, size))

        assert dict(self.store.states) == expected
        assert self.store.kept_bytes == sum(state.content.size for state in expected.values() if state.content is not None)
        assert self.store.kept_bytes <= SMALL.bytes

    @invariant()
    def changes_are_said(self) -> None:
        now = dict(self.store.states)

        assert {ref for ref in {*now, *self.before} if now.get(ref) != self.before.get(ref)} <= self.changed
        self.before, self.changed = now, set()


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=40, stateful_step_count=20)


@given(st.permutations([(ref, 4) for ref in TARGETS]))
def test_what_is_kept_in_the_end_does_not_depend_on_the_order_of_reads(reads: list[tuple[ObjectRef, int]]) -> None:
    store = NamedStore(lambda _: None, SMALL)
    store.want([reference(ref, str(number)) for number, ref in enumerate(TARGETS)])
    waiting = list(reads)
    while waiting:
        ref, size = waiting.pop(0)
        waiting += [(again, 4) for again in store.put(ref, holding(ref, size))]

    assert {ref for ref, state in store.states.items() if state.content is not None} == {
        TARGETS[0],
        TARGETS[1],
        TARGETS[4],
        TARGETS[5],
    }
