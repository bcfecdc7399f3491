"""What goes wrong between the controller and a real API server, and what that must not cost."""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web
from cluster.control_plane import ControlPlane
from cluster.installation import GOOD, conditions, endpoint_slice, installed, service, until, ws_route
from cluster.relay import event, is_list, is_watch, relaying, status

pytestmark = pytest.mark.timeout(180)


async def test_api_server_that_is_away_takes_nothing_and_what_was_missed_is_caught_up(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "i1", tmp_path) as sluice:
        async with relaying(plane) as relay, sluice.pod(relay=relay) as pod, plane.client() as api:
            await api.create(service("i1"), ws_route("i1", "a", "a.example.com"), ws_route("i1", "b", "b.example.com"))
            await pod.answers("a.example.com")
            await pod.answers("b.example.com")
            await relay.close()
            await pod.logged("KindUnreachable")
            await api.create(ws_route("i1", "c", "c.example.com"))
            await api.delete("WsRoute", "i1", "a")
            found = await until(pod.problems, lambda problems: len(problems) >= 6)
            assert {one["reason"] for one in found} == {"KindUnreachable"}
            assert (await pod.ask("/", port="http", host="a.example.com"))[0] == 503  # what was known of it stays
            assert await pod.healthy() == 200  # being restarted would not bring the API server back
            await relay.open()
            await pod.answers("c.example.com")
            await pod.answers("a.example.com", status=404)
            await pod.answers("b.example.com")
            await until(pod.problems, lambda problems: problems == [], 90)


async def test_errors_of_the_api_server_are_waited_out(plane: ControlPlane, tmp_path: Path) -> None:
    refusals = iter((500, 503, 429, 504, 500, 429))

    async def refuse(request: web.Request) -> web.StreamResponse | None:
        number = next(refusals, None) if is_list(request) else None
        return None if number is None else status(number, headers={"Retry-After": "1"} if number == 429 else None)

    with installed(plane, "i1b", tmp_path) as sluice:
        async with relaying(plane) as relay, plane.client() as api:
            relay.fault = refuse
            await api.create(service("i1b"), ws_route("i1b", "a", "a.example.com"))
            async with sluice.pod(relay=relay) as pod:
                await pod.answers("a.example.com")


async def test_watches_that_are_cut_all_the_time_lose_nothing_and_list_nothing_anew(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "i2", tmp_path) as sluice:
        async with relaying(plane) as relay, sluice.pod(relay=relay) as pod, plane.client() as api:
            await api.create(service("i2"))
            await pod.answers("none.example.com", status=404)
            lists = relay.asked("wsroutes", watch=False)
            for number in range(5):
                relay.cut()
                await api.create(ws_route("i2", f"r{number}", f"h{number}.example.com"))
                await pod.answers(f"h{number}.example.com")
            assert relay.asked("wsroutes", watch=False) == lists


async def test_server_that_ends_every_watch_at_once_is_not_asked_in_a_hot_loop(plane: ControlPlane, tmp_path: Path) -> None:
    async def empty(request: web.Request) -> web.StreamResponse | None:
        return web.Response(body=b"", content_type="application/json") if is_watch(request) else None

    with installed(plane, "i2b", tmp_path) as sluice:
        async with relaying(plane) as relay:
            relay.fault = empty
            async with sluice.pod(relay=relay) as pod:
                await pod.answers("none.example.com", status=404)
                before = relay.asked("wsroutes", watch=True)
                await asyncio.sleep(3.0)  # a time in which a hot loop asks thousands of times
                assert relay.asked("wsroutes", watch=True) - before <= 8


