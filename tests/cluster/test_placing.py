"""Load balancing, affinity, pods and rewrites on a real API server: what it refuses, and pods by the names that it knows."""

import json
from pathlib import Path
from typing import Any

import pytest
from cluster.control_plane import ControlPlane
from cluster.installation import conditions, endpoint_slice, installed, service, until, ws_route

from controller.resources import Malformed, WsRoute, parse_object

pytestmark = pytest.mark.timeout(120)
HOST = "rooms.example.com"
RULES: list[dict[str, Any]] = [
    {"loadBalancing": {"policy": "Hash", "hashOn": {"header": "X-User"}}},
    {"loadBalancing": {"policy": "Hash", "hashOn": {"clientIP": True}}},
    {"loadBalancing": {"policy": "Hash"}},
    {"loadBalancing": {"policy": "Random2", "hashOn": {"clientIP": True}}},
    {"loadBalancing": {"hashOn": {"clientIP": True}}},
    {"loadBalancing": {"policy": "Hash", "hashOn": {}}},
    {"loadBalancing": {"policy": "Hash", "hashOn": {"clientIP": False}}},
    {"loadBalancing": {"policy": "Hash", "hashOn": {"clientIP": True, "query": "a"}}},
    {"loadBalancing": {"policy": "Hash", "hashOn": {"cookie": "a b"}}},
    {"loadBalancing": {"policy": "Maglev"}},
    {"loadBalancing": {"policy": "EWMA"}},
    {"affinity": {}},
    {"affinity": {"cookie": {}}},
    {"affinity": {"cookie": {"name": "A", "maxAge": "24h", "sameSite": "None"}, "engineIO": {}}},
    {"affinity": {"cookie": {"maxAge": "0s"}}},
    {"affinity": {"cookie": {"maxAge": "87601h"}}},
    {"affinity": {"cookie": {"name": "a;b"}}},
    {"affinity": {"cookie": {"sameSite": "lax"}}},
    {"rewrite": {"prefix": "/"}},
    {"rewrite": {"prefix": "/a/b"}},
    {"rewrite": {"prefix": "a"}},
    {"rewrite": {"prefix": "/a//b"}},
    {"rewrite": {"prefix": "/a/../b"}},
    {"rewrite": {"prefix": "/a%2Fb"}},
    {"rewrite": {"prefix": "/a%zz"}},
    {"rewrite": {"prefix": "/a?b"}},
    {"rewrite": {"prefix": "/a\\b"}},
    {"rewrite": {}},
    {"rebalance": {"above": "1.3", "rate": "5/s"}},
    {"rebalance": {"above": "1", "rate": "5/s"}},
    {"rebalance": {"above": "1.0001", "rate": "30/m"}},
    {"rebalance": {"above": "100.1", "rate": "5/s"}},
    {"rebalance": {"above": "x", "rate": "5/s"}},
    {"rebalance": {"above": "2", "rate": "0/s"}},
    {"rebalance": {"above": "2", "rate": "5"}},
    {"rebalance": {"above": "2"}},
    {"rebalance": {"above": "2", "rate": "1/h"}, "affinity": {"engineIO": {}}},
    {"rebalance": {"above": "2", "rate": "1/h"}, "affinity": {"cookie": {}}},
    {"rebalance": {"above": "2", "rate": "1/h"}, "loadBalancing": {"policy": "Hash", "hashOn": {"clientIP": True}}},
    {"rebalance": {"above": "2", "rate": "1/h"}, "websocket": {"backends": [{"service": "chat", "port": 80}], "target": "Pod"}},
    {"rewrite": {"prefix": "/a"}, "path": {"type": "Exact", "value": "/x"}},
    {"rewrite": {"prefix": "/a"}, "path": {"type": "Regex", "value": "/x.*"}},
    {"websocket": {"backends": [{"service": "chat", "port": 80}], "target": "Pod"}},
    {"websocket": {"backends": [{"service": "chat", "port": 80}], "target": "Node"}},
    {"websocket": {"backends": [{"service": "chat", "port": 80}], "target": "Pod"}, "path": {"type": "Exact", "value": "/x"}},
    {"websocket": {"backends": [{"service": "chat", "port": 80}], "target": "Service"}, "path": {"type": "Exact", "value": "/x"}},
]


@pytest.mark.parametrize("host", ["a.example.com", "*.example.com"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: json.dumps(rule)[:60])
def test_api_server_refuses_what_lint_refuses(plane: ControlPlane, rule: dict[str, Any], host: str) -> None:
    raw = ws_route("default", "judged", host, **rule)
    done = plane.kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(raw), check=False)
    found = parse_object(raw)
    assert isinstance(found, Malformed | WsRoute)
    refused = bool(found.problems)

    assert ("is invalid" in done.stderr) is refused, done.stderr
    assert (done.returncode == 0) is not refused, done.stderr


async def test_pods_are_named_as_their_slices_name_them(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "rooms", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            route = ws_route("rooms", "rooms", HOST, timeouts={"connect": "100ms"}, affinity={"cookie": {}})
            route["spec"]["rules"][0]["websocket"]["target"] = "Pod"
            # Nobody is at these addresses (RFC 5737): a pod that is known is tried in vain, one that is not gives 404.
            behind = endpoint_slice("rooms", "chat", "192.0.2.1", "192.0.2.2")
            for number, one in enumerate(behind["endpoints"]):
                one["targetRef"] = {"kind": "Pod", "namespace": "rooms", "name": f"room-{number}"}
            await api.create(service("rooms"), behind, route)
            await until(lambda: api.get("WsRoute", "rooms", "rooms"), lambda raw: "Programmed" in conditions(raw))
            await until(lambda: pod.upgrade(HOST, "/room-1"), lambda status: status in (502, 504))
            known = [await pod.upgrade(HOST, path) for path in ("/room-0/x", "/192.0.2.2")]
            unknown = [await pod.upgrade(HOST, path) for path in ("/room-2", "/192.0.2.3", "/")]
            behind["endpoints"][1]["targetRef"]["name"] = "room-2"
            await api.patch("EndpointSlice", "rooms", "chat-1", {"endpoints": behind["endpoints"]})
            await until(lambda: pod.upgrade(HOST, "/room-2"), lambda status: status in (502, 504))
            gone = await pod.upgrade(HOST, "/room-1")
            uid = (await api.get("WsRoute", "rooms", "rooms"))["metadata"]["uid"]
            (served,) = [one for one in await pod.routes() if one["id"] == "wsroute/rooms/rooms/0"]

    assert set(known) <= {502, 504}
    assert (unknown, gone) == ([404, 404, 404], 404)
    assert [one["key"] for one in served["policies"] if one["type"] == "cookie-affinity"] == [uid]
