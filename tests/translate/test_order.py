"""The result depends on what there is, never on how it came about: any order of events, any detour, any state."""

from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.resources import parse_object
from controller.resources.reading.object_ref import ObjectRef
from controller.sources.snapshot import Store
from controller.translate import IncrementalState, TranslateSettings, Translation, translate

NAMESPACES = st.sampled_from(["shop", "other"])
NAMES = st.sampled_from(["a", "b", "c"])
HOSTS = st.sampled_from(["x.example.com", "y.example.com", "*.example.com"])
CREATED = st.sampled_from(["", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"])
CLASSES = st.sampled_from(["sluice", "other-class", None])
PATHS = st.sampled_from(["/", "/ws", "/ws/"])
INGRESS_PATHS = st.one_of(PATHS, st.sampled_from(["/ws(/|$)(.*)", "/(?!x)", "/x?"]))
EXPRESSIONS = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "nginx.ingress.kubernetes.io/use-regex": st.sampled_from(["true", "false", "x"]),
            "nginx.ingress.kubernetes.io/rewrite-target": st.sampled_from(["/", "/ws", "/$2", "/x?", "https://z.example.com/$1"]),
            "nginx.ingress.kubernetes.io/whitelist-source-range": st.just("10.0.0.0/8"),
        },
    ),
)
SERVICES = st.sampled_from(["s", "t"])


@st.composite
def metadata(draw: st.DrawFn) -> dict[str, Any]:
    return {"namespace": draw(NAMESPACES), "name": draw(NAMES), "creationTimestamp": draw(CREATED)}


@st.composite
def ws_routes(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {"hosts": draw(st.lists(HOSTS, max_size=2)), "rules": []}
    if (name := draw(CLASSES)) is not None:
        spec["ingressClassName"] = name
    if draw(st.booleans()):
        spec["tls"] = {"secretName": draw(st.sampled_from(["one", "two"]))}
    # Without any rule the object cannot be read, and its last good version stays.
    for _ in range(draw(st.integers(0, 2))):
        kinds = draw(st.sampled_from([("websocket",), ("http",), ("websocket", "http")]))
        backends = {"backends": [{"service": draw(SERVICES), "port": draw(st.sampled_from([80, 81]))}]}
        spec["rules"].append({"path": {"value": draw(PATHS)}, **dict.fromkeys(kinds, backends)})
    return {"apiVersion": "sluice.dev/v1alpha1", "kind": "WsRoute", "metadata": draw(metadata()), "spec": spec}


@st.composite
def ingresses(draw: st.DrawFn) -> dict[str, Any]:
    backend = {"service": {"name": draw(SERVICES), "port": {"number": 80}}}
    paths = [{"path": path, "pathType": "Prefix", "backend": backend} for path in draw(st.lists(INGRESS_PATHS, max_size=2))]
    rules = [{"host": host, "http": {"paths": paths}} for host in draw(st.lists(st.one_of(HOSTS, st.just("")), max_size=2))]
    spec: dict[str, Any] = {"rules": rules, "tls": []}
    if (name := draw(CLASSES)) is not None:
        spec["ingressClassName"] = name
    if draw(st.booleans()):
        spec["defaultBackend"] = backend
    for hosts in draw(st.lists(st.lists(HOSTS, max_size=2), max_size=2)):
        spec["tls"].append({"hosts": hosts, "secretName": draw(st.sampled_from(["one", "two", ""]))})
    described = {**draw(metadata()), "annotations": draw(EXPRESSIONS)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": described, "spec": spec}


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    named = {"namespace": draw(NAMESPACES), "name": draw(SERVICES)}
    ports = [{"port": 80, "name": draw(st.sampled_from(["", "http"]))}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": {"ports": ports}}


@st.composite
def slices(draw: st.DrawFn) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": draw(SERVICES)}
    addresses = draw(st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "127.0.0.1"]), min_size=1, max_size=2))
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"namespace": draw(NAMESPACES), "name": draw(NAMES), "labels": labels},
        "ports": [{"name": draw(st.sampled_from(["", "http"])), "port": draw(st.sampled_from([8080, 8080, 0, None]))}],
        "endpoints": [{"addresses": addresses, "conditions": {"ready": draw(st.booleans())}}],
    }


