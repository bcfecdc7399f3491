"""What is used of kopf that kopf does not promise: names, signatures, how requests and streams behave. The pin is what was tested.

An upgrade of kopf changes the pin and passes this, and tests/cluster/test_kopf_contract.py, or is not made.
"""

import ast
import asyncio
import contextlib
import importlib.metadata
import inspect
import json
import logging
import re
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import aiohttp
import kopf
import pytest
from aiohttp import web
from kopf._cogs.clients import api, auth, errors, fetching
from kopf._cogs.structs import credentials
from kopf._cogs.structs.references import NamespaceName, Resource

from controller.sources.api_session import ApiSession
from controller.sources.cluster import KINDS
from controller.sources.reflector import watch_settings

ROOT = Path(__file__).parents[3]
PRIVATE = {
    "kopf._cogs.clients": {"api", "auth", "errors", "fetching"},
    "kopf._cogs.structs.credentials": {"KubeContext", "LoginError", "VaultKey"},
    "kopf._cogs.structs.references": {"NamespaceName", "Resource"},
}
"""Everything private that the controller imports."""
ATTRIBUTES = {
    "api": {"request", "iter_jsonlines"},
    "auth": {"vault_var", "APIContext"},
    "errors": {
        "APIError",
        "APIForbiddenError",
        "APINotFoundError",
        "APIServerError",
        "APISessionClosed",
        "APITooManyRequestsError",
    },
    "fetching": {"fetch_objs"},
}
"""Everything that it takes from those modules."""
SERVICES = next(kind for kind in KINDS if kind.name == "Service")
LOG = logging.getLogger("contract")
Answer = Callable[[web.Request], web.StreamResponse]


def test_pinned_version_is_the_one_that_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [pin] = [one for one in project["dependencies"] if one.startswith("kopf")]
    locked = {
        match.group(1)
        for name in ("runtime", "demo", "dev")
        for match in re.finditer(r"^kopf==(\S+)", (ROOT / f"requirements/{name}.txt").read_text(), re.MULTILINE)
    }

    version = importlib.metadata.version("kopf")
    assert (pin, locked) == (f"kopf=={version}", {version})


def test_nothing_private_is_used_that_is_not_listed_here() -> None:
    imported: dict[str, set[str]] = {}
    used: dict[str, set[str]] = {name: set() for name in ATTRIBUTES}
    for path in (ROOT / "controller").rglob("*.py"):
        text = path.read_text()
        if "kopf" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kopf."):
                imported.setdefault(node.module, set()).update(one.name for one in node.names)
            if isinstance(node, ast.Import):
                assert not [one.name for one in node.names if one.name.startswith("kopf.")]
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and path.parent.name == "sources":
                used.get(node.value.id, set()).add(node.attr)

    assert (imported, used) == (PRIVATE, ATTRIBUTES)


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (api.request, {"method", "url", "logger", "settings", "timeout"}),
        (fetching.fetch_objs, {"logger", "settings", "resource", "namespace"}),
        (api.iter_jsonlines, {"content"}),
        (auth.APIContext, {"info"}),
        (Resource.get_url, {"self", "namespace", "params"}),
        (kopf.login_with_service_account, {"settings"}),
        (kopf.login_via_client, {"logger", "settings"}),
    ],
)
def test_function_takes_what_it_is_given_and_needs_nothing_else(function: Callable[..., object], given: set[str]) -> None:
    bound = inspect.signature(function).bind(**dict.fromkeys(given))

    assert bound.arguments.keys() == given  # each by its name, none among whatever else a function takes


def test_errors_are_told_apart_by_their_classes() -> None:
    kinds = (errors.APIForbiddenError, errors.APINotFoundError, errors.APITooManyRequestsError, errors.APIServerError)
    found = [one for one in kinds if not issubclass(one, errors.APIError)]
    mixed = [(one, other) for one in kinds for other in kinds if one is not other and issubclass(one, other)]

    assert (found, mixed) == ([], [])
    assert not issubclass(errors.APISessionClosed, errors.APIError)


