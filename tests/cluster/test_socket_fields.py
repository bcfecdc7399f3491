"""`keepalive` and the limits of messages at a real API server: it refuses what we refuse, and stores what we take it to store."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cluster.control_plane import ControlPlane
from cluster.installation import ingress, installed, service, until, ws_route
from cluster.sockets import counts, silent_backend, slice_at

from controller.resources.kinds.wsroute import parse_ws_route
from controller.resources.reading.schema import with_defaults

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
    assert bool(parse_ws_route(raw).problems) == (not good)
    if good:
        assert found["spec"] == with_defaults(raw["spec"])


@pytest.mark.parametrize("limits", [{"messageByte": 5}, {"messages": {"rate": 1, "bursts": 1}}])
async def test_misspelt_limit_is_stored_and_refused_by_us(plane: ControlPlane, limits: dict[str, Any]) -> None:
    status, found = await stored(plane, route({"limits": limits}))

    assert status == 201
    assert set(limits) <= set(found["spec"]["rules"][0]["limits"])
    assert parse_ws_route(found).problems


@pytest.mark.timeout(120)
async def test_objects_of_both_kinds_have_their_clients_asked_and_limited(plane: ControlPlane, tmp_path: Path) -> None:
    name, wanted = "alive", {"keepalive": {"interval": "1s", "misses": 1}, "limits": {"messageBytes": "1Ki"}}
    annotations = {
        "sluice.dev/keepalive-interval": "1s",
        "sluice.dev/keepalive-misses": "1",
        "sluice.dev/limits-message-bytes": "1Ki",
    }
    with installed(plane, name, tmp_path) as sluice:
        async with (
            sluice.pod() as pod,
            plane.client() as api,
            silent_backend() as (address, port),
            aiohttp.ClientSession() as session,
        ):
            await api.create(service(name), slice_at(name, address, port), ws_route(name, "chat", "one.example.com", **wanted))
            await api.create(ingress(name, "web", "two.example.com", **annotations))
            for host, route in (("one", f"wsroute/{name}/chat/0"), ("two", f"ingress/{name}/web/0")):
                await until(
                    pod.routes, lambda routes, route=route: any(one["id"] == route and address in str(one) for one in routes)
                )
                url, headers = f"http://127.0.0.1:{pod.ports['http']}/", {"Host": f"{host}.example.com"}
                async with session.ws_connect(url, headers=headers, autoping=False) as mute, asyncio.timeout(20):
                    assert (await mute.receive()).type == aiohttp.WSMsgType.PING
                    assert await mute.receive() == (aiohttp.WSMsgType.CLOSE, 1001, "")
                async with session.ws_connect(url, headers=headers, autoping=False) as large, asyncio.timeout(20):
                    asked = await large.receive()
                    await large.pong(asked.data)
                    await large.send_bytes(bytes(1024))
                    await large.send_bytes(bytes(1025))
                    assert await large.receive() == (aiohttp.WSMsgType.CLOSE, 1009, "")
                await counts(pod, f'sluice_ws_closes_total{{by="proxy:ping_timeout",code="1001",route="{route}"}}', 1)
                await counts(pod, f'sluice_ws_closes_total{{by="proxy:limit",code="1009",route="{route}"}}', 1)
                await counts(pod, f'sluice_ws_ping_rtt_seconds_count{{route="{route}"}}', 1)
                await counts(pod, f'sluice_ws_messages_total{{direction="in",route="{route}"}}', 1)