@st.composite
def secrets(draw: st.DrawFn) -> dict[str, Any]:
    named = {"namespace": draw(NAMESPACES), "name": draw(st.sampled_from(["one", "two"]))}
    data = draw(st.sampled_from([*PAIRS, {}]))
    return {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": named, "stringData": data}


@st.composite
def classes(draw: st.DrawFn) -> dict[str, Any]:
    controller = draw(st.sampled_from(["sluice.dev/ingress-controller", "example.com/other"]))
    annotations = {"ingressclass.kubernetes.io/is-default-class": draw(st.sampled_from(["true", "false"]))}
    named = {"name": draw(st.sampled_from(["sluice", "other-class"])), "annotations": annotations}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": named, "spec": {"controller": controller}}


def _pair(*names: str) -> dict[str, str]:
    certificate = trustme.CA().issue_cert(*names)
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    return {"tls.crt": chain.decode(), "tls.key": certificate.private_key_pem.bytes().decode()}


PAIRS = (_pair("x.example.com"), _pair("*.example.com", "example.com"))
OBJECTS = st.one_of(ws_routes(), ws_routes(), ingresses(), ingresses(), services(), slices(), secrets(), classes())
EVENTS = st.lists(st.tuples(st.sampled_from(["apply", "apply", "apply", "remove"]), OBJECTS), max_size=25)
SETTINGS = st.builds(
    TranslateSettings,
    default_certificate=st.sampled_from(["", "shop/one"]),
    host_ownership=st.booleans(),
    allow_loopback=st.booleans(),
    implicit_class=st.booleans(),
)


def happen(store: Store, event: str, raw: dict[str, Any]) -> None:
    record = parse_object(raw)
    assert record is not None
    if event == "apply":
        store.apply(record)
    else:
        store.remove(record.ref)


def outcome(translation: Translation) -> tuple[object, object, object, object]:
    return translation.config, dict(translation.verdicts), translation.problems, translation.notes


@pytest.mark.slow
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(events=EVENTS, how=SETTINGS)
def test_translation_after_every_event_is_that_of_a_new_start(
    events: list[tuple[str, dict[str, Any]]], how: TranslateSettings
) -> None:
    store, state = Store(), IncrementalState()
    unready: dict[ObjectRef, object] = {}
    for event, raw in events:
        happen(store, event, raw)
        snapshot = store.snapshot()

        said = dict(state.verdicts)
        anew = IncrementalState()
        assert outcome(translate(snapshot, how, state)) == outcome(translate(snapshot, how, anew))
        unready.update(state.changed_readiness)
        assert {ref: found for ref, found in unready.items() if found} == {
            ref: found for ref, found in anew.changed_readiness.items() if found
        }
        differ = {ref for ref in {*said, *state.verdicts} if said.get(ref) != state.verdicts.get(ref)}
        assert differ <= set(state.changed_verdicts)


@pytest.mark.slow
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(raws=st.lists(OBJECTS, max_size=15), how=SETTINGS, data=st.data())
def test_translation_in_any_order_of_events_is_the_same(
    raws: list[dict[str, Any]], how: TranslateSettings, data: st.DataObject
) -> None:
    # One version of each object: which version of an object is the last one does depend on order.
    chosen: dict[ObjectRef, dict[str, Any]] = {}
    for raw in raws:
        record = parse_object(raw)
        assert record is not None
        chosen.setdefault(record.ref, raw)
    found = []
    for order in (list(chosen.values()), data.draw(st.permutations(list(chosen.values())))):
        store, state = Store(), IncrementalState()
        for raw in order:
            happen(store, "apply", raw)
            translation = translate(store.snapshot(), how, state)
        found.append(outcome(translation) if order else None)

    assert found[0] == found[1]
