"""Ingresses on a real API server, beyond what conformance asks for: who answers, which certificate is shown, what is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster.backends import Answer, ask, backends, default_backend, make_ingress, rule, tls_secret
from cluster.control_plane import Client, ControlPlane, now
from cluster.installation import Pod, installed, until

pytestmark = pytest.mark.timeout(120)


def asked(pod: Pod, host: str, path: str = "/", *, tls: bool = False) -> Callable[[], Any]:
    """Ask now; to be asked again by `until`. Status 0: the proxy does not listen, as before its first configuration."""

    async def look() -> Answer:
        try:
            return await ask(pod.ports["https" if tls else "http"], host, path, tls=tls)
        except ConnectionRefusedError:
            return Answer(0, "", {}, b"")

    return look


async def answers(pod: Pod, host: str, path: str, wanted: str | int) -> None:
    """Wait until a request is answered by a backend, by name, or with a status."""

    def good(answer: Answer) -> bool:
        return answer.status == wanted if isinstance(wanted, int) else answer.body.partition(" ")[0] == wanted

    await until(asked(pod, host, path), good)


async def said(pod: Pod, host: str, *paths: str) -> list[str | int]:
    """Return who answers each path: the backend, or the status."""
    found = [await ask(pod.ports["http"], host, path) for path in paths]
    return [answer.body.partition(" ")[0] if answer.status == 200 else answer.status for answer in found]


async def events(api: Client, namespace: str, name: str) -> dict[str, list[str]]:
    """Return the messages of the Events about an Ingress by reason."""
    found: dict[str, list[str]] = {}
    for one in (await api.get("Event", namespace))["items"]:
        if one["involvedObject"]["name"] == name:
            found.setdefault(one["reason"], []).append(one["message"])
    return found


async def test_default_backend_and_rules_without_host_take_what_hosts_leave(plane: ControlPlane, tmp_path: Path) -> None:
    ns = "ing-default"
    with installed(plane, ns, tmp_path) as sluice:
        async with backends(ns, "a", "any", "rest") as objects, sluice.pod() as pod, plane.client() as api:
            named = make_ingress(ns, "named", rule("a.example.com", ("Prefix", "/app", "a")))
            bare = make_ingress(ns, "bare", rule("", ("Prefix", "/any", "any")))
            rest = make_ingress(ns, "rest", defaultBackend=default_backend("rest"))
            await api.create(*objects, named, bare, rest)
            await answers(pod, "a.example.com", "/app/x", f"{ns}/a")
            await answers(pod, "other.example.com", "/any", f"{ns}/any")
            await answers(pod, "other.example.com", "/", f"{ns}/rest")
            # A host that is named owns its name: what its rules leave is no other's, be it a default backend or a rule of any host.
            assert await said(pod, "a.example.com", "/any", "/", "/application") == [404] * 3
            own = rule("a.example.com", ("Prefix", "/own", "any"))
            await api.create(make_ingress(ns, "own", own, defaultBackend=default_backend("any")))
            await answers(pod, "a.example.com", "/", f"{ns}/any")
            assert await said(pod, "a.example.com", "/app", "/application") == [f"{ns}/a", f"{ns}/any"]
            assert await said(pod, "other.example.com", "/any", "/application") == [f"{ns}/any", f"{ns}/rest"]
            await api.delete("Ingress", ns, "own")
            await answers(pod, "a.example.com", "/", 404)
            await api.delete("Ingress", ns, "rest")
            await answers(pod, "other.example.com", "/", 404)
            assert await said(pod, "a.example.com", "/app", "/any") == [f"{ns}/a", 404]


async def test_rule_without_paths_sends_its_host_to_the_default_backend_of_its_ingress(plane: ControlPlane, tmp_path: Path) -> None:
    ns = "ing-bare"
    with installed(plane, ns, tmp_path) as sluice:
        async with backends(ns, "mine", "other") as objects, sluice.pod() as pod, plane.client() as api:
            older = make_ingress(ns, "older", defaultBackend=default_backend("other"))
            mine = make_ingress(ns, "mine", {"host": "mine.example.com"}, defaultBackend=default_backend("mine"))
            await api.create(*objects, older)
            await answers(pod, "mine.example.com", "/", f"{ns}/other")
            await next_second(older, api)
            await api.create(mine)
            await answers(pod, "mine.example.com", "/x", f"{ns}/mine")
            assert await said(pod, "else.example.com", "/x") == [f"{ns}/other"]


async def next_second(older: dict[str, Any], api: Client) -> None:
    """Wait until what is created from now on is younger than an object: the API server tells ages in whole seconds."""
    metadata = older["metadata"]
    found = await api.get("Ingress", metadata["namespace"], metadata["name"])
    await until(now, lambda second: second > found["metadata"]["creationTimestamp"])


async def test_ingresses_of_two_namespaces_share_a_host_and_the_older_one_keeps_a_path(plane: ControlPlane, tmp_path: Path) -> None:
    one, two = "ing-shared", "ing-shared-b"
    plane.kubectl("create", "namespace", two)
    with installed(plane, one, tmp_path) as sluice:
        async with backends(one, "web") as ours, backends(two, "api", "web") as theirs, sluice.pod() as pod, plane.client() as api:
            host = "shop.example.com"
            first = make_ingress(one, "shop", rule(host, ("Prefix", "/", "web")))
            await api.create(*ours, *theirs, first)
            await answers(pod, host, "/", f"{one}/web")
            await next_second(first, api)
            second = make_ingress(one, "shop", rule(host, ("Prefix", "/api", "api"), ("Prefix", "/", "web")), namespace=two)
            await api.create(second)
            await answers(pod, host, "/api/v1", f"{two}/api")
            assert await said(pod, host, "/", "/apis") == [f"{one}/web"] * 2
            found = await until(lambda: events(api, two, "shop"), lambda told: "RouteConflict" in told)
            [message] = found["RouteConflict"]
            assert message.startswith("spec.rules[0].http.paths[1]")
            assert f'Ingress "{one}/shop"' in message
            assert "RouteConflict" not in await events(api, one, "shop")
            await api.delete("Ingress", one, "shop")
            await answers(pod, host, "/", f"{two}/web")
            found = await until(lambda: events(api, two, "shop"), lambda told: "Accepted" in told)
    plane.kubectl("delete", "namespace", two, "--wait=false")


async def test_wildcard_covers_one_label_and_yields_to_the_name(plane: ControlPlane, tmp_path: Path) -> None:
    ns = "ing-wild"
    with installed(plane, ns, tmp_path) as sluice:
        async with backends(ns, "wild", "deep", "named") as objects, sluice.pod() as pod, plane.client() as api:
            await api.create(
                *objects,
                make_ingress(ns, "wild", rule("*.example.com", ("Prefix", "/", "wild"))),
                make_ingress(ns, "deep", rule("*.deep.example.com", ("Prefix", "/", "deep"))),
                make_ingress(ns, "named", rule("named.example.com", ("Prefix", "/only", "named"))),
            )
            await answers(pod, "x.example.com", "/", f"{ns}/wild")
            await answers(pod, "x.deep.example.com", "/", f"{ns}/deep")
            await answers(pod, "named.example.com", "/only", f"{ns}/named")
            found = {
                host: await said(pod, host, "/") for host in ("example.com", "x.y.example.com", "deep.example.com", "X.EXAMPLE.COM")
            }
            assert found == {
                "example.com": [404],
                "x.y.example.com": [404],
                "deep.example.com": [f"{ns}/wild"],
                "X.EXAMPLE.COM": [f"{ns}/wild"],
            }
            assert await said(pod, "named.example.com", "/") == [404]


async def test_solver_of_an_acme_challenge_wins_over_the_application_and_its_redirect(plane: ControlPlane, tmp_path: Path) -> None:
    """The solver's Ingress is written as cert-manager writes it, beside an application that has a certificate already."""
    ns, host = "ing-acme", "app.example.com"
    token = "/.well-known/acme-challenge/Zm9v-_bar"
    secret, _ = tls_secret(ns, "app", host)
    with installed(plane, ns, tmp_path) as sluice:
        async with backends(ns, "app", "solver") as objects, sluice.pod() as pod, plane.client() as api:
            tls = [{"hosts": [host], "secretName": "app"}]
            app = make_ingress(ns, "app", rule(host, ("Prefix", "/", "app")), tls=tls)
            await api.create(*objects, secret, app)
            await answers(pod, host, "/", 308)
            await answers(pod, host, token, f"{ns}/app")
            solver = make_ingress(
                ns,
                "cm-acme-http-solver-7xq2z",
                rule(host, ("ImplementationSpecific", token, "solver")),
                annotations={"nginx.ingress.kubernetes.io/whitelist-source-range": "0.0.0.0/0,::/0"},
            )
            await api.create(solver)
            await answers(pod, host, token, f"{ns}/solver")
            redirected = await ask(pod.ports["http"], host, "/shop?a=1")
            assert (redirected.status, redirected.headers["location"].partition("?")[2]) == (308, "a=1")
            over_tls = await ask(pod.ports["https"], host, token, tls=True)
            assert over_tls.body == f"{ns}/solver {token}"
            # As cert-manager ends a challenge. Nobody would read an Event about the moment between the two.
            await api.delete("Service", ns, "solver")
            await api.delete("Ingress", ns, solver["metadata"]["name"])
            await answers(pod, host, token, f"{ns}/app")
            await api.create(make_ingress(ns, "witness", rule("witness.example.com", ("Prefix", "/", "missing"))))
            await until(lambda: events(api, ns, "witness"), bool)
            assert await events(api, ns, solver["metadata"]["name"]) == {}


