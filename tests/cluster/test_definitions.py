"""The WsRoute definition is not there, comes, goes and comes back; the API server itself goes and comes back with it."""

from pathlib import Path

import pytest
from cluster.control_plane import ControlPlane, control_plane
from cluster.installation import CRD, define, ingress, installed, service, until, ws_route

pytestmark = pytest.mark.timeout(180)


async def test_definition_that_is_missing_is_said_and_found_when_it_comes(plane: ControlPlane, tmp_path: Path) -> None:
    del plane  # says whether this machine can run one; this test needs one without the definition
    folder = tmp_path / "plane"
    folder.mkdir()
    with control_plane(folder=folder) as bare, installed(bare, "late", tmp_path) as sluice:
        async with sluice.pod() as pod, bare.client() as api:
            await api.create(service("late"), ingress("late", "shop", "shop.example.com"))
            await pod.answers("shop.example.com")  # Ingresses are served without it
            [problem] = await until(pod.problems, lambda problems: problems)
            assert (problem["reason"], problem["name"]) == ("KindAbsent", "wsroutes")
            assert await pod.healthy() == 200
            define(bare)
            await until(pod.problems, lambda problems: problems == [], 40)
            await api.create(ws_route("late", "chat", "chat.example.com"))
            await pod.answers("chat.example.com")
            bare.kubectl("delete", "crd", "wsroutes.sluice.dev")
            await pod.answers("chat.example.com", status=404)
            assert (await pod.ask("/", port="http", host="shop.example.com"))[0] == 503
            await until(pod.problems, lambda problems: [one["reason"] for one in problems] == ["KindAbsent"], 40)
            bare.apply(CRD.read_text())
            define(bare)
            await api.create(ws_route("late", "chat", "chat.example.com"))
            await pod.answers("chat.example.com", seconds=40)


async def test_api_server_that_restarts_with_its_store_compacted_is_followed(plane: ControlPlane, tmp_path: Path) -> None:
    del plane
    folder = tmp_path / "plane"
    folder.mkdir()
    with control_plane(folder=folder) as first:
        port = first.address[1]
        define(first)
        with installed(first, "compact", tmp_path) as sluice:
            async with sluice.pod() as pod:
                async with first.client() as api:
                    await api.create(service("compact"), ws_route("compact", "a", "a.example.com"))
                    await pod.answers("a.example.com")
                first.stop()
                await pod.logged("KindUnreachable")
                with control_plane(folder=folder, port=port) as second:
                    second.compact()
                    async with second.client() as api:
                        await api.delete("WsRoute", "compact", "a")
                        await api.create(ws_route("compact", "b", "b.example.com"))
                    await pod.answers("b.example.com", seconds=60)
                    await pod.answers("a.example.com", status=404)
