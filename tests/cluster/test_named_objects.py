"""Named Secrets and ConfigMaps over a real API server: rights, what is asked for, limits, a thousand names, restarts."""

import asyncio
import base64
import contextlib
import io
import json
import re
import secrets
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import kopf
import pytest
import uvloop
from aiohttp import web
from cluster.control_plane import Client, ControlPlane, control_plane, held_port
from cluster.descriptors import sockets
from cluster.relay import Relay, relaying

from controller.resources.reading.named_objects import Reference
from controller.resources.reading.object_ref import ObjectRef
from controller.sources import name_reflector
from controller.sources.api_session import ApiSession
from controller.sources.name_reflector import ASKING
from controller.sources.named_grants import LIMITS, MEBIBYTE
from controller.sources.named_objects import READING, ClusterNamedObjects

pytestmark = pytest.mark.timeout(240)
READ = "--verb=get,list,watch"


def reference(target: ObjectRef, created: str = "", keys: tuple[str, ...] = ()) -> Reference:
    kind = "Secret" if target.kind == "Secret" else "ConfigMap"
    return Reference(ObjectRef("Ingress", target.namespace, "web"), created, f"f.{target.name}", kind, target.name, keys)


def secret(ref: ObjectRef, **data: bytes) -> dict[str, object]:
    values = {key: base64.b64encode(value).decode() for key, value in data.items()}
    metadata = {"namespace": ref.namespace, "name": ref.name}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": values}


async def change(api: Client, ref: ObjectRef, **data: bytes) -> None:
    await api.patch("Secret", ref.namespace, ref.name, {"data": secret(ref, **data)["data"]})


async def store(api: Client, ref: ObjectRef, value: bytes) -> None:
    """Create a Secret of one value, or give it that value."""
    body = io.BytesIO(json.dumps(secret(ref, k=value)).encode())
    url, headers = api.path("Secret", ref.namespace, ref.name), {"Content-Type": "application/apply-patch+yaml"}
    async with api.session.patch(url, params={"fieldManager": "test", "force": "true"}, data=body, headers=headers) as answer:
        assert answer.status in (200, 201), await answer.text()


