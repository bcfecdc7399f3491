"""`keepalive` and the limits of messages at a real API server: it refuses what we refuse, and stores what we take it to store."""

from typing import Any

import pytest
from cluster.control_plane import ControlPlane

from controller.resources.problems import Malformed
from controller.resources.schema import with_defaults
from controller.resources.wsroute import parse_ws_route

FIELDS: list[tuple[dict[str, Any], bool]] = [
    ({"keepalive": {}}, True),
    ({"keepalive": {"interval": "1s", "misses": 1, "to": "Backend"}}, True),
    ({"keepalive": {"interval": "24h", "misses": 100, "to": "Both"}}, True),
    ({"keepalive": {"interval": "1m30s"}}, True),
    ({"keepalive": {"interval": "999ms"}}, False),
    ({"keepalive": {"interval": "24h1s"}}, False),
    ({"keepalive": {"interval": "soon"}}, False),
    ({"keepalive": {"interval": ""}}, False),
    ({"keepalive": {"misses": 0}}, False),
    ({"keepalive": {"misses": 101}}, False),
    ({"keepalive": {"to": "client"}}, False),
    ({"limits": {}}, True),
    ({"limits": {"messageBytes": 0}}, True),
    ({"limits": {"messageBytes": 999_999_999_999}}, True),
    ({"limits": {"messageBytes": "64Ki"}}, True),
    ({"limits": {"messageBytes": "999999999Gi"}}, True),
    ({"limits": {"messageBytes": -1}}, False),
    ({"limits": {"messageBytes": 1_000_000_000_000}}, False),
    ({"limits": {"messageBytes": "64KB"}}, False),
    ({"limits": {"messageBytes": "1000000000Gi"}}, False),
    ({"limits": {"messageBytes": "-1"}}, False),
    ({"limits": {"messageBytes": "64Ki\n"}}, False),
    ({"limits": {"messageBytes": 1.5}}, False),
    ({"limits": {"messages": {"rate": 1}}}, True),
    ({"limits": {"messages": {"rate": 1_000_000, "per": "1ms", "burst": 1_000_000}}}, True),
    ({"limits": {"messages": {}}}, False),
    ({"limits": {"messages": {"rate": 0}}}, False),
    ({"limits": {"messages": {"rate": 1_000_001}}}, False),
    ({"limits": {"messages": {"rate": 1, "per": "0s"}}}, False),
    ({"limits": {"messages": {"rate": 1, "per": "1d"}}}, False),
    ({"limits": {"messages": {"rate": 1, "burst": 0}}}, False),
]


def route(fields: dict[str, Any]) -> dict[str, Any]:
    rule = {"websocket": {"backends": [{"service": "chat", "port": 80}]}, **fields}
    return {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "WsRoute",
        "metadata": {"name": "chat", "namespace": "default"},
        "spec": {"rules": [rule]},
    }


async def stored(plane: ControlPlane, raw: dict[str, Any]) -> tuple[int, Any]:
    """Ask for the object to be created, without creating it; a client that is not strict."""
    async with (
        plane.client() as client,
        client.session.post(client.path("WsRoute", "default") + "?dryRun=All&fieldValidation=Ignore", json=raw) as answer,
    ):
        return answer.status, await answer.json()


@pytest.mark.parametrize(("fields", "good"), FIELDS, ids=lambda value: str(value) if isinstance(value, dict) else "")
async def test_api_server_and_parser_take_and_refuse_the_same(plane: ControlPlane, fields: dict[str, Any], good: bool) -> None:
    raw = route(fields)
    status, found = await stored(plane, raw)

    assert status == (201 if good else 422), found
    assert isinstance(parse_ws_route(raw), Malformed) == (not good)
    if good:
        assert found["spec"] == with_defaults(raw["spec"])


@pytest.mark.parametrize("limits", [{"messageByte": 5}, {"messages": {"rate": 1, "bursts": 1}}])
async def test_misspelt_limit_is_stored_and_refused_by_us(plane: ControlPlane, limits: dict[str, Any]) -> None:
    status, found = await stored(plane, route({"limits": limits}))

    assert status == 201
    assert set(limits) <= set(found["spec"]["rules"][0]["limits"])
    assert isinstance(parse_ws_route(found), Malformed)
