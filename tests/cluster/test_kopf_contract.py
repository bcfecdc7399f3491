"""What is used of kopf, against a real API server: pages, versions that are forgotten, long lines, refusals, tokens that change."""

import asyncio
import base64
import contextlib
import json
import logging
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import pytest
from aiohttp import web
from cluster.control_plane import Client, ControlPlane, control_plane
from cluster.descriptors import sockets
from cluster.installation import installed, service, until, ws_route
from cluster.relay import is_list, relaying, status
from kopf._cogs.clients import api, errors, fetching
from kopf._cogs.structs.references import NamespaceName, Resource

from controller.resources.reading.object_ref import ObjectRef
from controller.sources import api_session
from controller.sources.api_session import ApiSession
from controller.sources.cluster import KINDS, ClusterSource
from controller.sources.reflector import CHUNK, watch_settings

pytestmark = pytest.mark.timeout(180)
LOG = logging.getLogger("contract")
SERVICES = next(kind for kind in KINDS if kind.name == "Service")
SECRETS = next(kind for kind in KINDS if kind.name == "Secret")
MEBIBYTE = 1024 * 1024


def resource(kind: Any) -> Resource:
    return Resource(kind.group, kind.version, kind.plural, kind=kind.name, namespaced=kind.namespaced)


@pytest.fixture(autouse=True)
async def nothing_left_open() -> AsyncIterator[None]:
    """Watches over TLS close a few turns of the loop after their session; a loop that ends first leaves them open."""
    before = sockets()
    yield
    await until(lambda: sockets() - before, lambda left: not left)


