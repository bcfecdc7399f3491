"""The operator on a real API server, with the rights that the chart gives it."""

import asyncio
import signal
from pathlib import Path

import pytest
from cluster.control_plane import ControlPlane
from cluster.installation import conditions, endpoint_slice, ingress, installed, service, until, ws_route

pytestmark = pytest.mark.timeout(120)
GOOD = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs", "Programmed": "True Programmed"}


async def test_wsroute_is_served_and_its_conditions_say_so(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "first", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            await pod.answers("chat.example.com", status=404)
            await api.create(service("first"), ws_route("first", "chat", "chat.example.com"))
            await pod.answers("chat.example.com")
            found = await until(lambda: api.get("WsRoute", "first", "chat"), lambda raw: conditions(raw) == GOOD)
            assert {one["observedGeneration"] for one in found["status"]["conditions"]} == {1}
            assert await pod.healthy() == 200
            assert await pod.problems() == []
