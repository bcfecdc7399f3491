"""Fields that name Secrets and ConfigMaps, what is kept of the objects, and what is said at the fields."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.resources.reading.fields import Reader
from controller.resources.reading.named_objects import (
    MOST_BYTES,
    MOST_KEYS,
    NamedKind,
    NamedObject,
    NamedProblem,
    NamedState,
    Reference,
    absent,
    forbidden,
    parse_named_object,
    read_reference,
    resolve,
)
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason

OWNER = ObjectRef("WsRoute", "shop", "chat")
PLACE = "spec.rules[0].auth.basic.secretName"
SECRET = ObjectRef("Secret", "shop", "users")
MAP = ObjectRef("ConfigMap", "shop", "headers")


def coded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def read(written: str, kind: NamedKind = "Secret") -> tuple[Reference | None, list[Problem]]:
    reader = Reader(OWNER)
    return read_reference(reader, PLACE, written, kind, created="2026-01-01T00:00:00Z", keys=("b", "a", "b")), reader.problems


@pytest.mark.parametrize("written", ["users", "shop/users"])
def test_name_is_of_the_owners_namespace_whether_it_says_so_or_not(written: str) -> None:
    assert read(written) == (Reference(OWNER, "2026-01-01T00:00:00Z", PLACE, "Secret", "users", ("a", "b")), [])


@pytest.mark.parametrize(
    ("written", "kind", "reason", "sentence"),
    [
        (
            "billing/users",
            "Secret",
            Reason.REF_NOT_PERMITTED,
            '"billing/users" was found, which is of another namespace; a Secret of namespace "shop" would be accepted.',
        ),
        (
            "billing/users",
            "ConfigMap",
            Reason.REF_NOT_PERMITTED,
            '"billing/users" was found, which is of another namespace; a ConfigMap of namespace "shop" would be accepted.',
        ),
        *(
            (written, "Secret", Reason.INVALID_SPEC, f'"{written}" was found, the name of a Secret would be accepted.')
            for written in ("", "Users", "shop/", "/users", "shop/../users", "a,metadata.name!=b")
        ),
    ],
)
def test_name_of_another_namespace_or_none_at_all_is_refused_at_the_field(
    written: str, kind: NamedKind, reason: Reason, sentence: str
) -> None:
    assert read(written, kind) == (None, [Problem(OWNER, reason, PLACE, f"{PLACE}: {sentence}")])


@given(st.text(max_size=300))
def test_what_is_asked_for_can_only_be_one_name_of_the_own_namespace(written: str) -> None:
    found, problems = read(written)

    assert (found is None) == bool(problems)
    if found is not None:
        assert found.target.namespace == OWNER.namespace
        assert set(found.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def values(found: NamedObject | NamedProblem) -> dict[str, bytes]:
    assert isinstance(found, NamedObject)
    return {name: value.data for name, value in found.data.items()}


@pytest.mark.parametrize(
    ("ref", "raw", "keys", "kept"),
    [
        (SECRET, {"data": {"auth": coded(b"a:b"), "other": coded(b"x")}}, None, {"auth": b"a:b", "other": b"x"}),
        (SECRET, {"data": {"auth": coded(b"a:b"), "other": "no-base64"}}, {"auth"}, {"auth": b"a:b"}),
        (SECRET, {"data": {"auth": coded(b"old")}, "stringData": {"auth": "new"}}, None, {"auth": b"new"}),
        (SECRET, {"data": {"auth": coded(b"a:b")}}, {"absent"}, {}),
        (SECRET, {"data": {"empty": None}}, None, {"empty": b""}),
        (SECRET, {"data": {"wrapped": "YTpi\n  Yw==\n"}}, None, {"wrapped": b"a:bc"}),
        (MAP, {"data": {"X-A": "ä"}, "binaryData": {"b": coded(b"\xff")}}, None, {"X-A": "ä".encode(), "b": b"\xff"}),
        (SECRET, {}, None, {}),
        (MAP, {"data": []}, None, {}),
    ],
)
def test_values_that_are_needed_are_kept_and_no_others(
    ref: ObjectRef, raw: dict[str, Any], keys: set[str] | None, kept: dict[str, bytes]
) -> None:
    assert values(parse_named_object(ref, raw, keys)) == kept


@pytest.mark.parametrize(
    ("ref", "raw", "problem"),
    [
        (SECRET, {"data": {"auth": "no-base64"}}, "cannot be used: data[auth] cannot be read, base64 would be accepted."),
        (MAP, {"data": {"n": 1}}, "cannot be used: data[n] cannot be read, text would be accepted."),
        (SECRET, {"stringData": {"a": "x" * (MOST_BYTES + 1)}}, "holds 1048577 bytes; at most 1048576 would be accepted."),
        (MAP, {"data": dict.fromkeys(map(str, range(MOST_KEYS + 1)), "")}, "holds 1001 keys; at most 1000 would be accepted."),
    ],
)
def test_object_that_cannot_be_kept_says_why(ref: ObjectRef, raw: dict[str, Any], problem: str) -> None:
    found = parse_named_object(ref, raw, None)

    assert isinstance(found, NamedProblem)
    assert found.text == problem
    assert found.reason is (Reason.SECRET_INVALID if ref is SECRET else Reason.INVALID_SPEC)


def test_object_of_the_most_bytes_is_kept() -> None:
    found = parse_named_object(SECRET, {"data": {"a": coded(bytes(MOST_BYTES))}}, None)

    assert isinstance(found, NamedObject)
    assert found.size == MOST_BYTES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from([SECRET, MAP]),
    st.dictionaries(st.sampled_from(["data", "stringData", "binaryData", "type", "metadata"]), JSON),
    st.none() | st.sets(st.text(max_size=3), max_size=2),
)
def test_objects_that_look_like_nothing_known_are_read_or_refused(
    ref: ObjectRef, raw: dict[str, Any], keys: set[str] | None
) -> None:
    found = parse_named_object(ref, raw, keys)

    if isinstance(found, NamedObject):
        assert keys is None or set(found.data) <= keys


def test_no_value_is_ever_shown() -> None:
    for ref, raw in ((SECRET, {"type": "Opaque", "data": {"auth": coded(b"hidden")}}), (MAP, {"data": {"auth": "hidden"}})):
        found = parse_named_object(ref, raw, None)
        assert isinstance(found, NamedObject)
        shown = f"{found} {found!r} {NamedState(found)!r} {dict(found.data)} {found.data}"

        assert "hidden" not in shown
        assert coded(b"hidden") not in shown
        assert "<redacted 6 bytes>" in shown


def test_what_is_wrong_with_an_object_is_said_at_the_field_that_names_it() -> None:
    reference, _ = read("users")
    assert reference is not None
    content = NamedObject(SECRET, "Opaque")
    refusal = forbidden(SECRET, '403 secrets "users" is\nforbidden')

    _, gone = resolve(reference, {SECRET: NamedState(None, absent(SECRET))})
    old, withdrawn = resolve(reference, {SECRET: NamedState(content, refusal)})

    assert gone == Problem(
        OWNER,
        Reason.SECRET_NOT_FOUND,
        PLACE,
        f'{PLACE}: Secret "shop/users" was not found; a Secret of this namespace would be accepted.',
    )
    assert (old, withdrawn) == (
        content,
        Problem(
            OWNER,
            Reason.REF_NOT_PERMITTED,
            PLACE,
            f'{PLACE}: Secret "shop/users" may not be read, the API server says "403 secrets "users" is\\nforbidden"; '
            "the right to get, list and watch Secrets in this namespace would be accepted.",
        ),
    )
    assert resolve(reference, {SECRET: NamedState(content)}) == (content, None)
    assert resolve(reference, {}) == (None, None)