def log_in_by(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let logins of this process read a kubeconfig; the client that kopf asks looks at KUBECONFIG once, at its import."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))


@contextlib.asynccontextmanager
async def logged_in(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiSession]:
    """Let kopf's client use what the controller uses, logged in by a kubeconfig."""
    log_in_by(kubeconfig, monkeypatch)
    access = ApiSession(kopf.OperatorSettings())
    access.install()
    try:
        yield access
    finally:
        await access.close()


async def watch(kind: Any, namespace: str, version: str) -> aiohttp.ClientResponse:
    """Open a watch as a reflector does."""
    params = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": "60"}
    url = resource(kind).get_url(namespace=NamespaceName(namespace), params=params)
    timeout = aiohttp.ClientTimeout(total=70, sock_connect=10)
    return await api.request(method="get", url=url, logger=LOG, settings=watch_settings(kind), timeout=timeout)


async def pages(kind: Any, namespace: str, size: int) -> AsyncIterator[tuple[list[str], str]]:
    """List by pages; gives names and version of each."""
    settings = watch_settings(kind)
    settings.watching.chunk_size = size
    async for items, version in fetching.fetch_objs(
        logger=LOG, settings=settings, resource=resource(kind), namespace=NamespaceName(namespace)
    ):
        assert {(one["apiVersion"], one["kind"]) for one in items} <= {("v1", kind.name)}
        yield [one["metadata"]["name"] for one in items], version


async def make_namespace(api_client: Client, name: str) -> None:
    await api_client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


async def test_pages_are_one_picture_of_one_version_and_a_watch_goes_on_from_it(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with logged_in(plane.kubeconfig(), monkeypatch), plane.client() as client:
        await make_namespace(client, "paged")
        await client.create(*(service("paged", f"s{number}") for number in range(5)))
        found, versions = [], set()
        async for names, version in pages(SERVICES, "paged", 2):
            found.append(names)
            versions.add(version)
            # What comes meanwhile is in no page, and is what the watch begins with.
            await client.create(service("paged", f"t{len(found)}"))
        async with await watch(SERVICES, "paged", version) as response:
            lines = api.iter_jsonlines(response.content)
            events = [json.loads(await anext(lines)) for _ in range(3)]

    assert found == [["s0", "s1"], ["s2", "s3"], ["s4"]]
    assert len(versions) == 1
    assert [(one["type"], one["object"]["metadata"]["name"]) for one in events] == [("ADDED", f"t{number}") for number in (1, 2, 3)]


async def test_continue_token_of_a_version_that_is_forgotten_is_refused_with_410(monkeypatch: pytest.MonkeyPatch) -> None:
    # A store that forgets after a second what was overwritten, as one that is compacted during a slow list.
    with control_plane(extra=["--etcd-compaction-interval=1s"]) as forgetful:
        async with logged_in(forgetful.kubeconfig(), monkeypatch), forgetful.client() as client:
            await make_namespace(client, "paged")
            await client.create(*(service("paged", f"s{number}") for number in range(4)))
            listing = pages(SERVICES, "paged", 2)
            first, _ = await anext(listing)
            url = f"{client.path('Service', 'paged')}?limit=2"
            async with client.session.get(url) as response:
                token = (await response.json())["metadata"]["continue"]

            async def asked_again() -> int:
                await client.patch("Service", "paged", "s0", {"metadata": {"labels": {"at": secrets.token_hex(4)}}})
                async with client.session.get(f"{url}&continue={token}") as answer:
                    return answer.status

            await until(asked_again, lambda found: found == 410, 90)
            with pytest.raises(errors.APIError) as refused:
                await anext(listing)

    assert first == ["s0", "s1"]
    assert refused.value.status == 410


async def test_watch_from_a_version_before_the_restart_of_the_api_server_ends_with_410(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with control_plane(folder=tmp_path) as first:
        async with logged_in(first.kubeconfig(), monkeypatch), first.client() as client:
            await make_namespace(client, "old")
            await client.create(service("old"))
            [(_, version)] = [one async for one in pages(SERVICES, "old", 500)]
            await client.create(*(service("old", f"s{number}") for number in range(3)))
    with control_plane(folder=tmp_path) as second:
        async with logged_in(second.kubeconfig(), monkeypatch), await watch(SERVICES, "old", version) as response:
            event = json.loads(await anext(api.iter_jsonlines(response.content)))

    assert (event["type"], event["object"]["kind"], event["object"]["code"]) == ("ERROR", "Status", 410)


async def test_reflector_whose_continue_token_expires_lists_anew_and_misses_nothing(plane: ControlPlane, tmp_path: Path) -> None:
    expired = asyncio.Event()

    async def expire(request: web.Request) -> web.StreamResponse | None:
        if is_list(request, "services") and "continue" in request.query and not expired.is_set():
            expired.set()
            return status(410, "The provided continue parameter is too old")
        return None

    with installed(plane, "many", tmp_path) as sluice:
        async with plane.client() as api_client, relaying(plane) as relay:
            await api_client.create(*(service("many", f"s{number:03}") for number in range(CHUNK + 10)))
            await api_client.create(ws_route("many", "last", "last.example.com", f"s{CHUNK + 9:03}"))
            relay.fault = expire
            async with sluice.pod(relay=relay) as pod:
                await pod.answers("last.example.com")  # its Service is on the second page
                assert expired.is_set()
                assert [one for one in await pod.problems() if one["kind"] == "Kind"] == []


async def test_line_of_more_than_a_mebibyte_arrives_whole_in_a_list_and_in_a_watch(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    filler = base64.b64encode(secrets.token_bytes(900_000)).decode()  # a Secret may have a mebibyte
    large = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": filler, "tls.key": ""},
    }
    async with logged_in(plane.kubeconfig(), monkeypatch), plane.client() as client:
        await make_namespace(client, "long")
        [(_, version)] = [one async for one in pages(SECRETS, "long", 500)]
        async with await watch(SECRETS, "long", version) as response:
            for number in range(3):
                plane.apply({**large, "metadata": {"namespace": "long", "name": f"l{number}"}})
            lines = api.iter_jsonlines(response.content)
            found = [await anext(lines) for _ in range(3)]
        listed = [names async for names, _ in pages(SECRETS, "long", 500)]
        # No certificates: every installation of other tests would say so.
        await asyncio.gather(*(client.delete("Secret", "long", name) for name in listed[0]))

    assert min(map(len, found)) > MEBIBYTE
    assert [json.loads(line)["object"]["metadata"]["name"] for line in found] == ["l0", "l1", "l2"]
    assert {json.loads(line)["object"]["data"]["tls.crt"] for line in found} == {filler}
    assert listed == [["l0", "l1", "l2"]]


async def test_refusals_of_a_real_api_server_are_told_apart(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(kind: Resource) -> errors.APIError:
        settings = watch_settings(SERVICES)
        settings.networking.error_backoffs = ()
        with pytest.raises(errors.APIError) as raised:
            async for _ in fetching.fetch_objs(logger=LOG, settings=settings, resource=kind, namespace=None):
                pass
        return raised.value

    async with plane.client() as client:
        await make_namespace(client, "refused")
    plane.kubectl("create", "serviceaccount", "nobody", "-n", "refused")
    token = plane.token("nobody", "refused")
    async with logged_in(plane.kubeconfig(token, name="nobody"), monkeypatch):
        forbidden = await refused(resource(SERVICES))
    async with logged_in(plane.kubeconfig(), monkeypatch):
        absent = await refused(Resource("sluice.dev", "v9", "nothings", kind="Nothing", namespaced=True))
    async with logged_in(plane.kubeconfig("wrong", name="wrong"), monkeypatch):
        unknown = await refused(resource(SERVICES))

    assert isinstance(forbidden, errors.APIForbiddenError)
    assert 'cannot list resource "services"' in (forbidden.message or "")
    assert isinstance(absent, errors.APINotFoundError)
    assert unknown.status == 401


@pytest.mark.parametrize("due", [False, True], ids=["refused", "due"])
async def test_new_token_is_used_in_the_session_that_runs_and_cuts_no_watch(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, *, due: bool
) -> None:
    """A token changes because it was refused, or because its file is looked at again before that."""
    name = "token-due" if due else "token-refused"
    async with plane.client() as client:
        await make_namespace(client, name)
        for account in ("old", "new"):
            plane.kubectl("create", "serviceaccount", account, "-n", name)
        plane.kubectl("create", "role", "reader", "--verb=get,list,watch", "--resource=services", "-n", name)
        accounts = [f"--serviceaccount={name}:{account}" for account in ("old", "new")]
        plane.kubectl("create", "rolebinding", "readers", "--role=reader", *accounts, "-n", name)
        old, new = plane.token("old", name), plane.token("new", name)
        kubeconfig = plane.kubeconfig(old, name=name)
        async with logged_in(kubeconfig, monkeypatch):
            [(names, version)] = [one async for one in pages(SERVICES, name, 500)]
            async with await watch(SERVICES, name, version) as response:
                lines = api.iter_jsonlines(response.content)
                await client.create(service(name, "before"))
                seen = [json.loads(await anext(lines))["object"]["metadata"]["name"]]
                plane.kubeconfig(new, name=name)
                if due:
                    monkeypatch.setattr(api_session, "TOKEN_SECONDS", -1.0)
                    monkeypatch.setattr(api_session, "TOKEN", kubeconfig)
                else:
                    plane.kubectl("delete", "serviceaccount", "old", "-n", name)
                    await until(lambda: valid(plane, old), lambda found: not found)
                listed = [one async for one, _ in pages(SERVICES, name, 500)]
                await client.create(service(name, "after"))
                seen.append(json.loads(await anext(lines))["object"]["metadata"]["name"])

    users = {account: plane.audit(f"system:serviceaccount:{name}:{account}") for account in ("old", "new")}
    assert (names, listed, seen) == ([], [["before"]], ["before", "after"])
    assert [(one["verb"], one["responseStatus"]["code"]) for one in users["new"]] == [("list", 200)]
    assert [one["verb"] for one in users["old"] if one["stage"] == "ResponseStarted" or one["verb"] == "list"][:2] == [
        "list",
        "watch",
    ]


async def valid(plane: ControlPlane, token: str) -> bool:
    """Tell whether the API server takes a token; it remembers for some seconds that it did."""
    async with plane.client(token) as client, client.session.get(f"{plane.url}/api") as answer:
        return answer.status == 200


async def test_source_of_the_controller_has_exactly_what_the_api_server_has(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reflectors in this process: listed is said once everything is known, and not before."""
    log_in_by(plane.kubeconfig(), monkeypatch)
    async with plane.client() as client:
        await make_namespace(client, "exact")
        await client.create(*(service("exact", f"s{number}") for number in range(20)))
        source = ClusterSource(["exact"], lambda _: None, lambda _: None)
        early = source.snapshot.services
        running = asyncio.create_task(source.run())
        try:
            async with asyncio.timeout(30):
                await source.listed.wait()
            first = set(source.snapshot.services)
            await client.delete("Service", "exact", "s7")
            await client.create(service("exact", "t"))
            wanted = {ObjectRef("Service", "exact", name) for name in ("t", *(f"s{number}" for number in range(20) if number != 7))}
            await until(lambda: set(source.snapshot.services), lambda found: found == wanted)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    assert dict(early) == {}
    assert first == {ObjectRef("Service", "exact", f"s{number}") for number in range(20)}