def test_settings_have_the_places_that_are_set_and_the_selector_reaches_its_kind_only() -> None:
    fresh = kopf.OperatorSettings()
    networking = ("connect_timeout", "request_timeout", "error_backoffs", "enforce_retry_after")
    assert [name for name in networking if not hasattr(fresh.networking, name)] == []
    assert hasattr(fresh.watching, "chunk_size")

    selected = {}
    for kind in KINDS:
        resource = Resource(kind.group, kind.version, kind.plural, kind=kind.name, namespaced=kind.namespaced)
        selected[kind.name] = list(watch_settings(kind).watching.field_selectors.collect(resource))
    assert {name: found for name, found in selected.items() if found} == {"Secret": ["type=kubernetes.io/tls"]}


def test_resource_makes_the_urls_of_the_api() -> None:
    routes = Resource("sluice.dev", "v1alpha1", "wsroutes", kind="WsRoute", namespaced=True)
    secrets = Resource("", "v1", "secrets", kind="Secret", namespaced=True)

    assert routes.get_url(namespace=None, params={"watch": "true"}) == "/apis/sluice.dev/v1alpha1/wsroutes?watch=true"
    assert secrets.get_url(namespace=NamespaceName("a"), params={}) == "/api/v1/namespaces/a/secrets"


def test_credentials_are_values_that_make_headers() -> None:
    info = kopf.ConnectionInfo(server="https://192.0.2.1", token="secret")

    assert info.as_http_headers() == {"Authorization": "Bearer secret"}
    assert credentials.VaultKey("sluice") == "sluice"
    assert issubclass(kopf.LoginError, Exception)
    assert issubclass(credentials.LoginError, Exception)


@contextlib.asynccontextmanager
async def answering(answers: Iterable[Answer], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[float]]:
    """Let kopf's client ask a server that gives these answers, the last one for ever; yields when it was asked."""
    asked: list[float] = []
    waiting = list(answers)

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append(time.monotonic())
        return (waiting.pop(0) if len(waiting) > 1 else waiting[0])(request)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    info = kopf.ConnectionInfo(server=f"http://127.0.0.1:{runner.addresses[0][1]}", token="secret")
    monkeypatch.setattr("controller.sources.api_session.log_in", lambda _: info)
    access = ApiSession(kopf.OperatorSettings())
    access.install()
    try:
        yield asked
    finally:
        await access.close()
        await runner.cleanup()