class Followed:
    """Named objects under way."""

    def __init__(self) -> None:
        self._heard = asyncio.Event()
        self.named = ClusterNamedObjects(lambda _: self._heard.set())

    async def until(self, good: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until a change of a state makes something true."""
        try:
            async with asyncio.timeout(seconds):
                while not good():
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds:g} s") from None

    def values(self, ref: ObjectRef) -> dict[str, bytes] | None:
        state = self.named.states.get(ref)
        return None if state is None or state.content is None else {key: value.data for key, value in state.content.data.items()}

    def said(self, ref: ObjectRef) -> str:
        state = self.named.states.get(ref)
        return "" if state is None or state.problem is None else state.problem.text


@contextlib.asynccontextmanager
async def following(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Followed]:
    """Follow names in this process, logged in by a kubeconfig."""
    # The client that kopf asks looks at KUBECONFIG once, at its import.
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    session = ApiSession(kopf.OperatorSettings())
    session.install()
    followed = Followed()
    running = asyncio.create_task(followed.named.run())
    try:
        yield followed
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await session.close()


@pytest.fixture(autouse=True)
async def nothing_left_open() -> AsyncIterator[None]:
    """Connections over TLS close a few turns of the loop after their session; a loop that ends first leaves them open."""
    before = sockets()
    yield
    await closed(before)


async def closed(before: set[str]) -> None:
    async with asyncio.timeout(20):
        while sockets() - before:
            await asyncio.sleep(0.01)


def own_bytes() -> int:
    """Return how much memory this process has for itself."""
    found = re.search(r"^Pss_Anon: +([0-9]+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


async def make_namespace(api: Client, name: str) -> None:
    await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def account(plane: ControlPlane, namespace: str) -> tuple[Path, str]:
    """Make an account without rights; return its kubeconfig and its user."""
    plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    token = plane.token("reader", namespace)
    return plane.kubeconfig(token, name=f"reader-{namespace}"), f"system:serviceaccount:{namespace}:reader"


def allow(plane: ControlPlane, namespace: str, *more: str) -> None:
    plane.kubectl("create", "role", "reader", READ, "--resource=secrets,configmaps", *more, "-n", namespace)
    bind(plane, namespace, namespace)


def bind(plane: ControlPlane, namespace: str, of: str) -> None:
    plane.kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={of}:reader", "-n", namespace)


def listen(relay: Relay) -> list[bytes]:
    """Return the lines of all watches, as they come."""
    lines: list[bytes] = []

    def note(request: web.Request, line: bytes) -> bytes:
        del request
        lines.append(line)
        return line

    relay.edit = note
    return lines


async def test_named_objects_are_followed_and_nothing_of_any_other_is_asked_for_or_received(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, headers = ObjectRef("Secret", "named", "users"), ObjectRef("ConfigMap", "named", "headers")
    other = ObjectRef("Secret", "named", "users-of-somebody-else")
    async with plane.client() as api, relaying(plane) as relay:
        await make_namespace(api, "named")
        await api.create(secret(other, auth=b"never-1"), secret(users, auth=b"a:b", more=b"never-2"))
        _, user = account(plane, "named")
        allow(plane, "named")
        relayed = plane.kubeconfig(plane.token("reader", "named"), server=relay.url, ca=relay.ca, name="reader-named-relayed")
        lines = listen(relay)
        async with following(relayed, monkeypatch) as followed:
            followed.named.want([reference(users, keys=("auth",)), reference(headers)])
            await followed.until(lambda: followed.values(users) == {"auth": b"a:b"} and "was not found" in followed.said(headers))
            await api.create({"kind": "ConfigMap", "metadata": {"namespace": "named", "name": "headers"}, "data": {"X-A": "1"}})
            await followed.until(lambda: followed.values(headers) == {"X-A": b"1"}, 5)
            await change(api, other, auth=b"never-3")
            await change(api, users, auth=b"c:d")
            await followed.until(lambda: followed.values(users) == {"auth": b"c:d"}, 5)
            await api.delete("Secret", "named", "users")
            await followed.until(lambda: "was not found" in followed.said(users), 5)
            await api.create(secret(users, auth=b"e:f"))
            await followed.until(lambda: followed.values(users) == {"auth": b"e:f"}, 5)
            await api.delete("ConfigMap", "named", "headers")
            await followed.until(lambda: "was not found" in followed.said(headers), 5)

    events = plane.audit(user)
    selectors = {
        urllib.parse.parse_qs(urllib.parse.urlsplit(one["requestURI"]).query).get("fieldSelector", [""])[0] for one in events
    }
    assert {one["objectRef"]["name"] for one in events} == {"users", "headers"}
    assert selectors == {"", "metadata.name=users", "metadata.name=headers"}
    assert {one["verb"] for one in events} == {"get", "list", "watch"}
    assert {one["verb"] for one in events if "fieldSelector" not in one["requestURI"]} == {"get"}
    received = b"".join(lines)
    assert b'"users"' in received
    assert b"users-of-somebody-else" not in received
    assert b'"data"' not in received  # contents come by reads alone


async def test_right_is_said_to_be_missing_until_it_is_given_and_again_when_it_is_withdrawn(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, elsewhere = ObjectRef("Secret", "rights", "users"), ObjectRef("Secret", "rights-elsewhere", "users")
    monkeypatch.setattr(name_reflector.NameReflector, "backoff_most", 2.0)
    async with plane.client() as api:
        for name in ("rights", "rights-elsewhere"):
            await make_namespace(api, name)
        await api.create(secret(users, auth=b"a"), secret(elsewhere, auth=b"x"))
        kubeconfig, _ = account(plane, "rights")
        async with following(kubeconfig, monkeypatch) as followed:
            followed.named.want([reference(users), reference(elsewhere)])
            await followed.until(lambda: all("may not be read" in followed.said(ref) for ref in (users, elsewhere)))
            assert 'cannot list resource "secrets" in API group "" in the namespace "rights"' in followed.said(users)
            allow(plane, "rights")
            await followed.until(lambda: (followed.values(users), followed.said(users)) == ({"auth": b"a"}, ""), 10)
            assert followed.values(elsewhere) is None
            plane.kubectl("delete", "rolebinding", "reader", "-n", "rights")
            await change(api, users, auth=b"b")  # the watch that is open goes on, the read is refused
            await followed.until(lambda: "may not be read" in followed.said(users), 10)
            assert followed.values(users) == {"auth": b"a"}
            bind(plane, "rights", "rights")
            await followed.until(lambda: (followed.values(users), followed.said(users)) == ({"auth": b"b"}, ""), 15)


async def test_role_for_one_name_alone_is_enough_for_it(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """RBAC takes `metadata.name` of a field selector for the name (Kubernetes, "Referring to resources")."""
    users, other = ObjectRef("Secret", "one-name", "users"), ObjectRef("Secret", "one-name", "other")
    async with plane.client() as api:
        await make_namespace(api, "one-name")
        await api.create(secret(users, auth=b"a"), secret(other, auth=b"x"))
        kubeconfig, _ = account(plane, "one-name")
        allow(plane, "one-name", "--resource-name=users")
        async with following(kubeconfig, monkeypatch) as followed:
            followed.named.want([reference(users), reference(other)])
            await followed.until(lambda: followed.values(users) == {"auth": b"a"} and "may not be read" in followed.said(other))
            await change(api, users, auth=b"b")
            await followed.until(lambda: followed.values(users) == {"auth": b"b"}, 5)


async def test_namespace_that_names_thousands_and_stores_mebibytes_costs_its_neighbour_nothing(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    innocent = ObjectRef("Secret", "innocent", "users")
    attacker = [ObjectRef("Secret", "attacker", f"s{number:04}") for number in range(5000)]
    stored = attacker[:20]
    async with plane.client() as api, plane.client() as innocents:
        for name in ("attacker", "innocent"):
            await make_namespace(api, name)
        await api.create(secret(innocent, auth=b"a"))
        for ref in stored:
            await store(api, ref, secrets.token_bytes(MEBIBYTE))
        async with following(plane.kubeconfig(), monkeypatch) as followed:
            before = own_bytes()
            # The attacker's objects are the older ones: its names come first, wherever that may count.
            followed.named.want([*(reference(ref, "1") for ref in attacker), reference(innocent, "2")])
            await followed.until(lambda: followed.values(innocent) == {"auth": b"a"}, 10)
            await followed.until(lambda: followed.named.settled, 120)
            said = [followed.said(ref).partition(":")[0] for ref in attacker]
            absent = "was not found; a Secret of this namespace would be accepted."
            assert said == [""] * 8 + ["is not kept"] * 12 + [absent] * 80 + ["is not read"] * 4900
            assert followed.named.kept_bytes == LIMITS.bytes_of_namespace + 1

            async def change_all() -> None:
                for number in range(2):
                    await asyncio.gather(*(store(api, ref, bytes([number]) * MEBIBYTE) for ref in stored))

            changing = asyncio.create_task(change_all())
            slowest = 0.0
            for number in range(10):
                await change(innocents, innocent, auth=b"%d" % number)
                start = time.monotonic()
                await followed.until(lambda number=number: followed.values(innocent) == {"auth": b"%d" % number}, 10)  # type: ignore[misc]
                slowest = max(slowest, time.monotonic() - start)
            await changing
            assert slowest < 5
            assert followed.named.kept_bytes <= LIMITS.bytes_of_namespace + 1
            assert own_bytes() - before < 120 * MEBIBYTE
            followed.named.want([reference(innocent, "2")])
            assert followed.named.kept_bytes == 1
            assert followed.values(innocent) == {"auth": b"9"}
        for ref in stored:
            await api.delete("Secret", ref.namespace, ref.name)


def names_of(namespaces: int) -> list[ObjectRef]:
    return [ObjectRef("Secret", f"n{number % namespaces}", f"s{number:03}") for number in range(LIMITS.names)]


async def create_all(plane: ControlPlane, refs: list[ObjectRef]) -> None:
    async with plane.client() as api:
        for namespace in {ref.namespace for ref in refs}:
            await make_namespace(api, namespace)
        await api.create(*(secret(ref, k=b"0") for ref in refs))


def test_thousand_names_take_a_connection_each_and_bounded_time_and_memory(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the loop that the controller runs on: TLS on the standard one takes four times the memory."""
    refs = names_of(10)

    async def follow() -> None:
        opened = sockets()
        await create_all(plane, refs)
        async with following(plane.kubeconfig(), monkeypatch) as followed:
            before, sockets_before, start = own_bytes(), len(sockets()), time.monotonic()
            followed.named.want([reference(ref) for ref in refs])
            await followed.until(lambda: followed.named.settled, 60)
            assert all(followed.values(ref) == {"k": b"0"} for ref in refs)
            assert time.monotonic() - start < 60
            await watched(len(refs), sockets_before)
            assert own_bytes() - before < 120 * MEBIBYTE
            assert len(sockets()) - sockets_before <= LIMITS.names + ASKING + READING
            async with plane.client() as api:
                await change(api, refs[500], k=b"1")
                await followed.until(lambda: followed.values(refs[500]) == {"k": b"1"}, 5)
            followed.named.want([])
            async with asyncio.timeout(10):
                while len(sockets()) - sockets_before > ASKING + READING:
                    await asyncio.sleep(0.05)
        await closed(opened)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(follow())


@pytest.mark.timeout(400)
async def test_thousand_names_are_followed_over_restarts_of_the_api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = names_of(10)
    with held_port() as port, contextlib.ExitStack() as stack:
        plane = stack.enter_context(control_plane(folder=tmp_path, port=port))
        await create_all(plane, refs)
        async with following(plane.kubeconfig(), monkeypatch) as followed:
            sockets_before = len(sockets())
            followed.named.want([reference(ref) for ref in refs])
            await followed.until(lambda: followed.named.settled, 90)
            await watched(len(refs), sockets_before)
            async with plane.client() as api:
                await asyncio.gather(*(change(api, ref, k=b"1") for ref in refs[::50]))
            await followed.until(lambda: all(followed.values(ref) == {"k": b"1"} for ref in refs[::50]), 10)

            for restart in (b"2", b"3"):
                stack.close()
                assert followed.values(refs[1]) == {"k": b"0"}  # nothing that was read is lost meanwhile
                plane = stack.enter_context(control_plane(folder=tmp_path, port=port))
                async with plane.client() as api:
                    await api.delete("Secret", refs[0].namespace, refs[0].name)
                    await asyncio.gather(*(change(api, ref, k=restart) for ref in refs[50::50]))
                    await followed.until(lambda now=restart: all(followed.values(ref) == {"k": now} for ref in refs[50::50]), 60)  # type: ignore[misc]
                    await followed.until(lambda: "was not found" in followed.said(refs[0]), 60)
                    await api.create(secret(refs[0], k=restart))
                    await followed.until(lambda now=restart: followed.values(refs[0]) == {"k": now}, 60)  # type: ignore[misc]
                await watched(len(refs), sockets_before)
            assert len(sockets()) - sockets_before <= LIMITS.names + ASKING + READING


async def watched(names: int, sockets_before: int) -> None:
    """Wait until every name has its watch, which takes a connection."""
    async with asyncio.timeout(90):
        while len(sockets()) - sockets_before < names:
            await asyncio.sleep(0.05)
