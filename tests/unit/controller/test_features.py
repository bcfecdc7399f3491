"""The tables of features: each is read from somewhere and becomes a policy, and an annotation sets what it says it sets."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, get_args, get_type_hints

import pytest

from controller.resources.annotations.annotation import NGINX, OURS, Annotation, Guard, Refused, Status
from controller.resources.annotations.read import UNANNOTATED, read_features
from controller.resources.annotations.table import ANNOTATIONS, FAMILIES, FAMILY_OF
from controller.resources.features import NO_FEATURES, PARSERS, TLS_PARSERS, Features
from controller.resources.reading.fields import Reader
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.schema import wsroute_schema
from controller.translate.policies import POLICIES, depends_on_path, policies_of
from controller.translate.route_context import RouteContext
from proxy.model.config import Path
from proxy.model.policy import GUARDS, SOCKET_ADMISSION

REF = ObjectRef("Ingress", "shop", "web")
FIELDS = {field.name for field in fields(Features)}
NO_POLICIES = {"canary", "fault", "expressions", "backend_https", "service_upstream"}
"""What decides about a whole object, route or upstream; and about paths, with other objects: `translate/expressions.py`."""
SAMPLES = (
    *("true", "false", "2s", "7h", "64Ki", "3", "7/s", "1.7", "1001", "/app", "name", "10.0.0.0/8", "https://app.example.com"),
    *("Keep", "Now", "Backend", "EWMA", "Strict", "HTTPS"),
    *("cookie", "persistent", "$remote_addr", "ewma", "round_robin"),
)


def test_every_feature_is_read_and_becomes_a_policy() -> None:
    built = {family.feature for family in FAMILIES if family.build is not None}

    assert PARSERS.keys() | TLS_PARSERS.keys() | built == FIELDS - {"fault"}
    assert POLICIES.keys() == FIELDS - NO_POLICIES


def test_parsers_return_what_their_feature_is() -> None:
    hints = get_type_hints(Features)

    for name, parse in {**PARSERS, **TLS_PARSERS}.items():
        assert get_type_hints(parse)["return"] == hints[name], name


def test_nothing_asked_for_is_no_policy() -> None:
    context = RouteContext(REF, "", Path("prefix", "/"))

    assert (
        policies_of(NO_FEATURES, context) == policies_of(replace(NO_FEATURES), context) == policies_of(UNANNOTATED, context) == ()
    )


def read(annotations: dict[str, str]) -> tuple[Features, list[str]]:
    reader = Reader(REF)
    return read_features(reader, annotations), [problem.message for problem in reader.problems]


def readable(annotation: Annotation) -> Iterator[str]:
    assert annotation.parse is not None
    return (text for text in SAMPLES if not isinstance(annotation.parse(text), Refused))


def needed_beside(annotation: Annotation) -> dict[str, str]:
    """Annotations without which this one asks for nothing."""
    beside = dict[str, str]()
    if annotation.needs:
        beside[annotation.needs] = next(readable(ANNOTATIONS[annotation.needs]))
    if "hashOn" in annotation.rule:
        beside[OURS + "load-balancing-policy"] = "Hash"
    if annotation.attribute in ("multiplier", "exempt"):
        beside[NGINX + "limit-rps"] = "7"
    return beside


UNDERSTOOD = [annotation for annotation in ANNOTATIONS.values() if annotation.parse is not None]


@pytest.mark.parametrize("annotation", UNDERSTOOD, ids=lambda annotation: annotation.key)
def test_annotation_that_is_understood_sets_its_feature_and_no_other(annotation: Annotation) -> None:
    feature = FAMILY_OF[annotation.key].feature
    beside = needed_beside(annotation)
    without = (
        getattr(UNANNOTATED, feature) if "hashOn" in annotation.rule or annotation.needs else getattr(read(beside)[0], feature)
    )
    changed: list[str] = []
    for text in readable(annotation):
        features, _ = read({**beside, annotation.key: text})
        others = {name for name in FIELDS - {feature, "fault"} if getattr(features, name) != getattr(UNANNOTATED, name)}
        assert others == set()
        changed += [text] if getattr(features, feature) != without else []
        made = [policies_of(features, RouteContext(REF, "", path)) for path in (Path("prefix", "/a"), Path("exact", "/b"))]
        assert (made[0] != made[1]) is depends_on_path(features)

    assert changed


@pytest.mark.parametrize("annotation", UNDERSTOOD, ids=lambda annotation: annotation.key)
def test_policies_of_annotations_that_guard_are_the_guards_of_the_model(annotation: Annotation) -> None:
    """A path that cannot be read closes what it may match by the model's table: none of them may be missing there."""
    context, beside = RouteContext(REF, "", Path("prefix", "/a")), needed_beside(annotation)
    texts = list(readable(annotation))
    made = {type(policy) for text in texts for policy in policies_of(read({**beside, annotation.key: text})[0], context)}

    assert made.issubset(GUARDS) if annotation.guard is not Guard.NONE else made.isdisjoint(GUARDS)
    assert made or annotation.guard is Guard.NONE


