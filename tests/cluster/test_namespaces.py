"""Namespaces by label, on a real API server: what comes and goes with a label, statuses and sockets among it."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cluster.control_plane import Client, ControlPlane
from cluster.installation import GOOD, conditions, installed, service, until, ws_route
from cluster.sockets import silent_backend, slice_at

pytestmark = pytest.mark.timeout(120)
SELECTOR = "sluice.dev/by-label in (yes,sure),!sluice.dev/never"


async def said(api: Client, namespace: str) -> dict[str, str]:
    found: dict[str, Any] = await api.get("WsRoute", namespace, "chat")
    return conditions(found)


async def test_namespace_is_served_while_it_has_the_labels_and_its_sockets_go_as_with_a_route_that_is_removed(
    plane: ControlPlane, tmp_path: Path
) -> None:
    for name, label in (("label-a", "yes"), ("label-b", "no")):
        plane.kubectl("create", "namespace", name)
        plane.kubectl("label", "namespace", name, f"sluice.dev/by-label={label}")
    # As helm takes it: a comma ends a value of --set.
    values = {"watchNamespaceSelector": SELECTOR.replace(",", "\\,")}
    with installed(plane, "labels", tmp_path, **values) as sluice:
        async with plane.client() as api, silent_backend() as (address, port), aiohttp.ClientSession() as session:
            for name in ("label-a", "label-b"):
                route = ws_route(name, "chat", f"{name}.example.com", close={"drain": {"over": "100ms"}})
                route["spec"]["ingressClassName"] = "labels"
                await api.create(service(name), slice_at(name, address, port), route)
            async with sluice.pod("--watch-namespace-selector", SELECTOR) as pod:
                await until(lambda: said(api, "label-a"), lambda found: found == GOOD)
                assert {route["id"].split("/")[1] for route in await pod.routes()} == {"label-a"}
                assert "status" not in await api.get("WsRoute", "label-b", "chat")
                url = f"http://127.0.0.1:{pod.ports['http']}/"
                opened = await session.ws_connect(url, headers={"Host": "label-a.example.com"})

                # In, while it runs: what has been there all along is served.
                plane.kubectl("label", "namespace", "label-b", "--overwrite", "sluice.dev/by-label=sure")
                await until(lambda: said(api, "label-b"), lambda found: found == GOOD)
                assert {route["id"].split("/")[1] for route in await pod.routes()} == {"label-a", "label-b"}

                # Out, by the other requirement: routes, what was said of them, and sockets.
                plane.kubectl("label", "namespace", "label-a", "sluice.dev/never=true")
                closed = await opened.receive(timeout=20)
                assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1012)
                await opened.close()
                await pod.answers("label-a.example.com", status=404)
                await until(lambda: said(api, "label-a"), lambda found: found == {})
                assert await pod.problems() == []

                # And in again.
                plane.kubectl("label", "namespace", "label-a", "sluice.dev/never-")
                await until(lambda: said(api, "label-a"), lambda found: found == GOOD)
                assert [one for one in plane.audit(sluice.user) if one["responseStatus"]["code"] == 403] == []


async def test_controller_that_may_not_read_namespaces_serves_none_and_says_so(plane: ControlPlane, tmp_path: Path) -> None:
    plane.kubectl("create", "namespace", "label-c")
    plane.kubectl("label", "namespace", "label-c", "sluice.dev/by-label=yes")
    with installed(plane, "unlabelled", tmp_path) as sluice:  # without the right that the value brings
        async with sluice.pod("--watch-namespace-selector", SELECTOR) as pod, plane.client() as api:
            route = ws_route("label-c", "chat", "label-c.example.com")
            route["spec"]["ingressClassName"] = "unlabelled"
            await api.create(service("label-c"), route)
            found = await until(pod.problems, lambda problems: problems)
            await pod.answers("label-c.example.com", status=404)

            assert [(one["reason"], one["name"]) for one in found] == [("KindForbidden", "namespaces")]
            assert await pod.healthy() == 200
