"""Whose nodes' addresses Ingresses show, asked of a stand-in for the API server over a socket."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from controller.status import nodes
from controller.status.nodes import Nodes


def pod(name: str, *addresses: str, ready: str = "True", ending: bool = False, first: str | None = "") -> dict[str, Any]:
    """A pod on a node with these addresses; `first`: its hostIP, where it is not the first of them."""
    status = {
        "hostIP": addresses[0] if first == "" and addresses else first,
        "hostIPs": [{"ip": address} for address in addresses],
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}],
    }
    metadata = {"name": name, **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if ending else {})}
    return {"metadata": metadata, "status": status}


@contextlib.asynccontextmanager
async def api_server(answers: list[Any]) -> AsyncIterator[tuple[client.ApiClient, list[dict[str, str]]]]:
    """Answer each list of pods with the next of `answers`, the last one again and again; give what was asked."""
    asked: list[dict[str, str]] = []

    async def listed(request: web.Request) -> web.Response:
        asked.append({"path": request.path, **request.query})
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, int):
            return web.json_response({"kind": "Status", "message": "not now"}, status=found)
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/{namespace}/pods", listed)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with client.ApiClient(client.Configuration(host=f"http://{host}:{port}")) as api:
            yield api, asked
    finally:
        await runner.cleanup()


async def test_nodes_of_ready_pods_are_shown_once_each_in_order() -> None:
    pods = [
        *(
            pod("b", "10.0.0.20", "fd00::20"),
            pod("a", "10.0.0.3"),
            pod("same-node", "10.0.0.3"),
            pod("old-api", first="10.0.0.100"),
        ),
        *(pod("unready", "10.0.0.5", ready="False"), pod("ending", "10.0.0.6", ending=True), pod("unknown", "", first="node-7")),
        *({"metadata": {"name": "pending"}, "status": {"phase": "Pending"}}, {"metadata": {"name": "new"}}),
    ]
    async with api_server([pods]) as (api, asked), asyncio.timeout(10):
        changed = asyncio.Event()
        found = Nodes("edge", "app=sluice,team=x", lambda: True, changed.set)
        task = asyncio.create_task(found.run(api))
        await changed.wait()
        task.cancel()

    assert found.addresses == (("10.0.0.3", ""), ("10.0.0.20", ""), ("10.0.0.100", ""), ("fd00::20", ""))
    assert asked == [{"path": "/api/v1/namespaces/edge/pods", "labelSelector": "app=sluice,team=x", "resourceVersion": "0"}]


async def test_nodes_are_asked_for_by_the_leader_alone_and_the_last_address_stays(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "PERIOD", 0.01)
    caplog.set_level(logging.WARNING, "sluice.status")
    first, second = [pod("a", "10.0.0.1")], [pod("a", "10.0.0.2")]
    seen: list[str] = []
    leads = False
    async with api_server([503, 503, first, [pod("a", "10.0.0.1", ready="False")], [], first, 403, second]) as (api, asked):
        changed = asyncio.Event()

        def took() -> None:
            seen.append(found.addresses[0][0])
            if len(seen) == 2:
                changed.set()

        found = Nodes("edge", "app=sluice", lambda: leads, took)
        task = asyncio.create_task(found.run(api))
        async with asyncio.timeout(10):
            await asyncio.sleep(0.1)  # ten times as long as until the next look
            before = len(asked)
            leads = True
            found.wake()
            await changed.wait()
        task.cancel()

    assert before == 0
    assert seen == ["10.0.0.1", "10.0.0.2"]
    assert [record.message.split("error=")[1].split(":")[0] for record in caplog.records] == [
        "'503 Service Unavailable",
        "'403 Forbidden",
    ]
