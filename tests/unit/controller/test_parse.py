"""Reading raw objects: whatever they look like, parsing answers with a record or with sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.resources import _PARSERS, Ingress, IngressClass, Malformed, Service, WsRoute, parse_object
from controller.resources.annotations.table import ANNOTATIONS
from controller.resources.reading.fields import is_literal_path, parse_timeout, shown
from controller.resources.reading.schema import wsroute_schema
from proxy.model.sockets import is_close_code


def names_of(schema: Mapping[str, Any]) -> Iterator[str]:
    """Every name of a field in a schema."""
    for name, part in schema.get("properties", {}).items():
        yield name
        yield from names_of(part)
    if "items" in schema:
        yield from names_of(schema["items"])


KINDS = list(_PARSERS)
WORDS = sorted({
    "metadata", "name", "namespace", "annotations", "labels", "creationTimestamp", "generation", "spec", "rules", "host",
    "http", "paths", "path", "pathType", "backend", "service", "port", "number", "resource", "defaultBackend", "tls", "secretName",
    "ingressClassName", "controller", "ports", "protocol", "appProtocol", "type", "externalName", "addressType", "endpoints",
    "addresses", "conditions", "ready", "serving", "terminating", "data", "stringData", "tls.crt", "tls.key",
    "kubernetes.io/service-name", *names_of(wsroute_schema()), *ANNOTATIONS,
    "nginx.ingress.kubernetes.io/auth-url",
})  # fmt: skip
TEXTS = [
    "", "a", "shop", "/", "/ws", "//", "kubernetes.io/tls", "FQDN", "ExternalName", "Prefix", "Exact", "Regex", "UDP", "10.0.0.1",
    "true", "30s", "1e9h", "*.a.test", "a.test", "0", "\n", "\0", "é", "x" * 300, "[", "(", "====", "MII=",
]  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(TEXTS), st.text(max_size=8), st.sampled_from([80, 0, -1])
)
VALUES = st.recursive(
    LEAVES,
    lambda children: st.one_of(
        st.lists(children, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=3)), children, max_size=5),
    ),
    max_leaves=25,
)


def judged(raw: Mapping[str, Any]) -> None:
    result = parse_object(raw)
    if isinstance(result, Malformed):
        assert result.problems
        for problem in result.problems:
            assert problem.message.startswith(f"{problem.field}: ")
            assert problem.message.isprintable()
            assert problem.message.endswith(".")


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=5))
def test_any_object_gives_a_record_or_sentences(kind: tuple[str, str], rest: dict[str, Any]) -> None:
    judged({**rest, "apiVersion": kind[0], "kind": kind[1]})


def valid() -> list[dict[str, Any]]:
    meta = {"name": "a", "namespace": "n"}
    path = {"path": "/x", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}
    return [
        {
            "metadata": {
                **meta,
                "annotations": {
                    "sluice.dev/timeouts-idle": "1h",
                    "sluice.dev/allow-cidrs": "10.0.0.0/8",
                    "sluice.dev/limits-connections": "5",
                },
            },
            "spec": {"rules": [{"host": "a.test", "http": {"paths": [path]}}], "tls": [{"hosts": ["a.test"], "secretName": "t"}]},
        },
        {"metadata": {"name": "sluice"}, "spec": {"controller": "sluice.dev/ingress-controller"}},
        {"metadata": meta, "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}},
        {
            "metadata": {**meta, "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 80}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
        },
        {"metadata": meta, "type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}},
        {
            "metadata": meta,
            "spec": {
                "hosts": ["a.test"],
                "tls": {"secretName": "t"},
                "rules": [
                    {
                        "name": "r",
                        "path": {"type": "Prefix", "value": "/ws"},
                        "match": {"subprotocols": ["a"], "headers": [{"name": "x", "value": "y"}]},
                        "websocket": {"backends": [{"service": "s", "port": 80, "weight": 1}]},
                        "timeouts": {"idle": "1h"},
                        "origins": ["https://a.test"],
                        "allowCIDRs": ["10.0.0.0/8"],
                        "limits": {"connections": 5, "handshakes": {"rate": 1, "per": "1s", "burst": 2}},
                    }
                ],
            },
        },
    ]


def places(value: object, here: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    found = [here] if here else []
    if isinstance(value, dict):
        found += [place for key, part in value.items() for place in places(part, (*here, key))]
    elif isinstance(value, list):
        found += [place for number, part in enumerate(value) for place in places(part, (*here, number))]
    return found


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.integers(0, 5), st.data())
def test_valid_object_with_any_one_value_changed_gives_a_record_or_sentences(which: int, data: st.DataObject) -> None:
    raw = valid()[which]
    *way, last = data.draw(st.sampled_from(places(raw)))
    holder: Any = raw
    for step in way:
        holder = holder[step]
    holder[last] = data.draw(VALUES)

    judged({**raw, "apiVersion": KINDS[which][0], "kind": KINDS[which][1]})


def problems_of(kind: int, **changes: object) -> list[str]:
    result = parse_object({**valid()[kind], **changes, "apiVersion": KINDS[kind][0], "kind": KINDS[kind][1]})
    assert isinstance(result, Malformed)
    return [problem.message for problem in result.problems]


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a.", "a/b", "a\nb", "x" * 254, 5, None])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 5])
def test_name_that_is_none_in_kubernetes_is_refused(kind: int, name: object) -> None:
    metadata = {**valid()[kind]["metadata"], "name": name}

    assert problems_of(kind, metadata=metadata) == [
        f"metadata.name: {shown(name)} was found, a lower-case DNS name would be accepted."
    ]


def test_namespace_that_is_none_in_kubernetes_is_refused() -> None:
    assert problems_of(2, metadata={"name": "a", "namespace": "a.b"}) == [
        'metadata.namespace: "a.b" was found, a lower-case DNS label would be accepted.'
    ]


def test_names_with_dots_and_digits_are_fine() -> None:
    raw = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "1.a-b.2"},
        "spec": {"controller": "x"},
    }

    assert isinstance(parse_object(raw), IngressClass)


@pytest.mark.parametrize(
    "path",
    [
        *("", "x", "//", "/a//b", "/a/./b", "/a/..", "/.", "/a b", "/a?b", "/a#b", "/a%2Fb", "/a%2fb", "/%zz", "/%4", "/%"),
        *("/a\\b", "/\n", "/é", "/%00"),
    ],
)  # fmt: skip
def test_odd_path_is_none(path: str) -> None:
    assert not is_literal_path(path)


@pytest.mark.parametrize(
    "path", ["/", "/a", "/a/", "/.well-known/acme-challenge/x", "/a.b/..c", "/a%20b", "/a;v=1", "/~u/*", "/a/...", "/@x:y"]
)
def test_ordinary_path_is_one(path: str) -> None:
    assert is_literal_path(path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("1s", 1.0), ("1h30m", 5400.0), ("87600h", 315360000.0)),
        *(("0s", None), ("87601h", None), ("9" * 30 + "h", None), ("-1s", None), ("1", None)),
    ],
)  # fmt: skip
def test_timeouts_are_above_zero_and_at_most_ten_years(text: str, seconds: float | None) -> None:
    assert parse_timeout(text) == seconds


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1012, 1014, 3000, 4999])
def test_close_codes_that_a_frame_may_carry_are_accepted(code: int) -> None:
    assert is_close_code(code)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_close_codes_that_no_frame_may_carry_are_refused(code: int) -> None:
    assert not is_close_code(code)


def test_reason_that_is_no_text_is_refused() -> None:
    rule = {**valid()[5]["spec"]["rules"][0], "close": {"drain": {"reason": "\ud800"}}}

    assert problems_of(5, spec={**valid()[5]["spec"], "rules": [rule]})


def test_protocol_of_a_service_port_is_read() -> None:
    spec = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 80}]}
    service = parse_object({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec})

    assert isinstance(service, Service)
    assert [port.protocol for port in service.ports] == ["UDP", "TCP"]


def test_whole_numbers_written_as_floats_are_whole_numbers() -> None:
    rule = {"http": {"backends": [{"service": "s", "port": 80.0, "weight": 2.0}]}}
    raw = {**valid()[5], "apiVersion": KINDS[5][0], "kind": KINDS[5][1], "spec": {"rules": [rule]}}
    route = parse_object(raw)

    assert isinstance(route, WsRoute)
    assert route.rules[0].http is not None
    backend = route.rules[0].http[0]
    assert (type(backend.port), type(backend.weight)) == (int, int)


def test_unknown_fields_of_several_types_are_named() -> None:
    assert problems_of(5, spec={**valid()[5]["spec"], 1: "a", "b": "c", None: "d"})


@pytest.mark.parametrize("value", [5, None, True, 1.5])
def test_guard_whose_value_is_no_string_counts_all_the_same(value: object) -> None:
    raw = valid()[0]
    raw["metadata"]["annotations"] = {"sluice.dev/allow-cidrs": value}
    ingress = parse_object({**raw, "apiVersion": KINDS[0][0], "kind": KINDS[0][1]})

    assert isinstance(ingress, Ingress)
    assert ingress.features.fault


@pytest.mark.parametrize(
    ("found", "kind", "accepted"),
    [
        ("sluice.dev/v1", "WsRoute", "sluice.dev/v1alpha1"),
        ("sluice.io/v1alpha1", "WsRoute", "sluice.dev/v1alpha1"),
        ("networking.k8s.io/v1beta1", "Ingress", "networking.k8s.io/v1"),
        ("extensions/v1beta1", "Ingress", "networking.k8s.io/v1"),
        ("discovery.k8s.io/v1beta1", "EndpointSlice", "discovery.k8s.io/v1"),
        (None, "Service", "v1"),
        (["v1"], "Secret", "v1"),
    ],
)
def test_object_of_a_version_that_is_not_read_is_refused_by_name(found: object, kind: str, accepted: str) -> None:
    result = parse_object({"apiVersion": found, "kind": kind, "metadata": {"name": "a"}, "spec": {"ingressClassName": "sluice"}})

    assert isinstance(result, Malformed)
    assert (result.ref.kind, result.ref.name, result.class_name) == (kind, "a", "sluice")
    (problem,) = result.problems
    assert problem.message == f"apiVersion: {shown(found)} was found, {accepted} would be accepted."


@pytest.mark.parametrize(
    ("version", "kind"),
    [("serving.knative.dev/v1", "Service"), ("config.openshift.io/v1", "Ingress"), ("apps/v1", "Deployment"), (None, "Deployment")],
)
def test_object_of_another_group_is_nobodys_here(version: object, kind: str) -> None:
    assert parse_object({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}) is None
