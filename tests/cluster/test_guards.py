"""Origins, networks and limits on a real API server: what it refuses, what it stores and we refuse, and what is served."""

import json
from pathlib import Path
from typing import Any

import pytest
from cluster.control_plane import ControlPlane
from cluster.installation import GOOD, conditions, ingress, installed, service, until, ws_route

from controller.resources import Malformed, WsRoute, parse_object
from controller.resources.reading.problems import Problem

pytestmark = pytest.mark.timeout(120)
ACCEPTED: list[dict[str, Any]] = [
    {"origins": ["https://a.test", "https://*.a.test:8443", "http://[::1]:3000", "capacitor://localhost"]},
    {"allowCIDRs": ["10.0.0.0/8", "::/0", "fd00::1/8", "0.0.0.0/0"], "denyCIDRs": ["10.0.0.1/32"]},
    {"limits": {}},
    {"limits": {"connections": 0, "connectionsPerClient": 10_000_000, "connectionsPerEndpoint": 1}},
    {"limits": {"handshakes": {"rate": 1, "per": "500ms", "burst": 1_000_000}}},
    {"limits": {"handshakes": {"rate": 1_000_000}}},
]
REFUSED: list[dict[str, Any]] = [
    *({"origins": value} for value in ([], [""], ["a.test"], ["https://a.test/x"], ["https://A.test"], ["https://é.test"], "x")),
    *({"origins": ["https://a.test"] * count} for count in (65,)),
    *({kind: value} for kind in ("allowCIDRs", "denyCIDRs") for value in ([], [""], ["10.0.0.1"], ["all"], ["fe80::1%e/64"], 5)),
    {"allowCIDRs": [f"10.0.{number}.0/24" for number in range(257)]},
    *({"limits": {name: value}} for name in ("connections", "connectionsPerClient") for value in (-1, 10_000_001, "1", 1.5)),
    {"limits": {"connectionsPerEndpoint": -1}},
    *({"limits": {"handshakes": value}} for value in ({}, {"rate": 0}, {"rate": 1, "burst": 0}, {"rate": 1, "per": "0s"}, 5)),
    {"limits": {"handshakes": {"rate": 1, "per": "87601h"}}},
]
STORED: list[dict[str, Any]] = [
    {"limits": {"connection": 5}},
    {"limits": {"handshakes": {"rate": 1, "every": "1s"}}},
    {"allowCIDRs": ["10.0.0.0/33"]},
    {"denyCIDRs": ["::ffff:10.0.0.0/104"]},
    {"origins": ["https://a.test:99999"]},
    {"origins": ["https://*"]},
]
"""A schema cannot decide these; what it does not know it keeps."""


def problems_of(raw: dict[str, Any]) -> tuple[Problem, ...]:
    found = parse_object(raw)
    assert isinstance(found, Malformed | WsRoute)
    return found.problems


def created(plane: ControlPlane, rule: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    raw = ws_route("default", "judged", "a.example.com", **rule)
    arguments = ("create", "--dry-run=server", "--validate=ignore", "-f", "-", "-o", "json")
    done = plane.kubectl(*arguments, text=json.dumps(raw), check=False)
    assert ("is invalid" in done.stderr) is (done.returncode != 0), done.stderr
    return json.loads(done.stdout) if done.returncode == 0 else raw, done.returncode == 0


@pytest.mark.parametrize(
    ("rule", "good"), [*((rule, True) for rule in ACCEPTED), *((rule, False) for rule in REFUSED)], ids=lambda part: str(part)[:60]
)
def test_api_server_refuses_what_lint_refuses(plane: ControlPlane, rule: dict[str, Any], *, good: bool) -> None:
    stored, accepted = created(plane, rule)

    assert (accepted, not problems_of(stored)) == (good, good)


@pytest.mark.parametrize("rule", STORED, ids=str)
def test_guard_that_the_api_server_cannot_judge_is_kept_and_refused_by_us(plane: ControlPlane, rule: dict[str, Any]) -> None:
    stored, accepted = created(plane, rule)

    assert accepted
    assert problems_of(stored)


async def test_guards_of_objects_in_the_cluster_are_carried_out(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "guards", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            prefix = "nginx.ingress.kubernetes.io"
            shut = {f"{prefix}/whitelist-source-range": "10.0.0.0/8"}
            torn = {f"{prefix}/limit-connections": "several"}
            rare = {f"{prefix}/limit-rpm": "1", f"{prefix}/limit-burst-multiplier": "1"}
            await api.create(
                service("guards"),
                ws_route("guards", "denied", "denied.example.com", denyCIDRs=["127.0.0.0/8"]),
                ws_route("guards", "origins", "origins.example.com", origins=["https://a.test"]),
                ws_route("guards", "limited", "limited.example.com", limits={"handshakes": {"rate": 1, "per": "1h"}}),
                ingress("guards", "shut", "shut.example.com", **shut),
                ingress("guards", "torn", "torn.example.com", **torn),
                ingress("guards", "rare", "rare.example.com", **rare),
            )
            for host, status in (("denied", 403), ("shut", 403), ("torn", 500), ("origins", 503), ("limited", 503)):
                await pod.answers(f"{host}.example.com", status=status)
            # Until there is a route each answer is 404; then 503 is that of a Service without endpoints.
            await until(
                lambda: pod.ask("/", port="http", host="rare.example.com"), lambda found: found[1].startswith("This address")
            )
            origins = [await pod.upgrade("origins.example.com", Origin=f"https://{name}.test") for name in "ab"]
            limited = [await pod.upgrade("limited.example.com") for _ in range(2)]
            await until(lambda: api.get("WsRoute", "guards", "limited"), lambda raw: conditions(raw) == GOOD)

    assert (origins, limited) == ([503, 403], [503, 429])
