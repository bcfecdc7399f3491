"""What the state is for: unchanged values stay the very same, a change costs what changed, a failure leaves nothing half done."""

import time
from typing import Any

import pytest
import trustme

from controller.resources import parse_object
from controller.resources.reading.object_ref import ObjectRef
from controller.sources.snapshot import Store
from controller.translate import IncrementalState, TranslateSettings, Translation, stages, translate
from proxy.model.policy import HttpsRedirect

SETTINGS = TranslateSettings(implicit_class=True)


def ws_route(name: str, path: str = "/", *, service: str = "chat", host: str = "") -> dict[str, Any]:
    rule = {"path": {"value": path}, "websocket": {"backends": [{"service": service, "port": 80}]}}
    spec = {"hosts": [host or f"{name}.example.com"], "rules": [rule]}
    return {"apiVersion": "sluice.dev/v1alpha1", "kind": "WsRoute", "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


def service(name: str, **port: Any) -> dict[str, Any]:
    ports = [{"port": 80, **port}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": {"ports": ports}}


def endpoint_slice(name: str, address: str) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": f"{name}-1", "namespace": "shop", "labels": labels},
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": [address]}],
    }


def store_of(*raws: dict[str, Any]) -> Store:
    store = Store()
    put(store, *raws)
    return store


def put(store: Store, *raws: dict[str, Any]) -> None:
    for raw in raws:
        record = parse_object(raw)
        assert record is not None
        store.apply(record)


def count_translated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the names of objects that are translated from now on."""
    names: list[str] = []
    real = stages.translate_object

    def counted(item: Any, *rest: Any) -> Any:
        names.append(item.ref.name)
        return real(item, *rest)

    monkeypatch.setattr(stages, "translate_object", counted)
    return names


def test_one_changed_object_is_the_only_one_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    store, state = store_of(service("chat"), *(ws_route(f"r{number}") for number in range(20))), IncrementalState()
    before = translate(store.snapshot(), SETTINGS, state).config
    names = count_translated(monkeypatch)
    put(store, ws_route("r7", "/new"))

    after = translate(store.snapshot(), SETTINGS, state).config

    changed = {key for key, route in after.routes.items() if route is not before.routes[key]}
    assert (names, changed, after.upstreams is before.upstreams) == (["r7"], {"wsroute/shop/r7/0"}, True)


def test_changed_service_touches_its_users_alone_and_keeps_equal_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    store, state = store_of(service("chat"), service("web"), ws_route("a"), ws_route("b", service="web")), IncrementalState()
    before = translate(store.snapshot(), SETTINGS, state).config
    names = count_translated(monkeypatch)
    put(store, service("web", appProtocol="https"))

    after = translate(store.snapshot(), SETTINGS, state).config

    assert (names, after.routes is before.routes) == (["b"], True)
    assert (after.upstreams["shop/chat:80"] is before.upstreams["shop/chat:80"], after.upstreams["shop/web:80"].tls) == (True, True)


def test_changed_endpoints_translate_no_object(monkeypatch: pytest.MonkeyPatch) -> None:
    store, state = store_of(service("chat"), endpoint_slice("chat", "10.0.0.1"), ws_route("a")), IncrementalState()
    before = translate(store.snapshot(), SETTINGS, state).config
    names = count_translated(monkeypatch)
    put(store, endpoint_slice("chat", "10.0.0.2"))

    after = translate(store.snapshot(), SETTINGS, state).config

    assert (names, after.routes is before.routes) == ([], True)
    assert [endpoint.address for endpoint in after.upstreams["shop/chat:80"].endpoints] == ["10.0.0.2"]


def test_object_that_concerns_nothing_leaves_the_configuration_itself() -> None:
    store, state = store_of(service("chat"), ws_route("a")), IncrementalState()
    before = translate(store.snapshot(), SETTINGS, state)
    put(store, service("unused"))

    after = translate(store.snapshot(), SETTINGS, state)

    assert (after.config is before.config, after.verdicts is before.verdicts, after.problems is before.problems) == (True,) * 3


def test_winner_that_goes_frees_its_place_for_the_loser() -> None:
    store, state = (
        store_of(service("chat"), ws_route("a", host="x.example.com"), ws_route("b", host="x.example.com")),
        IncrementalState(),
    )
    first = translate(store.snapshot(), SETTINGS, state)
    loser = parse_object(ws_route("b"))
    winner = parse_object(ws_route("a"))
    assert loser is not None
    assert winner is not None
    store.remove(winner.ref)

    second = translate(store.snapshot(), SETTINGS, state)

    reasons = [translation.verdicts[loser.ref].accepted.reason for translation in (first, second)]
    assert (reasons, second.problems) == (["RouteConflict", "Accepted"], ())


def test_failure_in_the_middle_makes_the_next_translation_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    store, state = store_of(service("chat"), ws_route("a")), IncrementalState()
    translate(store.snapshot(), SETTINGS, state)
    put(store, ws_route("a", "/new"))
    with monkeypatch.context() as patched:
        # By then the routes are done: a state that went on from here would think them published.
        patched.setattr(stages.Upstreams, "resolve", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            translate(store.snapshot(), SETTINGS, state)

    again = translate(store.snapshot(), SETTINGS, state)

    assert again.config == translate(store.snapshot(), SETTINGS).config


def test_secret_that_comes_and_goes_gives_and_takes_the_host_its_certificate() -> None:
    raw = ws_route("a")
    raw["spec"]["tls"] = {"secretName": "one"}
    store, state = store_of(service("chat"), raw), IncrementalState()
    certificate = trustme.CA().issue_cert("a.example.com")
    data = {"tls.crt": certificate.cert_chain_pems[0].bytes().decode(), "tls.key": certificate.private_key_pem.bytes().decode()}
    named = {"name": "one", "namespace": "shop"}
    secret = parse_object(
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": named, "stringData": data}
    )
    assert secret is not None
    found = []
    for change in (lambda: None, lambda: store.apply(secret), lambda: store.remove(secret.ref)):
        change()
        translation = translate(store.snapshot(), SETTINGS, state)
        found.append((translation.config.tls_hosts, list(translation.config.certificates), len(translation.problems)))

    assert found == [({}, [], 1), ({"a.example.com": "shop/one"}, ["shop/one"], 0), ({}, [], 1)]


def test_secret_of_an_entry_without_hosts_gives_and_takes_the_hosts_that_its_certificate_is_for() -> None:
    """While there is none, all hosts of the rules are redirected; then those of the certificate."""
    backend = {"service": {"name": "chat", "port": {"number": 80}}}
    paths = {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}
    hosts = ("a.example.com", "b.example.org", "")
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "i", "namespace": "shop"},
        "spec": {"tls": [{"secretName": "one"}], "rules": [{"host": host, "http": paths} for host in hosts]},
    }
    store, state = store_of(service("chat"), ingress), IncrementalState()

    def redirected() -> tuple[list[str], list[tuple[str, ...]]]:
        config = translate(store.snapshot(), SETTINGS, state).config
        routes = [config.routes[f"ingress/shop/i/{number}"] for number in range(3)]
        policies = [[one.hosts for one in route.policies if isinstance(one, HttpsRedirect)] for route in routes]
        return sorted(config.tls_hosts), [found[0] if found else ("none",) for found in policies]

    found = [redirected()]
    for names in (("*.example.com",), ("b.example.org", "c.example.org")):
        certificate = trustme.CA().issue_cert(*names)
        data = {"tls.crt": certificate.cert_chain_pems[0].bytes().decode(), "tls.key": certificate.private_key_pem.bytes().decode()}
        named = {"name": "one", "namespace": "shop"}
        put(store, {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": named, "stringData": data})
        found.append(redirected())
    store.remove(ObjectRef("Secret", "shop", "one"))
    found.append(redirected())

    unknown: tuple[list[str], list[tuple[str, ...]]] = ([], [(), (), ("none",)])
    assert found == [
        unknown,
        (["*.example.com", "a.example.com"], [(), ("none",), ("*.example.com",)]),
        (["b.example.org", "c.example.org"], [("none",), (), ("c.example.org",)]),
        unknown,
    ]


def test_other_settings_give_what_a_new_memo_gives() -> None:
    store, state = store_of(service("chat"), endpoint_slice("chat", "127.0.0.1"), ws_route("a")), IncrementalState()
    translate(store.snapshot(), SETTINGS, state)
    other = TranslateSettings(implicit_class=True, allow_loopback=True)

    found = translate(store.snapshot(), other, state)

    assert (found.config, dict(found.verdicts)) == (
        (fresh := translate(store.snapshot(), other)).config,
        dict(fresh.verdicts),
    )


def test_objects_whose_class_is_gone_are_named() -> None:
    ours = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "sluice"},
        "spec": {"controller": "sluice.dev/ingress-controller"},
    }
    other = {**ours, "metadata": {"name": "other"}, "spec": {"controller": "example.com/other"}}
    mine, theirs, nobodys = (ws_route(name) for name in ("mine", "theirs", "nobodys"))
    for raw, name in ((mine, "sluice"), (theirs, "other"), (nobodys, "absent")):
        raw["spec"]["ingressClassName"] = name
    settings, state = TranslateSettings(), IncrementalState()
    store = store_of(service("chat"), ours, other, mine, theirs, nobodys)
    before = translate(store.snapshot(), settings, state)
    record = parse_object(ours)
    assert record is not None
    store.remove(record.ref)

    after = translate(store.snapshot(), settings, state)

    assert (before.classless, after.classless) == (("wsroute/shop/nobodys",), ("wsroute/shop/mine", "wsroute/shop/nobodys"))
    assert translate(store.snapshot(), settings, IncrementalState()).classless == after.classless

    gone = parse_object(nobodys)
    assert gone is not None
    store.remove(gone.ref)
    put(store, ours)

    assert translate(store.snapshot(), settings, state).classless == ()


def ingress(name: str, path: str, *, host: str = "x.example.com", namespace: str = "shop", **annotations: str) -> dict[str, Any]:
    backend = {"service": {"name": "chat", "port": {"number": 80}}}
    paths = [{"path": path, "pathType": "ImplementationSpecific", "backend": backend}]
    named = {f"nginx.ingress.kubernetes.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace, "annotations": named},
        "spec": {"rules": [{"host": host, "http": {"paths": paths}}]},
    }


def kinds(translation: Translation) -> dict[str, str]:
    return {key.split("/")[2]: route.path.kind for key, route in translation.config.routes.items()}


def test_ingress_that_asks_for_expressions_touches_those_of_its_namespace_on_its_hosts_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = [ingress("same", "/a"), ingress("theirs", "/b", namespace="other"), ingress("elsewhere", "/c", host="y.example.com")]
    store, state = store_of(service("chat"), *others, ingress("asking", "/d")), IncrementalState()
    before = translate(store.snapshot(), SETTINGS, state)
    names = count_translated(monkeypatch)
    put(store, ingress("asking", "/d", use_regex="true"))
    asked = translate(store.snapshot(), SETTINGS, state)
    put(store, ingress("asking", "/d", rewrite_target="/d"))
    gone = translate(store.snapshot(), SETTINGS, state)

    assert names == ["asking", "asking"]
    assert kinds(before) == kinds(gone) == dict.fromkeys(("same", "theirs", "elsewhere", "asking"), "prefix")
    assert kinds(asked) == {"same": "expression", "theirs": "prefix", "elsewhere": "prefix", "asking": "expression"}
    untouched = [f"ingress/{name}/0" for name in ("other/theirs", "shop/elsewhere")]
    assert all(asked.config.routes[key] is before.config.routes[key] for key in untouched)


def test_last_ingress_that_asks_for_expressions_takes_them_along_when_it_goes() -> None:
    store = store_of(service("chat"), ingress("plain", "/a(b"), *(ingress(name, "/x", use_regex="true") for name in ("r", "s")))
    state = IncrementalState()
    found = []
    for name in ("", "r", "s"):
        if name:
            store.remove(ObjectRef("Ingress", "shop", name))
        translation = translate(store.snapshot(), SETTINGS, state)
        found.append((kinds(translation).get("plain", "not served"), [problem.message for problem in translation.problems]))
        assert found[-1][1] == [problem.message for problem in translate(store.snapshot(), SETTINGS).problems]

    assert [kind for kind, _ in found] == ["not served", "not served", "prefix"]
    assert ['because of Ingress "shop/r"' in "".join(said) for _, said in found] == [True, False, False]
    assert ['because of Ingress "shop/s"' in "".join(said) for _, said in found] == [False, True, False]


@pytest.mark.slow
def test_host_with_a_thousand_ingresses_turns_in_milliseconds() -> None:
    """At most 50 of the processor; the best of some, as tests run beside others."""
    store = store_of(service("chat"), *(ingress(f"i{number}", f"/a{number}/[a-z]+") for number in range(1000)))
    state, seconds = IncrementalState(), []
    translate(store.snapshot(), SETTINGS, state)
    for turn in range(6):
        put(store, ingress("i500", "/a500/[a-z]+", use_regex="false" if turn % 2 else "true"))
        snapshot = store.snapshot()
        start = time.process_time()
        translate(snapshot, SETTINGS, state)
        seconds.append(time.process_time() - start)

    assert min(seconds[::2]) < 0.1
    assert min(seconds[1::2]) < 0.1
