"""What an Ingress of one tenant gets of another's hosts, and what is served of one that asks for what does not work yet.

A Service without endpoints answers 503 for those that lead to it.
"""

import asyncio
from pathlib import Path

from demo import sluice, write_whole
from e2e.standalone import FREE, WAIT, Running

SERVICE = """apiVersion: v1
kind: Service
metadata: {name: app, namespace: NAMESPACE}
spec: {ports: [{port: 80}]}
"""
BACKEND = "{service: {name: app, port: {number: 80}}}"


def ingress(name: str, *hosts: str, default: bool = False, path: str = "/app", annotations: str = "", old: bool = False) -> str:
    """Write an Ingress of a namespace of its own, and its Service."""
    rules = [f"  - {{host: {host}, http: {{paths: [{{path: {path}, pathType: Prefix, backend: {BACKEND}}}]}}}}" for host in hosts]
    spec = [f"  defaultBackend: {BACKEND}"] * default + (["  rules:", *rules] if rules else [])
    created = "2020-01-01T00:00:00Z" if old else "2026-01-01T00:00:00Z"
    return "\n".join(
        [
            SERVICE.replace("NAMESPACE", name) + "---",
            "apiVersion: networking.k8s.io/v1",
            "kind: Ingress",
            f"metadata: {{name: {name}, namespace: {name}, creationTimestamp: {created}, annotations: {{{annotations}}}}}",
            "spec:",
            *spec,
        ]
    )


async def statuses(folder: Path, objects: dict[str, str], routes: int, *asked: str) -> list[int]:
    """Serve the objects and ask for HOST/PATH; return the statuses."""
    for name, text in objects.items():
        write_whole(folder / f"{name}.yaml", text)
    with sluice(folder, FREE) as (process, listening):
        running = Running(folder, process, listening)
        async with asyncio.timeout(WAIT):
            await running.until_shows("/routes", lambda found: len(found) == routes)
            return [await running.ask(host, f"/{path}", secure=False) for host, _, path in (one.partition("/") for one in asked)]


async def test_default_backend_beside_rules_takes_nothing_of_hosts_of_others(tmp_path: Path) -> None:
    objects = {
        "victim": ingress("victim", "victim.test"),
        "taker": ingress("taker", "taker.test", default=True, old=True),
    }
    asked = ("victim.test/app", "victim.test/login", "victim.test/", "unknown.test/", "taker.test/app", "taker.test/login")

    assert await statuses(tmp_path, objects, 3, *asked) == [503, 404, 404, 404, 503, 503]


async def test_default_backend_alone_takes_hosts_that_nobody_names(tmp_path: Path) -> None:
    objects = {"victim": ingress("victim", "victim.test"), "taker": ingress("taker", default=True, old=True)}
    asked = ("victim.test/app", "victim.test/login", "unknown.test/", "x.victim.test/login")

    assert await statuses(tmp_path, objects, 2, *asked) == [503, 404, 503, 503]


async def test_canary_takes_no_traffic_and_no_host(tmp_path: Path) -> None:
    canary = 'nginx.ingress.kubernetes.io/canary: "true", nginx.ingress.kubernetes.io/canary-weight: "1"'
    objects = {
        "victim": ingress("victim", "victim.test"),
        "canary": ingress("canary", "victim.test", "new.test", path="/app/new", default=True, annotations=canary, old=True),
        "broken": ingress("broken", "victim.test", path="/app/guarded", annotations='nginx.ingress.kubernetes.io/auth-url: "x"'),
    }
    asked = ("victim.test/app", "victim.test/app/new", "new.test/app/new", "unknown.test/", "victim.test/app/guarded")

    assert await statuses(tmp_path, objects, 2, *asked) == [503, 503, 404, 404, 500]


GUARDED = {
    'configuration-snippet: "deny all;"': 500,
    'modsecurity-snippet: "SecRuleEngine On"': 500,
    'enable-modsecurity: "true"': 500,
    "proxy-ssl-verify: on": 500,
    'ssl-passthrough: "true"': 500,
    'enable-global-auth: "true"': 500,
    'enable-global-auth: "false"': 503,
    "proxy-ssl-verify: off": 503,
    'configuration-snippet: ""': 503,
    'proxy-body-size: "8m"': 503,
}


async def test_route_is_not_served_without_the_guard_that_it_asks_for(tmp_path: Path) -> None:
    objects = {
        f"i{number}": ingress(f"i{number}", f"h{number}.test", annotations=f"nginx.ingress.kubernetes.io/{annotation}")
        for number, annotation in enumerate(GUARDED)
    }
    asked = [f"h{number}.test/app" for number in range(len(GUARDED))]

    found = await statuses(tmp_path, objects, len(GUARDED), *asked)

    assert dict(zip(GUARDED, found, strict=True)) == GUARDED
