"""Churn ends in exactly the API server's state, and costs what its number costs."""

import asyncio
import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.control_plane import Client, ControlPlane
from cluster.installation import GOOD, Pod, conditions, endpoint_slice, installed, service, until, ws_route

pytestmark = pytest.mark.timeout(300)
ROUTES, NAMESPACES = 1000, 50
TICKS = os.sysconf("SC_CLK_TCK")
MOST_PER_EVENT = 0.02
"""Seconds of CPU for one event: twenty times what it may take by the project's goal, for slow machines."""
GROWTH = 4.0
"""How much more an event may take where there is five to ten times as much: one that is linear takes more, noise does not."""
SLICES, PER_SLICE = 4, 25
SERVING = {"ready": False, "serving": True, "terminating": True}


def cpu(pod: Pod) -> float:
    """Return the seconds of CPU that the controller has taken."""
    assert pod.controller is not None
    fields = Path(f"/proc/{pod.controller_pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Addresses:
    """Addresses of pods of either family, each once."""

    def __init__(self) -> None:
        self.families: dict[str, Iterator[str]] = {
            "IPv4": (f"198.18.{high}.{low}" for high in range(256) for low in range(1, 255)),
            "IPv6": (f"2001:db8::{number:x}" for number in itertools.count(1)),
        }

    def take(self, family: str, count: int) -> list[str]:
        return list(itertools.islice(self.families[family], count))


def family_of(name: str) -> str:
    """Return the family of a slice: every Service is dual-stack, by the last of its slices."""
    return "IPv6" if name.endswith(f"-{SLICES - 1}") else "IPv4"


class Rolling:
    """The EndpointSlices of one Service, changed as rolling updates do, and worse. They may go to the Service `other` and back."""

    def __init__(self, api: Client, namespace: str, name: str, other: str, free: Addresses) -> None:
        self.api, self.namespace, self.name, self.other, self.free = api, namespace, name, other, free
        self.chance = random.Random(name)  # noqa: S311  the same changes in every run
        self.slices = {f"{name}-{number}": self.full(f"{name}-{number}") for number in range(SLICES)}
        self.events = 0

    def full(self, name: str) -> dict[str, Any]:
        found = endpoint_slice(self.namespace, self.name, *self.free.take(family_of(name), PER_SLICE), name=name)
        return {**found, "addressType": family_of(name)}

    async def create(self) -> None:
        route = ws_route(self.namespace, self.name, f"{self.name}.example.com", self.name)
        await self.api.create(service(self.namespace, self.name), route)
        await self.api.create(*self.slices.values())

    async def change(self, steps: int) -> None:
        """Make changes one after the other; each is one request, or two."""
        for _ in range(steps):
            name = self.chance.choice(sorted(self.slices))
            await self.chance.choice((self.roll, self.roll, self.roll, self.duplicate, self.recreate, self.move))(name)

    async def roll(self, name: str) -> None:
        """Five pods end and five others start, in the same slice; what ended before goes."""
        endpoints = [one for one in self.slices[name]["endpoints"] if one["conditions"]["ready"]]
        self.chance.shuffle(endpoints)
        ending = [{**one, "conditions": SERVING} for one in endpoints[:5]]
        started = endpoint_slice(self.namespace, self.name, *self.free.take(family_of(name), 5))["endpoints"]
        await self.write(name, [*endpoints[5:], *ending, *started])

    async def duplicate(self, name: str) -> None:
        """Endpoints stand in two slices for a while, as when the controller of slices moves them."""
        other = self.chance.choice(sorted(one for one in self.slices if family_of(one) == family_of(name)))
        theirs = self.slices[other]["endpoints"]
        mine = self.slices[name]["endpoints"]
        known = {one["addresses"][0] for one in mine}
        await self.write(name, [*mine, *(one for one in theirs[:5] if one["addresses"][0] not in known)])

    async def recreate(self, name: str) -> None:
        """A slice goes before its successor of the same name comes."""
        await self.api.delete("EndpointSlice", self.namespace, name)
        self.slices[name] = self.full(name)
        await self.api.create(self.slices[name])
        self.events += 2

    async def move(self, name: str) -> None:
        """A slice goes to another Service, or comes back."""
        labels = self.slices[name]["metadata"]["labels"]
        label = "kubernetes.io/service-name"
        labels[label] = self.other if labels[label] == self.name else self.name
        await self.api.patch("EndpointSlice", self.namespace, name, {"metadata": {"labels": labels}})
        self.events += 1

    async def write(self, name: str, endpoints: list[dict[str, Any]]) -> None:
        self.slices[name]["endpoints"] = endpoints
        await self.api.patch("EndpointSlice", self.namespace, name, {"endpoints": endpoints})
        self.events += 1


async def stored(api: Client, namespace: str) -> dict[str, dict[str, str]]:
    """Return the endpoints of each Service as the API server has them: address to ready or draining."""
    found: dict[str, dict[str, str]] = {one["metadata"]["name"]: {} for one in (await api.get("Service", namespace))["items"]}
    for one in (await api.get("EndpointSlice", namespace))["items"]:
        known = found[one["metadata"]["labels"]["kubernetes.io/service-name"]]
        for endpoint in one["endpoints"]:
            for address in endpoint["addresses"]:
                if endpoint["conditions"]["ready"]:
                    known[address] = "ready"
                elif endpoint["conditions"]["serving"]:
                    known.setdefault(address, "draining")
    return found


async def served(pod: Pod) -> dict[str, dict[str, str]]:
    """Return the same as the proxy has it; an endpoint that is there twice is wrong."""
    found: dict[str, dict[str, str]] = {}
    for route in await pod.routes():
        [backend] = route["http"]["backends"]
        endpoints = {one["address"]: one["state"] for one in backend["endpoints"]}
        assert len(endpoints) == len(backend["endpoints"])
        found[route["hosts"][0].partition(".")[0]] = endpoints
    return found


async def churned(pod: Pod, api: Client, namespace: str, rolling: list[Rolling], steps: int) -> float:
    """Change Services at once until the proxy has what the API server has; return the seconds of CPU that an event took."""
    before, events = cpu(pod), sum(one.events for one in rolling)
    await asyncio.gather(*(one.change(steps) for one in rolling))
    expected = await stored(api, namespace)
    await until(lambda: served(pod), lambda found: found == expected)
    return (cpu(pod) - before) / (sum(one.events for one in rolling) - events)


async def test_churn_of_a_thousand_pods_ends_in_the_state_of_the_api_server(plane: ControlPlane, tmp_path: Path) -> None:
    ns, free = "churn", Addresses()
    with installed(plane, ns, tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            rolling = [Rolling(api, ns, f"s{number}", f"s{number ^ 1}", free) for number in range(10)]
            await asyncio.gather(*(one.create() for one in rolling[:2]))
            few = await churned(pod, api, ns, rolling[:2], 150)
            await asyncio.gather(*(one.create() for one in rolling[2:]))
            await churned(pod, api, ns, rolling, 60)
            pods = sum(map(len, (await served(pod)).values()))
            many = await churned(pod, api, ns, rolling[:2], 150)
            # Everything goes, in another order than it came.
            names = [name for one in rolling for name in one.slices]
            random.Random(8).shuffle(names)  # noqa: S311  the same order in every run
            await asyncio.gather(*(api.delete("EndpointSlice", ns, name) for name in names))
            await until(lambda: served(pod), lambda found: len(found) == 10 and not any(found.values()))

    assert pods > 900
    assert (few < MOST_PER_EVENT, many < MOST_PER_EVENT) == (True, True), (few, many)
    assert many < GROWTH * few


def route_of(number: int, name: str, host: str) -> dict[str, Any]:
    """A WsRoute of this test's class in one of its namespaces."""
    raw = ws_route(f"burst-{number % NAMESPACES}", f"{name}{number}", host)
    raw["spec"]["ingressClassName"] = "burst"
    return raw


async def ours(api: Client) -> dict[str, dict[str, Any]]:
    """Return the WsRoutes of this test as they are stored, by the id that their one route has."""
    found = (await api.get("WsRoute"))["items"]
    return {
        f"wsroute/{one['metadata']['namespace']}/{one['metadata']['name']}/0": one
        for one in found
        if one["spec"].get("ingressClassName") == "burst"
    }


def settled(raw: dict[str, Any]) -> bool:
    """Tell whether what the conditions say is good, and of the object as it is now."""
    generations = {one["observedGeneration"] for one in raw.get("status", {}).get("conditions", [])}
    return conditions(raw) == GOOD and generations == {raw["metadata"]["generation"]}


async def converged(pod: Pod, api: Client) -> int:
    """Wait until the proxy serves every WsRoute under the hosts that are stored, and none else, and every status says so."""
    deadline = asyncio.get_running_loop().time() + 60
    while True:
        stored, served = await ours(api), {one["id"]: one["hosts"] for one in await pod.routes()}
        wanted = {name: raw["spec"]["hosts"] for name, raw in stored.items()}
        unsettled = sum(not settled(raw) for raw in stored.values())
        if served == wanted and not unsettled:
            return len(wanted)
        missing, left = wanted.keys() - served.keys(), served.keys() - wanted.keys()
        told = f"{len(missing)} routes are missing, {len(left)} are left, {unsettled} statuses are not settled"
        assert asyncio.get_running_loop().time() < deadline, told
        await asyncio.sleep(0.2)


async def test_a_thousand_wsroutes_in_fifty_namespaces_come_and_go_in_bursts(plane: ControlPlane, tmp_path: Path) -> None:
    chance = random.Random(13)  # noqa: S311  the same changes in every run
    with installed(plane, "burst", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            spaces = [f"burst-{number}" for number in range(NAMESPACES)]
            await api.create(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in spaces))
            await api.create(*(service(name) for name in spaces))
            assert await converged(pod, api) == 0
            used = cpu(pod)
            await api.create(*(route_of(number, "r", f"h{number}.example.com") for number in range(ROUTES)))
            assert await converged(pod, api) == ROUTES
            used = cpu(pod) - used
            # Half of them go, a quarter gets another host, a fifth as many come, all in one burst.
            numbers = list(range(ROUTES))
            chance.shuffle(numbers)
            going, moving = numbers[: ROUTES // 2], numbers[ROUTES // 2 : 3 * ROUTES // 4]
            burst = [api.delete("WsRoute", f"burst-{number % NAMESPACES}", f"r{number}") for number in going]
            burst += [
                api.patch("WsRoute", f"burst-{number % NAMESPACES}", f"r{number}", {"spec": {"hosts": [f"h{number}.example.org"]}})
                for number in moving
            ]
            burst += [api.create(route_of(number, "n", f"n{number}.example.com")) for number in range(ROUTES // 5)]
            chance.shuffle(burst)
            await asyncio.gather(*burst)
            assert await converged(pod, api) == ROUTES // 2 + ROUTES // 5
            left = [one["metadata"] for one in (await ours(api)).values()]
            await asyncio.gather(*(api.delete("WsRoute", one["namespace"], one["name"]) for one in left))
            assert await converged(pod, api) == 0
            assert [one for one in await pod.problems() if one["namespace"] in spaces] == []
            assert await pod.healthy() == 200
            await asyncio.gather(*(api.delete("Namespace", "", name) for name in spaces))

    # Two events for each: the object, and the status that the controller wrote.
    assert used / (2 * ROUTES) < MOST_PER_EVENT