def test_who_may_open_a_socket_is_decided_by_guards() -> None:
    assert set(SOCKET_ADMISSION) < set(GUARDS)


@pytest.mark.parametrize("annotation", UNDERSTOOD, ids=lambda annotation: annotation.key)
def test_unreadable_value_of_a_guard_closes_the_routes_and_any_other_is_its_default(annotation: Annotation) -> None:
    features, problems = read({annotation.key: "\x00?"})

    if annotation.rule and annotation.rule[-1] in ("reason", "query"):
        return  # any text will do
    assert len(problems) == 1
    assert problems[0].startswith(f"metadata.annotations[{annotation.key}]: ")
    assert features.fault == ("" if annotation.guard is Guard.NONE else f"{annotation.key} cannot be read")
    assert replace(features, fault="") == UNANNOTATED


def test_annotations_of_ours_are_fields_of_a_rule() -> None:
    for key, annotation in ANNOTATIONS.items():
        if annotation.rule:
            schema: dict[str, Any] = wsroute_schema()["properties"]["rules"]["items"]
            for name in annotation.rule:
                schema = schema["properties"][name]
        elif key.startswith(OURS):
            assert FAMILY_OF[key].build is not None


def test_rows_of_the_table_say_what_their_status_needs() -> None:
    keys = [annotation.key for family in FAMILIES for annotation in family.annotations]

    assert len(keys) == len(set(keys))
    for key, annotation in ANNOTATIONS.items():
        assert annotation.says, key
        assert bool(annotation.values) is annotation.understood, key
        assert annotation.understood or "{name}" in annotation.says, key
        assert annotation.needs in {"", *ANNOTATIONS}, key
        assert annotation.yields_to in {"", *ANNOTATIONS}, key
        if annotation.status in (Status.HARMLESS, Status.DIFFERENT):
            assert annotation.guard is Guard.NONE, key
    assert {family.feature for family in FAMILIES} - {""} <= FIELDS
    assert get_args(get_type_hints(Annotation)["applies_to"]) == ("Ingress", "IngressClass")


def test_first_of_several_keys_that_set_the_same_counts() -> None:
    first, second = NGINX + "allowlist-source-range", NGINX + "whitelist-source-range"
    features, problems = read({second: "10.0.0.0/8", first: "192.0.2.0/24", OURS + "allow-cidrs": "203.0.113.0/24"})
    assert (features.access and features.access.allow, problems) == (("203.0.113.0/24",), [])

    features, problems = read({second: "10.0.0.0/8", first: "192.0.2.0/24"})
    assert (features.access and features.access.allow, problems) == (("192.0.2.0/24",), [])


def test_part_of_a_feature_that_is_wrong_leaves_it_out_and_nothing_else() -> None:
    features, problems = read({OURS + "load-balancing-policy": "Hash", OURS + "affinity-engine-io": "true"})

    assert features.load_balancing is None
    assert features.affinity is not None
    assert [problem.partition(" needs")[0] for problem in problems] == [
        "metadata.annotations[sluice.dev/load-balancing-hash-on]: nothing was found, policy Hash"
    ]