def refusal(status: int, **headers: str) -> Answer:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": f"refused with {status}"}
    return lambda _: web.json_response(
        body, status=status, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


def good(_: web.Request) -> web.StreamResponse:
    return web.json_response({"kind": "ServiceList", "items": [], "metadata": {"resourceVersion": "7"}})


async def request(backoffs: tuple[float, ...], timeout: float = 5.0) -> aiohttp.ClientResponse:
    settings = watch_settings(SERVICES)
    settings.networking.error_backoffs = backoffs
    total = aiohttp.ClientTimeout(total=timeout)
    return await api.request(method="get", url="/api/v1/services", logger=LOG, settings=settings, timeout=total)


@pytest.mark.parametrize("status", [403, 429, 500, 503, 504])
async def test_request_is_tried_again_after_a_refusal_that_may_pass(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering([refusal(status), refusal(status), good], monkeypatch) as asked, await request((0.05, 0.1)) as response:
        found = await response.json()

    first, second, third = asked
    assert found["metadata"]["resourceVersion"] == "7"
    assert second - first >= 0.05
    assert third - second >= 0.1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, errors.APIForbiddenError),
        (429, errors.APITooManyRequestsError),
        (500, errors.APIServerError),
        (503, errors.APIServerError),
    ],
)
async def test_request_that_is_refused_after_its_last_try_raises_what_refused_it(
    status: int, kind: type[errors.APIError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering([refusal(status)], monkeypatch) as asked:
        with pytest.raises(kind) as raised:
            await request((0.01, 0.01))

    assert len(asked) == 3
    assert (raised.value.status, raised.value.code, raised.value.message) == (status, status, f"refused with {status}")


@pytest.mark.parametrize(("status", "kind"), [(404, errors.APINotFoundError), (410, errors.APIError), (400, errors.APIError)])
async def test_request_that_cannot_succeed_is_not_tried_again(
    status: int, kind: type[errors.APIError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering([refusal(status)], monkeypatch) as asked:
        with pytest.raises(kind) as raised:
            await request((5.0, 5.0))

    assert (len(asked), raised.value.status) == (1, status)


@pytest.mark.slow
async def test_retry_after_of_a_server_that_is_busy_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering([refusal(429, Retry_After="1"), good], monkeypatch) as asked, await request((0.01,)):
        pass

    assert asked[1] - asked[0] >= 1.0


async def test_refused_login_is_tried_once_more_with_a_new_one_and_then_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering([refusal(401)], monkeypatch) as asked:
        with pytest.raises(errors.APIError) as raised:
            await request((5.0,))

    assert (len(asked), raised.value.status) == (2, 401)


@pytest.mark.slow
async def test_session_that_is_closed_while_a_request_waits_for_its_next_try_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def close(asked: list[float]) -> None:
        while not asked:
            await asyncio.sleep(0.01)
        await auth.vault_var.get()._context.session.close()  # type: ignore[attr-defined]

    async with answering([refusal(503), good], monkeypatch) as asked:
        closing = asyncio.create_task(close(asked))
        async with await request((0.5,)) as response:
            found = await response.json()
        await closing

    assert (len(asked), found["metadata"]["resourceVersion"]) == (2, "7")


async def test_server_that_says_nothing_is_given_up_after_the_timeout_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    released = asyncio.Event()

    class Hanging(web.StreamResponse):
        async def prepare(self, request: web.BaseRequest) -> None:  # type: ignore[override]
            await released.wait()
            await super().prepare(request)

    async with answering([lambda _: Hanging(), good], monkeypatch) as asked:
        async with await request((0.01,), timeout=0.3):
            pass
        released.set()

    assert 0.3 <= asked[1] - asked[0] < 5


def page(name: str, token: str, queries: list[dict[str, str]]) -> Answer:
    """A page of a list, with one object; `queries` gets what was asked for."""

    def answer(asked: web.Request) -> web.StreamResponse:
        queries.append(dict(asked.query))
        metadata = {"resourceVersion": "7", "continue": token}
        items = [{"metadata": {"name": name}}]
        return web.json_response({"kind": "ServiceList", "apiVersion": "v1", "items": items, "metadata": metadata})

    return answer


async def listed(into: list[tuple[list[str], str]]) -> None:
    """List Services by pages; `into` gets names and version of each page."""
    resource = Resource("", "v1", "services", kind="Service", namespaced=True)
    async for items, version in fetching.fetch_objs(
        logger=LOG, settings=watch_settings(SERVICES), resource=resource, namespace=None
    ):
        assert {(one["apiVersion"], one["kind"]) for one in items} == {("v1", "Service")}
        into.append(([one["metadata"]["name"] for one in items], version))


async def test_list_goes_by_pages_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[dict[str, str]] = []
    found: list[tuple[list[str], str]] = []

    async with answering([page("a", "t1", queries), page("b", "t2", queries), page("c", "", queries)], monkeypatch):
        await listed(found)

    assert found == [(["a"], "7"), (["b"], "7"), (["c"], "7")]
    assert queries == [{"limit": "500"}, {"limit": "500", "continue": "t1"}, {"limit": "500", "continue": "t2"}]


async def test_list_whose_token_has_expired_raises_after_the_pages_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[list[str], str]] = []

    async with answering([page("a", "t1", []), refusal(410)], monkeypatch) as asked:
        with pytest.raises(errors.APIError) as raised:
            await listed(found)

    assert (found, len(asked), raised.value.status) == ([(["a"], "7")], 2, 410)


@pytest.mark.parametrize("size", [10, 128 * 1024, 1024 * 1024 + 1, 5 * 1024 * 1024])
async def test_lines_of_a_stream_come_whole_whatever_their_length(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.dumps({"number": number, "filler": "x" * size}).encode() for number in range(3)]
    whole = b"\n".join(lines)  # the last one ends with the stream

    async with answering([lambda _: web.Response(body=whole)], monkeypatch), await request(()) as response:
        found = [line async for line in api.iter_jsonlines(response.content)]

    assert [json.loads(line)["number"] for line in found] == [0, 1, 2]
    assert found == lines
