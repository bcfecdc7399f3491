"""How long sockets of a pod that terminates have: as long as the pod, where the controller may read it."""

import asyncio
import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cluster.control_plane import Client, ControlPlane
from cluster.installation import Pod, endpoint_slice, installed, service, until, ws_route
from cluster.relay import relaying, status
from hypothesis import given
from hypothesis import strategies as st

from controller.sources.pod_grace import deadline_of

pytestmark = pytest.mark.timeout(120)
NOW = 1_800_000_000.0


def stamp(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_of(deleted: Any, grace: Any) -> dict[str, Any]:
    return {"metadata": {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": grace}}


def test_deadline_is_the_deletion_timestamp_where_clocks_agree() -> None:
    assert deadline_of(pod_of(stamp(NOW + 20), 30), NOW) == NOW + 20
    assert deadline_of({"metadata": {}}, NOW) == 0.0
    assert deadline_of({}, NOW) == 0.0


@given(st.integers(-4000, 4000), st.integers(0, 3600))
def test_deadline_is_never_past_nor_beyond_the_grace_period_whatever_the_clocks_say(shift: int, grace: int) -> None:
    assert NOW <= deadline_of(pod_of(stamp(NOW + shift), grace), NOW) <= NOW + grace


@given(st.one_of(st.none(), st.text(max_size=8), st.integers()), st.one_of(st.none(), st.text(max_size=3), st.integers(0, 9)))
def test_pods_that_look_like_nothing_known_have_no_deadline_or_a_sane_one(deleted: Any, grace: Any) -> None:
    assert deadline_of(pod_of(deleted, grace), NOW) == 0.0


def slice_of(namespace: str, *, terminating: bool) -> dict[str, Any]:
    found = endpoint_slice(namespace, "chat", "192.0.2.7", "192.0.2.8")
    first, second = found["endpoints"]
    first["targetRef"] = {"kind": "Pod", "namespace": namespace, "name": "chat-0"}
    second["targetRef"] = {"kind": "Pod", "namespace": namespace, "name": "chat-1"}
    if terminating:
        first["conditions"] = {"ready": False, "serving": True, "terminating": True}
    return found


async def terminating_pod(plane: ControlPlane, api: Client, namespace: str) -> None:
    """A pod that terminates without a kubelet: one that is bound to a node is kept until its kubelet says that it has ended."""
    spec = {
        "containers": [{"name": "chat", "image": "localhost/chat"}],
        "terminationGracePeriodSeconds": 120,
        "nodeName": "nowhere",
    }
    plane.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}})
    plane.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "chat-0", "namespace": namespace}, "spec": spec})
    await api.create(service(namespace), ws_route(namespace, "chat", "chat.example.com"), slice_of(namespace, terminating=False))
    plane.kubectl("delete", "pod", "chat-0", "-n", namespace, "--wait=false")


async def deadlines(pod: Pod) -> dict[str, float]:
    """Deadlines of the endpoints that terminate, as the proxy has them."""
    backends = [backend for found in await pod.routes() for backend in found["http"]["backends"]]
    endpoints = {one["address"]: one for backend in backends for one in backend["endpoints"]}
    return {address: one["deadline"] for address, one in endpoints.items() if one["state"] == "draining"}


async def test_sockets_get_what_is_left_of_the_grace_period_of_their_pod(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "grace", tmp_path) as sluice:
        async with sluice.pod("--pod-grace") as pod, plane.client() as api:
            await terminating_pod(plane, api, "grace")
            await until(pod.routes, lambda routes: "192.0.2.8" in str(routes))
            await api.patch("EndpointSlice", "grace", "chat-1", {"endpoints": slice_of("grace", terminating=True)["endpoints"]})
            found = await until(lambda: deadlines(pod), lambda found: found)
            assert list(found) == ["192.0.2.7"]
            assert time.time() + 60 < found["192.0.2.7"] <= time.time() + 120
            reads = [event for event in plane.audit(sluice.user) if event["objectRef"].get("resource") == "pods"]
            assert [(event["verb"], event["objectRef"]["name"], event["responseStatus"]["code"]) for event in reads] == [
                ("get", "chat-0", 200)
            ]


@pytest.mark.parametrize("answer", ["hangs", "forbidden"])
async def test_endpoint_is_left_at_once_whatever_becomes_of_the_question_about_its_pod(
    plane: ControlPlane, tmp_path: Path, answer: str
) -> None:
    never = asyncio.Event()

    async def refuse(request: web.Request) -> web.StreamResponse | None:
        if "/pods/" not in request.path:
            return None
        if answer == "hangs":
            await never.wait()
        return status(403)

    name = f"grace-{answer}"
    with installed(plane, name, tmp_path) as sluice:
        async with relaying(plane) as relay, sluice.pod("--pod-grace", relay=relay) as pod, plane.client() as api:
            await terminating_pod(plane, api, name)
            await until(pod.routes, lambda routes: "192.0.2.8" in str(routes))
            relay.fault = refuse
            await api.patch("EndpointSlice", name, "chat-1", {"endpoints": slice_of(name, terminating=True)["endpoints"]})
            found = await until(lambda: deadlines(pod), lambda found: found, 5)
            assert found == {"192.0.2.7": 0.0}
            await pod.logged("instead of its grace period")
            never.set()