async def test_hosts_get_the_certificates_of_their_secrets_and_a_rotation_shows(plane: ControlPlane, tmp_path: Path) -> None:
    ns = "ing-tls"
    pairs = {host: tls_secret(ns, f"s{number}", host) for number, host in enumerate(("a.test", "*.b.test", "only-tls.test"))}
    with installed(plane, ns, tmp_path) as sluice:
        async with backends(ns, "app") as objects, sluice.pod() as pod, plane.client() as api:
            tls = [{"hosts": [host], "secretName": secret["metadata"]["name"]} for host, (secret, _) in pairs.items()]
            rules = [rule(host, ("Prefix", "/", "app")) for host in ("a.test", "x.b.test", "missing.test")]
            tls.append({"hosts": ["missing.test"], "secretName": "missing"})
            await api.create(*objects, *(secret for secret, _ in pairs.values()), make_ingress(ns, "app", *rules, tls=tls))
            for host, name, status in (
                ("a.test", "a.test", 200),
                ("x.b.test", "*.b.test", 200),
                ("only-tls.test", "only-tls.test", 404),
            ):
                wanted = (status, pairs[name][1])
                await until(asked(pod, host, tls=True), lambda answer, wanted=wanted: (answer.status, answer.certificate) == wanted)
            missing = await until(asked(pod, "missing.test", tls=True), lambda answer: answer.status == 200)
            assert missing.certificate not in {der for _, der in pairs.values()}
            # The Ingress may be seen before its Secrets: that it said so of others first is no fault.
            told = f'spec.tls[3].secretName: Secret "{ns}/missing" '
            await until(
                lambda: events(api, ns, "app"),
                lambda found: any(message.startswith(told) for message in found.get("SecretNotFound", ())),
            )
            renewed, der = tls_secret(ns, "s0", "a.test")
            await api.patch("Secret", ns, "s0", {"data": renewed["data"]})
            await until(asked(pod, "a.test", tls=True), lambda answer: answer.certificate == der)
            late, der = tls_secret(ns, "missing", "missing.test")
            await api.create(late)
            await until(asked(pod, "missing.test", tls=True), lambda answer: answer.certificate == der)
            await until(lambda: events(api, ns, "app"), lambda told: "Accepted" in told)


