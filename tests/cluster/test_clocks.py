"""A controller whose clock is wrong, or steps, leads, writes and orders like any other."""

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from cluster.control_plane import Client, ControlPlane, now
from cluster.installation import GOOD, Installation, conditions, installed, service, until, ws_route
from faketime import Clock

pytestmark = pytest.mark.timeout(180)
HOUR = 3600
RENEWALS = 10
"""So many take longer than a Lease lasts: another replica would have taken it over."""


def shifted(sluice: Installation, seconds: int) -> Clock:
    """Let controllers that are started from now on read another time of day."""
    sluice.folder.mkdir(exist_ok=True)
    clock = Clock(sluice.folder / "clock", seconds)
    sluice.environment = clock.environment
    return clock


async def lease(api: Client, namespace: str) -> dict[str, Any]:
    """Return the spec of the Lease."""
    found: dict[str, Any] = (await api.get("Lease", namespace, "sluice-leader"))["spec"]
    return found


async def renewed(api: Client, namespace: str, times: int) -> list[str]:
    """Wait until a Lease was renewed so often; return everybody who held it meanwhile."""
    holders, last = [], await lease(api, namespace)
    for _ in range(times):
        seen = last["renewTime"]
        last = await until(lambda: lease(api, namespace), lambda found, seen=seen: found["renewTime"] != seen)
        holders.append(last["holderIdentity"])
    return sorted(set(holders))


async def hours_ahead(api: Client, namespace: str) -> int:
    """Return by how many hours the clock of who renews a Lease is ahead of this machine's."""
    renewed_at = dt.datetime.fromisoformat((await lease(api, namespace))["renewTime"])
    return round((renewed_at - dt.datetime.now(dt.UTC)).total_seconds() / HOUR)


async def lives(plane: ControlPlane, folder: Path, name: str, seconds: int) -> None:
    """Take a replica with a wrong clock from its start to its end, where one whose clock is right takes over."""
    lost = {"Accepted": "False RouteConflict", "ResolvedRefs": "True ResolvedRefs", "Programmed": "False Rejected"}
    with installed(plane, name, folder) as sluice:
        shifted(sluice, seconds)
        async with sluice.pod(name="wrong") as pod, plane.client() as api:
            await pod.logged("leading=true")
            assert await hours_ahead(api, name) * HOUR == seconds
            await api.create(service(name), ws_route(name, "z-older", "a.example.com"))
            found = await until(lambda: api.get("WsRoute", name, "z-older"), lambda raw: conditions(raw) == GOOD)
            await until(now, lambda second: second > found["metadata"]["creationTimestamp"])
            # By its name it would win.
            await api.create(ws_route(name, "a-younger", "a.example.com"))
            await until(lambda: api.get("WsRoute", name, "a-younger"), lambda raw: conditions(raw) == lost)
            sluice.environment = {}
            async with sluice.pod(name="right") as other:
                # The Lease stays where it is while it is renewed, whatever its times say to who reads them.
                assert await renewed(api, name, RENEWALS) == ["wrong"]
                assert not any("leading=true" in line for line in other.log)
                await pod.kill_controller()
                await until(lambda: lease(api, name), lambda found: found["holderIdentity"] == "right", 40)
                assert conditions(await api.get("WsRoute", name, "z-older")) == GOOD
                await api.delete("WsRoute", name, "z-older")
                await until(lambda: api.get("WsRoute", name, "a-younger"), lambda raw: conditions(raw) == GOOD)


async def test_clock_an_hour_off_leads_renews_and_orders_by_the_clock_of_the_api_server(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async with asyncio.TaskGroup() as both:
        both.create_task(lives(plane, tmp_path / "ahead", "ahead", HOUR))
        both.create_task(lives(plane, tmp_path / "behind", "behind", -HOUR))


async def test_clock_that_steps_back_and_forth_costs_neither_the_lease_nor_a_change(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "steps", tmp_path) as sluice:
        clock = shifted(sluice, 0)
        async with sluice.pod() as pod, plane.client() as api:
            await pod.logged("leading=true")
            await api.create(service("steps"))
            for number, seconds in enumerate((HOUR, -HOUR, 0)):
                clock.step(seconds)
                await api.create(ws_route("steps", f"r{number}", f"h{number}.example.com"))
                await pod.answers(f"h{number}.example.com")
                await until(lambda number=number: api.get("WsRoute", "steps", f"r{number}"), lambda raw: conditions(raw) == GOOD)
                assert await renewed(api, "steps", 2) == ["steps-0"]
                assert await hours_ahead(api, "steps") * HOUR == seconds
                assert await pod.healthy() == 200
            assert not any("leading no more" in line or "leading=false" in line for line in pod.log)
