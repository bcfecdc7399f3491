"""The operator on a real API server, with the rights that the chart gives it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cluster.control_plane import Client, ControlPlane
from cluster.installation import GOOD, conditions, endpoint_slice, ingress, installed, service, until, ws_route

pytestmark = pytest.mark.timeout(120)


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


async def test_what_is_wrong_with_an_object_stands_in_its_conditions_and_goes_when_it_is_mended(
    plane: ControlPlane, tmp_path: Path
) -> None:
    with installed(plane, "wrong", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            route = ws_route("wrong", "chat", "chat.example.com")
            route["spec"]["rules"][0]["http"]["backends"][0]["port"] = 81
            await api.create(service("wrong"), route)
            found = await until(
                lambda: api.get("WsRoute", "wrong", "chat"),
                lambda raw: conditions(raw).get("ResolvedRefs") == "False PortNotFound",
            )
            message = next(one["message"] for one in found["status"]["conditions"] if one["type"] == "ResolvedRefs")
            assert message == ('spec.rules[0].http.backends[0].port: Service "wrong/chat" has no port 81; its port is 80.')
            assert conditions(found)["Accepted"] == "True Accepted"
            await pod.answers("chat.example.com", status=500)
            assert [one["reason"] for one in await pod.problems()] == ["PortNotFound"]
            rule = ws_route("wrong", "chat", "chat.example.com")["spec"]["rules"]
            await api.patch("WsRoute", "wrong", "chat", {"spec": {"rules": rule}})
            found = await until(lambda: api.get("WsRoute", "wrong", "chat"), lambda raw: conditions(raw) == GOOD)
            assert {one["observedGeneration"] for one in found["status"]["conditions"]} == {2}


async def test_status_is_written_only_on_change_and_other_classes_are_never_written(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "quiet", tmp_path) as sluice:
        async with sluice.pod("--publish-address", "192.0.2.1") as pod, plane.client() as api:
            other = ws_route("quiet", "other", "other.example.com")
            other["spec"]["ingressClassName"] = "another"
            foreign = ingress("quiet", "foreign", "foreign.example.com")
            foreign["spec"]["ingressClassName"] = "another"
            await api.create(service("quiet"), ws_route("quiet", "chat", "chat.example.com"), other, foreign)
            await api.create(endpoint_slice("quiet", "chat", "192.0.2.6", name="chat-stays"))
            await api.create(ingress("quiet", "shop", "shop.example.com"))
            await until(lambda: api.get("WsRoute", "quiet", "chat"), lambda raw: conditions(raw) == GOOD)
            await until(lambda: api.get("Ingress", "quiet", "shop"), lambda raw: raw["status"]["loadBalancer"].get("ingress"))
            # Endpoints come and go: the answer changes, the verdict does not.
            for address in ("192.0.2.7", "192.0.2.8"):
                slices = endpoint_slice("quiet", "chat", address)
                await api.create(slices)
                await until(pod.routes, lambda routes, at=address: at in str(routes))
                await api.delete("EndpointSlice", "quiet", "chat-1")
                await until(pod.routes, lambda routes, at=address: at not in str(routes))
            assert "status" not in await api.get("WsRoute", "quiet", "other")
            assert (await api.get("Ingress", "quiet", "foreign"))["status"] == {"loadBalancer": {}}
            writes = [event for event in plane.audit(sluice.user) if event["verb"] == "patch"]
            assert sorted(event["objectRef"]["name"] for event in writes) in (["chat", "chat", "shop"], ["chat", "shop"])


def _unready(raw: dict[str, Any]) -> dict[str, Any] | None:
    return next((one for one in raw["status"]["conditions"] if one["type"] == "NoReadyEndpoints"), None)


async def test_route_without_a_ready_endpoint_says_so_after_ten_seconds_and_takes_it_back_at_once(
    plane: ControlPlane, tmp_path: Path
) -> None:
    with installed(plane, "unready", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            await pod.logged("leading=true")
            start = time.monotonic()
            await api.create(service("unready"), ws_route("unready", "chat", "chat.example.com"))
            await until(lambda: api.get("WsRoute", "unready", "chat"), lambda raw: conditions(raw) == GOOD)
            found = await until(lambda: api.get("WsRoute", "unready", "chat"), _unready)
            took = time.monotonic() - start
            said = _unready(found)
            await api.create(endpoint_slice("unready", "chat", "192.0.2.7"))
            await until(lambda: api.get("WsRoute", "unready", "chat"), lambda raw: _unready(raw) is None, 5)
            # Gone for less than ten seconds: nothing is written.
            await api.delete("EndpointSlice", "unready", "chat-1")
            await until(pod.routes, lambda routes: "192.0.2.7" not in str(routes))
            await api.create(endpoint_slice("unready", "chat", "192.0.2.8"))
            await until(pod.routes, lambda routes: "192.0.2.8" in str(routes))

            assert took >= 10.0
            assert said is not None
            assert (said["status"], said["reason"], said["observedGeneration"]) == ("True", "NoReadyEndpoints", 1)
            assert 'Service "unready/chat" has no endpoint that is ready for port 80, so requests get 503' in said["message"]
            writes = [one for one in plane.audit(sluice.user) if one["verb"] == "patch" and one["objectRef"]["name"] == "chat"]
            assert len(writes) in (3, 4), "Pending may be written first"


async def test_ingress_gets_addresses_and_one_event_per_verdict(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "events", tmp_path) as sluice:
        async with sluice.pod("--publish-address", "192.0.2.1,lb.example.com"), plane.client() as api:
            await api.create(ingress("events", "shop", "shop.example.com"))
            found = await until(
                lambda: api.get("Ingress", "events", "shop"), lambda raw: raw["status"]["loadBalancer"].get("ingress")
            )
            assert found["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]
            events = await until(lambda: api.get("Event", "events"), lambda raw: raw["items"])
            [event] = events["items"]
            assert (event["type"], event["reason"]) == ("Warning", "BackendNotFound")
            assert event["message"].startswith("spec.rules[0].http.paths[0].backend.service.name: ")
            assert "BackendNotFound" in plane.kubectl("describe", "ingress", "shop", "-n", "events").stdout
            await api.create(service("events"))
            events = await until(lambda: api.get("Event", "events"), lambda raw: len(raw["items"]) == 2)
            assert {(one["type"], one["reason"]) for one in events["items"]} == {
                ("Warning", "BackendNotFound"),
                ("Normal", "Accepted"),
            }


async def test_addresses_of_the_publish_service_are_followed(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "publish", tmp_path) as sluice:
        async with sluice.pod("--publish-service", "publish/lb"), plane.client() as api:
            await api.create(service("publish"), ingress("publish", "shop", "shop.example.com"))
            await _follows(api, "publish", balancer="publish")


async def _follows(api: Client, namespace: str, *, balancer: str) -> None:
    """See the Ingress "shop" get each address that a load balancer gets in the other namespace."""
    publish = service(balancer, "lb")
    publish["spec"]["type"] = "LoadBalancer"
    await api.create(publish)
    for address in ("192.0.2.5", "192.0.2.6"):
        change = {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}
        await api.patch("Service", balancer, "lb", change, status=True)
        await until(
            lambda: api.get("Ingress", namespace, "shop"),
            lambda raw, at=address: [{"ip": at}] == raw["status"]["loadBalancer"].get("ingress"),
        )


async def test_nodes_of_ready_pods_are_followed_with_the_rights_of_the_chart(plane: ControlPlane, tmp_path: Path) -> None:
    """Ports of the nodes instead of a Service: the leader knows the pods of all nodes by their labels."""
    labels = {"app.kubernetes.io/name": "sluice", "app.kubernetes.io/instance": "sluice"}
    with installed(plane, "nodes", tmp_path, hostPorts__enabled="true") as sluice:
        flags = ("--publish-nodes", ",".join(f"{name}={value}" for name, value in labels.items()))
        async with sluice.pod(*flags) as pod, plane.client() as api:

            async def runs(name: str, address: str, *, ready: bool = True, **more: str) -> None:
                spec = {"containers": [{"name": "a", "image": "a"}], "serviceAccountName": sluice.account}
                metadata = {"name": name, "namespace": "nodes", "labels": {**labels, **more}}
                await api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
                conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
                status = {"hostIP": address, "hostIPs": [{"ip": address}], "conditions": conditions}
                await api.patch("Pod", "nodes", name, {"status": status}, status=True)

            async def shown(*addresses: str) -> None:
                await until(
                    lambda: api.get("Ingress", "nodes", "shop"),
                    lambda raw: [{"ip": address} for address in addresses] == raw["status"]["loadBalancer"].get("ingress"),
                )

            await api.create(service("nodes"), ingress("nodes", "shop", "shop.example.com"))
            await runs("sluice-1", "192.0.2.21")
            await runs("sluice-2", "192.0.2.3", ready=False)
            await runs("other", "192.0.2.4", **{"app.kubernetes.io/instance": "another"})
            await shown("192.0.2.21")
            change = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
            await api.patch("Pod", "nodes", "sluice-2", change, status=True)
            await shown("192.0.2.3", "192.0.2.21")
            await api.delete("Pod", "nodes", "sluice-1")
            await shown("192.0.2.3")
            assert not any("error=" in line for line in pod.log)


async def test_namespace_that_is_being_deleted_gives_no_warnings(plane: ControlPlane, tmp_path: Path) -> None:
    """Nothing can be made in it, Events neither; the control plane of the tests has nobody who would delete what is in it."""
    plane.kubectl("create", "namespace", "doomed")
    with installed(plane, "mourning", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            lost = ingress("doomed", "lost", "lost.example.com")
            lost["spec"]["ingressClassName"] = "mourning"
            await api.create(service("doomed"), lost)
            await pod.answers("lost.example.com")
            plane.kubectl("delete", "namespace", "doomed", "--wait=false")
            await api.delete("Service", "doomed", "chat")
            await until(lambda: plane.audit(sluice.user), lambda events: any(_is_refused(event) for event in events))
            # The next one is written after what was refused has been dealt with.
            await api.create(ingress("mourning", "shop", "shop.example.com"))
            await until(lambda: api.get("Event", "mourning"), lambda raw: raw["items"])

    assert [line for line in pod.log if "WARNING" in line and "sluice.status" in line] == []


def _is_refused(event: dict[str, Any]) -> bool:
    about = (event["verb"], event["objectRef"]["resource"], event["objectRef"].get("namespace"))
    return (*about, event["responseStatus"]["code"]) == ("create", "events", "doomed", 403)


async def test_objects_that_go_are_not_served_and_a_class_that_goes_takes_its_objects_with_it(
    plane: ControlPlane, tmp_path: Path
) -> None:
    with installed(plane, "gone", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            hosts = [f"h{number}.example.com" for number in range(3)]
            await api.create(service("gone"), *(ws_route("gone", f"r{n}", host) for n, host in enumerate(hosts)))
            for host in hosts:
                await pod.answers(host)
            await api.delete("WsRoute", "gone", "r0")
            await pod.answers(hosts[0], status=404)
            await pod.answers(hosts[1])
            await api.delete("IngressClass", "", "gone")
            await pod.answers(hosts[1], status=404)
            await pod.answers(hosts[2], status=404)


async def test_a_killed_controller_comes_back_and_nothing_is_loaded_anew(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "again", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            await api.create(service("again"), ws_route("again", "chat", "chat.example.com"))
            await pod.answers("chat.example.com")
            applied = await _applied(pod)
            await pod.kill_controller(signal.SIGKILL)
            await pod.answers("chat.example.com")
            await pod.start_controller(*sluice.arguments)
            await pod.logged("routes=")
            # What changes next is applied, so the proxy has heard of the new controller; nothing was before it.
            await api.create(ws_route("again", "more", "more.example.com"))
            await pod.answers("more.example.com")
            assert await _applied(pod) == applied + 1


async def _applied(pod: object) -> int:
    """How many configurations the proxy has put in place."""
    _, text = await pod.ask("/metrics")  # type: ignore[attr-defined]
    line = next(line for line in text.splitlines() if line.startswith("sluice_config_propagation_seconds_count"))
    return int(float(line.split()[-1]))


async def test_at_sigterm_the_lease_is_given_up_and_the_proxy_is_fed_until_it_has_gone(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "ending", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            await api.create(service("ending"))
            await pod.answers("chat.example.com", status=404)
            await pod.logged("leading=true")
            assert pod.controller is not None
            pod.controller.send_signal(signal.SIGTERM)
            await pod.logged("leading=false")
            lease = plane.get("lease", "sluice-leader", "-n", "ending")
            assert not lease["spec"].get("holderIdentity")
            await api.create(ws_route("ending", "chat", "chat.example.com"))
            await pod.answers("chat.example.com")
            assert pod.proxy is not None
            pod.proxy.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                assert await pod.proxy.wait() == 0
                assert await pod.controller.wait() == 0


async def test_one_of_two_replicas_writes_and_the_other_goes_on_when_it_ends(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "pair", tmp_path) as sluice:
        async with sluice.pod(name="pair-0") as first:
            await first.logged("leading=true")
            async with sluice.pod(name="pair-1") as second, plane.client() as api:
                await second.answers("chat.example.com", status=404)
                await api.create(service("pair"), ws_route("pair", "chat", "chat.example.com"))
                await first.answers("chat.example.com")
                await second.answers("chat.example.com")
                await until(lambda: api.get("WsRoute", "pair", "chat"), lambda raw: conditions(raw) == GOOD)
                assert not any("leading=true" in line for line in second.log)
                assert first.controller is not None
                first.controller.send_signal(signal.SIGTERM)
                await second.logged("leading=true")
                await api.create(ws_route("pair", "more", "more.example.com"))
                await until(lambda: api.get("WsRoute", "pair", "more"), lambda raw: conditions(raw) == GOOD)


async def test_two_installations_that_want_different_statuses_make_no_war(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "war", tmp_path) as one, installed(plane, "peace", tmp_path) as two:
        two.arguments = one.arguments  # both serve the same class, by mistake
        async with one.pod("--publish-address", "192.0.2.1") as first, two.pod("--publish-address", "192.0.2.2") as second:
            await first.logged("leading=true")
            await second.logged("leading=true")
            async with plane.client() as api:
                await api.create(service("war"), ingress("war", "shop", "shop.example.com"))
                await until(lambda: len(_writes(plane, one.user, two.user)), lambda count: count >= 5, 30)
                # The sixth and later writes wait 4 s and more each: fewer than a write a second from here on.
                versions = len(_writes(plane, one.user, two.user))
                await asyncio.sleep(4.0)
                assert len(_writes(plane, one.user, two.user)) - versions <= 4


def _writes(plane: ControlPlane, *users: str) -> list[str]:
    return [
        event["requestURI"]
        for user in users
        for event in plane.audit(user)
        if event["verb"] == "patch" and "/ingresses/shop/status" in event["requestURI"]
    ]


async def test_namespaced_installation_reads_and_serves_its_namespaces_only(plane: ControlPlane, tmp_path: Path) -> None:
    for name in ("team-a", "team-b", "team-c"):
        plane.kubectl("create", "namespace", name)
    with installed(plane, "teams", tmp_path, watchNamespaces="{team-a,team-b}") as sluice:
        async with sluice.pod("--watch-namespaces", "team-a,team-b") as pod, plane.client() as api:
            for name in ("team-a", "team-b", "team-c"):
                route = ws_route(name, "chat", f"{name}.example.com")
                route["spec"]["ingressClassName"] = "teams"
                await api.create(service(name), route)
            await pod.answers("team-a.example.com")
            await pod.answers("team-b.example.com")
            await pod.answers("team-c.example.com", status=404)
            assert await pod.problems() == []
            seen = [event for event in plane.audit(sluice.user) if event["verb"] in ("list", "watch")]
            reads = {event["objectRef"].get("namespace", "") for event in seen}
            assert reads == {"", "team-a", "team-b"}  # without a namespace: IngressClasses


async def test_publish_service_outside_of_the_watched_namespaces_is_followed_and_no_other_is_read(
    plane: ControlPlane, tmp_path: Path
) -> None:
    for name in ("inside", "publisher"):
        plane.kubectl("create", "namespace", name)
    values = {"watchNamespaces": "{inside}", "status__publishService": "publisher/lb"}
    with installed(plane, "outside", tmp_path, **values) as sluice:
        arguments = ("--watch-namespaces", "inside", "--publish-service", "publisher/lb")
        async with sluice.pod(*arguments) as pod, plane.client() as api:
            shop = ingress("inside", "shop", "shop.example.com")
            shop["spec"]["ingressClassName"] = "outside"
            await api.create(service("publisher"), service("inside"), shop)
            await _follows(api, "inside", balancer="publisher")
            assert await pod.problems() == []
            there = [event for event in plane.audit(sluice.user) if event["objectRef"].get("namespace") == "publisher"]
            assert {(event["verb"], event["objectRef"].get("name")) for event in there} == {("list", "lb"), ("watch", "lb")}
            assert {event["responseStatus"]["code"] for event in there} == {200}


async def test_publish_service_that_may_not_be_read_keeps_nothing_from_being_served(plane: ControlPlane, tmp_path: Path) -> None:
    for name in ("kept", "closed"):
        plane.kubectl("create", "namespace", name)
    with installed(plane, "refused", tmp_path, watchNamespaces="{kept}") as sluice:
        arguments = ("--watch-namespaces", "kept", "--publish-service", "closed/lb")
        async with sluice.pod(*arguments) as pod, plane.client() as api:
            route = ws_route("kept", "chat", "chat.example.com")
            route["spec"]["ingressClassName"] = "refused"
            await api.create(service("kept"), route)
            await pod.answers("chat.example.com")
            await pod.kill_controller()
            await pod.start_controller(*sluice.arguments, *arguments)
            other = ws_route("kept", "more", "more.example.com")
            other["spec"]["ingressClassName"] = "refused"
            await api.create(other)
            await pod.answers("more.example.com")
            found = await until(pod.problems, lambda problems: problems)
            assert [(one["reason"], one["message"].split(":")[0]) for one in found] == [("KindForbidden", "services in closed")]


async def test_every_request_is_allowed_and_every_right_is_used(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "rights", tmp_path) as sluice:
        async with sluice.pod("--publish-address", "192.0.2.1"), plane.client() as api:
            await api.create(service("rights"), ws_route("rights", "chat", "chat.example.com"))
            await api.create(ingress("rights", "shop", "shop.example.com", "missing"))
            await until(lambda: api.get("WsRoute", "rights", "chat"), lambda raw: conditions(raw) == GOOD)
            await until(lambda: api.get("Event", "rights"), lambda raw: raw["items"])
            # The same problem again, after it was solved: the Event that is there is brought up to date.
            await api.create(service("rights", "missing"))
            await until(lambda: api.get("Event", "rights"), lambda raw: len(raw["items"]) == 2)
            await api.delete("Service", "rights", "missing")
            await until(lambda: _used(plane, sluice.user), lambda used: ("patch", "", "events") in used)
            await until(lambda: _used(plane, sluice.user), lambda used: ("update", "coordination.k8s.io", "leases") in used)
            refused = [event["requestURI"] for event in plane.audit(sluice.user) if event["responseStatus"]["code"] == 403]
            assert refused == []
            granted = {
                (verb, group, resource)
                for one in sluice.objects
                if one["kind"] in ("ClusterRole", "Role") and not one["metadata"]["name"].endswith(("-view", "-edit"))
                for rule in one["rules"]
                for verb in rule["verbs"]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
            }
            used = _used(plane, sluice.user)
            assert used <= granted
            # `get` on what is watched is what kubectl would use in the same place; we list.
            assert {right for right in granted - used if right[0] != "get"} == set()


def _used(plane: ControlPlane, user: str) -> set[tuple[str, str, str]]:
    found = set()
    for event in plane.audit(user):
        ref = event.get("objectRef")
        if ref is not None:
            resource = ref["resource"] + (f"/{ref['subresource']}" if ref.get("subresource") else "")
            found.add((event["verb"], ref.get("apiGroup", ""), resource))
    return found


async def test_controller_that_dies_is_started_again_by_its_restarter_and_the_container_stays_up(
    plane: ControlPlane, tmp_path: Path
) -> None:
    with installed(plane, "kept", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            await api.create(service("kept"), ws_route("kept", "a", "a.example.com"))
            await pod.answers("a.example.com")
            for number in range(2):
                dead, said = pod.controller_pid, len(pod.log)
                os.kill(dead, signal.SIGKILL)
                await pod.logged("the controller ended by signal 9", after=said)
                await api.create(ws_route("kept", f"n{number}", f"n{number}.example.com"))
                await pod.answers(f"n{number}.example.com")
                assert pod.controller_pid not in (0, dead)
            assert pod.controller is not None
            assert pod.controller.returncode is None
            kept = pod.controller_pid
            await pod.kill_controller(signal.SIGKILL)  # the restarter: its controller ends with it
            await until(lambda: Path(f"/proc/{kept}").exists(), lambda there: not there)


def test_settings_that_make_no_sense_end_the_container_and_say_why(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "controller.cli", "controller", "--control-socket", str(tmp_path / "s.sock"), "--health", ":0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KUBE")} | {"HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 2
    assert "No API server is configured" in done.stderr
    assert "started again" not in done.stderr


async def test_object_that_ceases_to_be_ours_loses_what_we_said_of_it(plane: ControlPlane, tmp_path: Path) -> None:
    theirs = {"type": "Theirs", "status": "True", "reason": "X", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    with installed(plane, "leaves", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            await api.create(service("leaves"), ws_route("leaves", "a", "a.example.com"), ws_route("leaves", "b", "b.example.com"))
            for name in ("a", "b"):
                found = await until(lambda one=name: api.get("WsRoute", "leaves", one), lambda raw: conditions(raw) == GOOD)
            change = {"status": {"conditions": [*found["status"]["conditions"], theirs]}}
            await api.patch("WsRoute", "leaves", "b", change, status=True)
            await api.patch("WsRoute", "leaves", "b", {"spec": {"ingressClassName": "another"}})
            await until(lambda: api.get("WsRoute", "leaves", "b"), lambda raw: conditions(raw) == {"Theirs": "True X"})
            await pod.answers("b.example.com", status=404)
            await api.delete("IngressClass", "", "leaves")
            await until(lambda: api.get("WsRoute", "leaves", "a"), lambda raw: conditions(raw) == {})


async def test_statuses_that_are_written_are_not_read_as_new_objects(plane: ControlPlane, tmp_path: Path) -> None:
    with installed(plane, "reread", tmp_path) as sluice:
        async with sluice.pod() as pod, plane.client() as api:
            await api.create(service("reread"), ws_route("reread", "a", "a.example.com"))
            await until(lambda: api.get("WsRoute", "reread", "a"), lambda raw: conditions(raw) == GOOD)
            # Made anew under the same name: the generation is 1 again, the object another.
            await api.delete("WsRoute", "reread", "a")
            await api.create(ws_route("reread", "a", "other.example.com"))
            await pod.answers("other.example.com")
            await pod.answers("a.example.com", status=404)
            await until(lambda: api.get("WsRoute", "reread", "a"), lambda raw: conditions(raw) == GOOD)