async def test_redirect_is_for_hosts_with_a_certificate_unless_the_ingress_says_otherwise(
    plane: ControlPlane, tmp_path: Path
) -> None:
    ns, ours, theirs = "ing-redirect", "sluice.dev/", "nginx.ingress.kubernetes.io/"
    secret, _ = tls_secret(ns, "wild", "*.example.com")
    tls = [{"hosts": ["*.example.com"], "secretName": "wild"}]
    wanted = {
        "plain.test": ({}, 200),
        "tls.example.com": ({}, 308),
        "off.example.com": ({ours + "ssl-redirect": "false"}, 200),
        "nginx-off.example.com": ({theirs + "ssl-redirect": "false"}, 200),
        "both.example.com": ({ours + "ssl-redirect": "true", theirs + "ssl-redirect": "false"}, 308),
        "forced.test": ({theirs + "force-ssl-redirect": "true"}, 308),
    }
    with installed(plane, ns, tmp_path) as sluice:
        async with backends(ns, "app") as objects, sluice.pod() as pod, plane.client() as api:
            await api.create(*objects, secret, make_ingress(ns, "certificate", tls=tls, defaultBackend=default_backend("app")))
            for host, (annotations, _) in wanted.items():
                name = host.partition(".")[0]
                await api.create(make_ingress(ns, name, rule(host, ("Prefix", "/own", "app")), annotations=annotations))
            for host, (_, status) in wanted.items():
                await answers(pod, host, "/own", status)
            port = pod.ports["http"]
            asked_for = {
                method: await ask(port, "tls.example.com", "/own/a%20b?c=d&e", method=method) for method in ("GET", "POST", "HEAD")
            }
            suffix = "/own/a%20b?c=d&e"
            assert {method: answer.status for method, answer in asked_for.items()} == dict.fromkeys(("GET", "POST", "HEAD"), 308)
            for answer in asked_for.values():
                location = answer.headers["location"]
                assert location.startswith("https://tls.example.com")
                assert location.endswith(suffix)
            assert (await ask(pod.ports["https"], "tls.example.com", "/own", tls=True)).status == 200


