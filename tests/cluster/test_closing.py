"""What a real API server makes of `close`, and what its events do to open sockets."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cluster.control_plane import ControlPlane
from cluster.installation import Pod, installed, service, until, ws_route
from cluster.sockets import counts, silent_backend, slice_at

from controller.resources import WsRoute, parse_object

pytestmark = pytest.mark.timeout(120)
HOST = "chat.example.com"


@pytest.mark.parametrize(
    "more",
    [
        {"close": {}},
        {"close": {"onRouteRemoved": "Keep", "onEndpointTerminating": "Now", "onPolicyChanged": "Drain"}},
        {"close": {"onRouteRemoved": "keep"}},
        {"close": {"drain": {"over": "2m", "code": 4000, "reason": "bis später"}}},
        {"close": {"drain": {"over": "0s"}}},
        {"close": {"drain": {"over": "90000h"}}},
        {"close": {"drain": {"reason": "ä" * 61}}},
        {"close": {"drain": {"reason": "ä" * 62}}},
        {"close": {"drain": {"reason": "a" * 124}}},
        *({"close": {"drain": {"code": code}}} for code in (999, 1000, 1004, 1005, 1006, 1014, 1015, 2999, 3000, 4999, 5000)),
        {"timeouts": {"maxAge": "0s"}},
        {"timeouts": {"maxAge": "87600h"}},
        {"timeouts": {"maxAge": "87600h1s"}},
        {"timeouts": {"maxAge": "-1s"}},
    ],
    ids=lambda more: json.dumps(more, ensure_ascii=True)[:60],
)
def test_api_server_and_lint_refuse_the_same(plane: ControlPlane, more: dict[str, Any]) -> None:
    raw = ws_route("default", "close", HOST, **more)
    done = plane.kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(raw), check=False)

    assert (done.returncode == 0) == isinstance(parse_object(raw), WsRoute), done.stderr


async def sockets(session: aiohttp.ClientSession, pod: Pod, count: int) -> list[aiohttp.ClientWebSocketResponse]:
    url = f"http://127.0.0.1:{pod.ports['http']}/"
    return [await session.ws_connect(url, headers={"Host": HOST}) for _ in range(count)]


async def ends(found: list[aiohttp.ClientWebSocketResponse]) -> set[tuple[int | None, str]]:
    async with asyncio.timeout(15):
        messages = [await one.receive() for one in found]
    assert {message.type for message in messages} == {aiohttp.WSMsgType.CLOSE}
    for one in found:
        await one.close()
    return {(message.data, message.extra or "") for message in messages}


async def test_events_of_the_cluster_close_sockets_each_with_its_cause(plane: ControlPlane, tmp_path: Path) -> None:
    name = "closing"
    with installed(plane, name, tmp_path) as sluice:
        async with (
            sluice.pod() as pod,
            plane.client() as api,
            silent_backend() as (address, port),
            aiohttp.ClientSession() as session,
        ):
            close = {"drain": {"over": "500ms", "code": 4012, "reason": "bye"}}
            await api.create(service(name), slice_at(name, address, port), ws_route(name, "chat", HOST, close=close))
            await until(pod.routes, lambda routes: address in str(routes))
            path = f"wsroute/{name}/chat/0"

            open_now = await sockets(session, pod, 4)
            ending = {"addresses": [address], "conditions": {"ready": False, "serving": True, "terminating": True}}
            await api.patch("EndpointSlice", name, "chat-1", {"endpoints": [ending]})
            told = [await ends(open_now)]
            await counts(pod, f'sluice_ws_closes_total{{by="proxy:endpoint_terminating",code="4012",route="{path}"}}', 4)

            fresh = {"addresses": [address], "conditions": {"ready": True}}
            await api.patch("EndpointSlice", name, "chat-1", {"endpoints": [fresh]})
            await until(pod.routes, lambda routes: '"ready"' in json.dumps(routes))
            open_now = await sockets(session, pod, 3)
            unready = {"addresses": [address], "conditions": {"ready": False, "serving": False, "terminating": False}}
            await api.patch("EndpointSlice", name, "chat-1", {"endpoints": [unready]})
            await until(pod.routes, lambda routes: '"unready"' in json.dumps(routes))
            await counts(pod, f'sluice_ws_connections{{route="{path}",service="{name}/chat:80"}}', 3)

            await api.delete("Service", name, "chat")
            told.append(await ends(open_now))
            await counts(pod, f'sluice_ws_closes_total{{by="proxy:service_deleted",code="4012",route="{path}"}}', 3)

            await api.patch("EndpointSlice", name, "chat-1", {"endpoints": [fresh]})
            await api.create(service(name))
            await until(pod.routes, lambda routes: '"ready"' in json.dumps(routes))
            open_now = await sockets(session, pod, 2)
            plane.kubectl("delete", "ingressclass", name)
            told.append(await ends(open_now))
            await counts(pod, 'sluice_ws_closes_total{by="proxy:class_gone",code="4012",route="-"}', 2)

    assert told == [{(4012, "bye")}] * 3