async def test_version_that_is_forgotten_leads_to_a_new_list_and_what_vanished_goes(plane: ControlPlane, tmp_path: Path) -> None:
    gone = event("ERROR", kind="Status", code=410, message="too old resource version", metadata={})
    for number, told in enumerate(("event", "status")):
        name = f"i3-{told}"
        with installed(plane, name, tmp_path) as sluice:
            async with relaying(plane) as relay, sluice.pod(relay=relay) as pod, plane.client() as api:
                await api.create(service(name), ws_route(name, "a", "a.example.com"), ws_route(name, "b", "b.example.com"))
                await pod.answers("a.example.com")
                await pod.answers("b.example.com")
                away = asyncio.Event()

                async def hide(request: web.Request, number: int = number, away: asyncio.Event = away) -> web.StreamResponse | None:
                    if not is_watch(request, "wsroutes"):
                        return None
                    await away.wait()
                    relay.fault = None
                    return status(410) if number else web.Response(body=gone, content_type="application/json")

                relay.fault = hide
                relay.cut()
                await api.delete("WsRoute", name, "a")
                await api.create(ws_route(name, "c", "c.example.com"))
                lists = relay.asked("wsroutes", watch=False)
                away.set()
                await pod.answers("c.example.com")
                await pod.answers("a.example.com", status=404)
                assert (await pod.ask("/", port="http", host="b.example.com"))[0] == 503
                assert relay.asked("wsroutes", watch=False) == lists + 1


@pytest.mark.parametrize(
    "line",
    [
        event("ERROR", kind="Status", code=500, message="etcd is away", metadata={}),
        event("ERROR", kind="Status", code=504, message="timeout", metadata={}),
        event("RENAMED", kind="WsRoute", metadata={"name": "x", "namespace": "y"}),
        b'{"type":"ADDED","object":{"kind":"WsRoute","meta',
        b'{"type":"ADDED"}\n',
        b"[]\n",
        b"\xff\xfe\n",
        b'{"type":"ADDED","object":"no object"}\n',
    ],
    ids=["error-500", "error-504", "unknown-type", "torn", "no-object", "a-list", "no-utf8", "no-mapping"],
)
async def test_nonsense_in_a_watch_costs_nothing(
    plane: ControlPlane, tmp_path: Path, line: bytes, request: pytest.FixtureRequest
) -> None:
    name = f"i4-{request.node.callspec.id}"
    with installed(plane, name, tmp_path) as sluice:
        async with relaying(plane) as relay, sluice.pod(relay=relay) as pod, plane.client() as api:
            await api.create(service(name), ws_route(name, "a", "a.example.com"))
            await pod.answers("a.example.com")
            said = asyncio.Event()

            async def nonsense(asked: web.Request) -> web.StreamResponse | None:
                if not is_watch(asked, "wsroutes"):
                    return None
                relay.fault = None
                said.set()
                return web.Response(body=line, content_type="application/json")

            relay.fault = nonsense
            relay.cut()
            async with asyncio.timeout(20):
                await said.wait()
            await api.create(ws_route(name, "b", "b.example.com"))
            await pod.answers("b.example.com")
            assert (await pod.ask("/", port="http", host="a.example.com"))[0] == 503


async def test_empty_list_after_a_full_one_is_believed_only_if_it_is_said_twice(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "i5", tmp_path) as sluice:
        async with relaying(plane) as relay, sluice.pod(relay=relay) as pod, plane.client() as api:
            await api.create(service("i5"), ws_route("i5", "a", "a.example.com"))
            await pod.answers("a.example.com")
            lied = asyncio.Event()

            async def lie(request: web.Request) -> web.StreamResponse | None:
                if is_watch(request, "wsroutes"):
                    return status(410)
                if is_list(request, "wsroutes"):
                    relay.fault = None
                    lied.set()
                    empty = {"apiVersion": "sluice.dev/v1alpha1", "kind": "WsRouteList", "items": []}
                    return web.json_response({**empty, "metadata": {"resourceVersion": "1"}})
                return None

            relay.fault = lie
            relay.cut()
            async with asyncio.timeout(20):
                await lied.wait()
            lists = relay.asked("wsroutes", watch=False)
            await until(lambda: relay.asked("wsroutes", watch=False), lambda count: count > lists)
            await api.create(ws_route("i5", "b", "b.example.com"))
            await pod.answers("b.example.com")
            assert (await pod.ask("/", port="http", host="a.example.com"))[0] == 503