REFUSED = {
    "nginx.ingress.kubernetes.io/configuration-snippet": ("return 200;", 500, "text that is pasted into a proxy's configuration"),
    "nginx.ingress.kubernetes.io/server-snippet": ("", 200, "its value asks for nothing"),
    "nginx.ingress.kubernetes.io/enable-modsecurity": ("true", 500, "the routes of this Ingress answer 500"),
    "nginx.ingress.kubernetes.io/canary": ("true", 404, "this Ingress is not served"),
    "nginx.ingress.kubernetes.io/websocket-services": ("app", 200, "never existed in ingress-nginx"),
    "nginx.ingress.kubernetes.io/proxy-read-timeout": ("60s", 200, "a whole number of seconds above zero"),
    "nginx.ingress.kubernetes.io/no-such-thing": ("x", 200, "ingress-nginx has no such annotation"),
    "nginx.ingress.kubernetes.io/ssl-redirect": ("maybe", 200, '"true" or "false" would be accepted'),
    "sluice.dev/timeouts-idle": ("soon", 200, "sluice.dev/timeouts-idle"),
    "sluice.dev/no-such-thing": ("x", 200, "there is no such annotation"),
    "nginx.ingress.kubernetes.io/auth-url": (
        "http://auth.test/",
        500,
        "auth-url protects them in ingress-nginx and is not supported",
    ),
}
"""Annotation: its value, the status of its Ingress's routes, and what the Event says."""


async def test_annotation_that_is_not_honoured_is_an_event_by_its_name_and_harms_no_other(
    plane: ControlPlane, tmp_path: Path
) -> None:
    ns = "ing-refused"
    with installed(plane, ns, tmp_path) as sluice:
        async with backends(ns, "app") as objects, sluice.pod() as pod, plane.client() as api:
            await api.create(*objects, make_ingress(ns, "good", rule("good.test", ("Prefix", "/", "app"))))
            await answers(pod, "good.test", "/", f"{ns}/app")  # the Service is known: nothing else is said than what is wrong
            for number, (key, (value, _, _)) in enumerate(REFUSED.items()):
                one = make_ingress(ns, f"i{number}", rule(f"h{number}.test", ("Prefix", "/", "app")), annotations={key: value})
                await api.create(one)
            for number, (key, (_, status, words)) in enumerate(REFUSED.items()):
                await answers(pod, f"h{number}.test", "/", status)
                found = await until(lambda number=number: events(api, ns, f"i{number}"), bool)
                assert list(found) == ["UnsupportedValue"]
                [message] = found["UnsupportedValue"]
                assert message.startswith(f"metadata.annotations[{key}]: ")
                assert words in message
            assert await said(pod, "good.test", "/") == [f"{ns}/app"]
            assert "UnsupportedValue" not in await events(api, ns, "good")
            for number, key in enumerate(REFUSED):
                await api.patch("Ingress", ns, f"i{number}", {"metadata": {"annotations": {key: None}}})
                await answers(pod, f"h{number}.test", "/", f"{ns}/app")
                await until(lambda number=number: events(api, ns, f"i{number}"), lambda told: "Accepted" in told)