async def test_pod_is_ready_after_its_first_configuration_and_not_before(plane: ControlPlane, tmp_path: Path) -> None:
    held = asyncio.Event()

    async def hold(request: web.Request) -> web.StreamResponse | None:
        if is_list(request, "endpointslices"):
            await held.wait()
        return None

    with installed(plane, "i6", tmp_path) as sluice:
        async with relaying(plane) as relay:
            relay.fault = hold
            async with sluice.pod(relay=relay) as pod:
                await until(lambda: relay.asked("secrets", watch=True), lambda count: count > 0)
                assert (await pod.ask("/readyz"))[0] == 503
                held.set()
                await until(lambda: pod.ask("/readyz"), lambda found: found[0] == 200)
                await relay.close()
                await pod.logged("KindUnreachable")
                assert (await pod.ask("/readyz"))[0] == 200


async def test_endpoints_in_many_slices_are_one_set_and_leave_at_once(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "i8", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            await api.create(service("i8"), ws_route("i8", "a", "a.example.com"))
            addresses = [f"192.0.2.{number}" for number in range(1, 101)]
            shared = (
                endpoint_slice("i8", "chat", *addresses[:60], name="chat-1"),
                endpoint_slice("i8", "chat", *addresses[50:], name="chat-2"),
            )
            await api.create(*shared)

            async def endpoints() -> set[str]:
                return {address for address in addresses if f'"{address}"' in json.dumps(await pod.routes())}

            await until(endpoints, lambda found: len(found) == 100)
            await api.delete("EndpointSlice", "i8", "chat-1")
            await until(endpoints, lambda found: found == set(addresses[50:]))
            await api.create(endpoint_slice("i8", "chat", *addresses[:60], name="chat-1"))
            await until(endpoints, lambda found: len(found) == 100)
            await api.patch("EndpointSlice", "i8", "chat-2", {"endpoints": []})
            await until(endpoints, lambda found: found == set(addresses[:60]))


async def test_kind_that_may_not_be_read_harms_no_other_and_is_said(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "i9", tmp_path) as sluice:
        role = sluice.role()
        less = json.loads(json.dumps(role))
        for rule in less["rules"]:
            rule["resources"] = [name for name in rule["resources"] if name != "secrets"] or ["nothing"]
        plane.apply(less)
        async with sluice.pod() as pod, plane.client() as api:
            await api.create(service("i9"), ws_route("i9", "a", "a.example.com"))
            await pod.answers("a.example.com")
            [problem] = await until(pod.problems, lambda problems: problems)
            assert (problem["reason"], problem["name"]) == ("KindForbidden", "secrets")
            assert await pod.healthy() == 200
            metrics = (await pod.ask("/metrics"))[1]
            assert 'sluice_problems{reason="KindForbidden"} 1.0' in metrics
            plane.apply(role)
            await until(pod.problems, lambda problems: problems == [], 40)


async def test_restarted_controller_that_may_not_read_a_kind_leaves_the_proxy_what_it_has(
    plane: ControlPlane, tmp_path: Path
) -> None:
    with installed(plane, "i9b", tmp_path) as sluice:
        role = sluice.role()
        async with sluice.pod() as pod, plane.client() as api:
            await api.create(service("i9b"), ws_route("i9b", "a", "a.example.com"))
            await pod.answers("a.example.com")
            await pod.kill_controller()
            less = json.loads(json.dumps(role))
            for rule in less["rules"]:
                rule["resources"] = [name for name in rule["resources"] if name != "wsroutes"] or ["nothing"]
            plane.apply(less)
            await pod.start_controller(*sluice.arguments)
            await pod.logged("the proxy keeps what it has")
            await until(pod.problems, lambda problems: [one["reason"] for one in problems] == ["KindForbidden"])
            assert (await pod.ask("/", port="http", host="a.example.com"))[0] == 503
            plane.apply(role)
            await until(pod.problems, lambda problems: problems == [], 40)
            await pod.answers("a.example.com")


async def test_statuses_and_events_that_may_not_be_written_do_not_keep_routes_from_being_served(
    plane: ControlPlane, tmp_path: Path
) -> None:
    with installed(plane, "i9c", tmp_path) as sluice:
        role = sluice.role()
        less = json.loads(json.dumps(role))
        less["rules"] = [rule for rule in less["rules"] if not any("/" in name or name == "events" for name in rule["resources"])]
        plane.apply(less)
        async with sluice.pod("--publish-address", "192.0.2.1") as pod, plane.client() as api:
            await api.create(service("i9c"), ws_route("i9c", "a", "a.example.com"))
            await pod.answers("a.example.com")
            await pod.logged("its status is not written")
            assert await pod.healthy() == 200
            plane.apply(role)
            await until(lambda: api.get("WsRoute", "i9c", "a"), lambda raw: conditions(raw) == GOOD, 40)


async def test_loser_of_a_conflict_takes_over_when_the_winner_goes(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "i12", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            await api.create(service("i12"), ws_route("i12", "a", "a.example.com"))
            await until(lambda: api.get("WsRoute", "i12", "a"), lambda raw: conditions(raw) == GOOD)
            await api.create(ws_route("i12", "b", "a.example.com"))
            found = await until(
                lambda: api.get("WsRoute", "i12", "b"), lambda raw: conditions(raw).get("Accepted") == "False RouteConflict"
            )
            assert conditions(found)["Programmed"] == "False Rejected"
            assert 'WsRoute "i12/a"' in next(one["message"] for one in found["status"]["conditions"] if one["type"] == "Accepted")
            await api.delete("WsRoute", "i12", "a")
            await until(lambda: api.get("WsRoute", "i12", "b"), lambda raw: conditions(raw) == GOOD)
            await pod.answers("a.example.com")


async def test_statuses_that_somebody_else_wrote_are_set_right_and_foreign_conditions_stay(
    plane: ControlPlane, tmp_path: Path
) -> None:
    with installed(plane, "i14", tmp_path) as sluice:
        async with sluice.pod(), plane.client() as api:
            await api.create(service("i14"), ws_route("i14", "a", "a.example.com"))
            found = await until(lambda: api.get("WsRoute", "i14", "a"), lambda raw: conditions(raw) == GOOD)
            theirs = {
                "type": "Theirs",
                "status": "True",
                "reason": "Theirs",
                "message": "Not ours.",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            broken = [{**one, "status": "False"} for one in found["status"]["conditions"]]
            await api.patch("WsRoute", "i14", "a", {"status": {"conditions": [*broken, theirs]}}, status=True)
            await until(lambda: api.get("WsRoute", "i14", "a"), lambda raw: conditions(raw) == {**GOOD, "Theirs": "True Theirs"})


async def test_hanging_api_server_makes_the_leader_stop_writing_before_its_lease_ends(plane: ControlPlane, tmp_path: Path) -> None:
    never = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse | None:
        if "leases" in request.path:
            await never.wait()
        return None

    with installed(plane, "hang", tmp_path) as sluice:
        async with relaying(plane) as relay, sluice.pod(relay=relay) as pod:
            await pod.logged("leading=true")
            relay.fault = hang
            await pod.logged("leading no more")
            relay.fault = None
            never.set()
            await until(lambda: pod.log[-5:], lambda lines: any("leading=true" in line for line in lines), 30)


async def test_expired_token_is_read_anew_and_no_watch_is_cut_for_it(plane: ControlPlane, tmp_path: Path) -> None:
    refused = asyncio.Event()

    async def refuse_once(request: web.Request) -> web.StreamResponse | None:
        if is_watch(request, "wsroutes") and not refused.is_set():
            refused.set()
            return status(401, "Unauthorized")
        return None

    with installed(plane, "token", tmp_path) as sluice:
        async with relaying(plane) as relay, sluice.pod(relay=relay) as pod, plane.client() as api:
            await api.create(service("token"), ws_route("token", "a", "a.example.com"))
            await pod.answers("a.example.com")
            relay.fault = refuse_once
            relay.cut()
            async with asyncio.timeout(20):
                await refused.wait()
            await api.create(ws_route("token", "b", "b.example.com"))
            await pod.answers("b.example.com")
