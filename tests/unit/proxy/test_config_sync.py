"""The long poll: what is asked, what is held, and that nothing bad on the other side changes what is held."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from proxy.model.config import EMPTY, Certificate, Endpoint, ProxyConfig, Upstream
from proxy.model.sensitive import Sensitive
from proxy.model.wire import (
    VERSION,
    Encoded,
    ProblemReport,
    Report,
    SyncReply,
    SyncRequest,
    UpstreamEntry,
    WireError,
    decode_request,
    encode_config,
    encode_message,
    reply_between,
)
from proxy.processes import config_sync
from proxy.processes.config_sync import HeldConfig, Sync, SyncError, advance


def config(**ports: int) -> ProxyConfig:
    return msgspec.structs.replace(
        EMPTY, upstreams={name: Upstream((Endpoint("127.0.0.1", port),)) for name, port in ports.items()}
    )


ONE, TWO = encode_config(config(a=1, b=2)), encode_config(config(a=1, c=3))


def between(base: Encoded | None, to: Encoded) -> SyncReply:
    return reply_between(base, to, Report())


def upstream(port: int) -> UpstreamEntry:
    return UpstreamEntry(Upstream((Endpoint("127.0.0.1", port),)))


def test_advance_applies_changes_and_removals() -> None:
    held = advance(advance(None, between(None, ONE)), between(ONE, TWO))

    assert held.encoded.root == TWO.root
    assert {key: held.entry(key) for key in held.encoded.entries} == {"u/a": upstream(1), "u/c": upstream(3)}


def test_advance_to_everything_forgets_what_was_held() -> None:
    held = advance(advance(None, between(None, ONE)), between(None, TWO))

    assert {key: held.entry(key) for key in held.encoded.entries} == {"u/a": upstream(1), "u/c": upstream(3)}


def test_advance_follows_hosts_certificates_and_the_default() -> None:
    certificate = Certificate(b"", Sensitive(b""), 5.0)
    some = msgspec.structs.replace(
        EMPTY, certificates={"ns/a": certificate}, tls_hosts={"a.test": "ns/a"}, default_certificate="ns/a"
    )
    encoded, nothing = encode_config(some), encode_config(EMPTY)
    held = advance(None, between(None, encoded))
    emptied = advance(held, between(encoded, nothing))

    assert (held.tls_hosts, held.expiries, held.default) == ({"a.test": "ns/a"}, {"ns/a": 5.0}, "ns/a")
    assert (emptied.tls_hosts, emptied.expiries, emptied.default) == ({}, {}, "")


def test_advance_refuses_an_entry_that_cannot_be_read() -> None:
    bad = Encoded({"u/a": (b"\xc1", b"")})
    reply = SyncReply(VERSION, "", "", {"u/a": b"\xc1"}, (), Report())
    root = ""
    try:
        advance(None, reply)
    except WireError as error:
        root = str(error).split()[3]

    with pytest.raises(WireError, match="cannot be read"):
        advance(None, msgspec.structs.replace(reply, digest=root))
    assert bad.root != root


Answer = Callable[[SyncRequest], Awaitable[web.Response]]


class Controller:
    """A control socket whose answers a test writes; the last one is followed by silence."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answers: asyncio.Queue[web.Response] = asyncio.Queue()
        self.requests: asyncio.Queue[SyncRequest] = asyncio.Queue()

    def says(self, reply: SyncReply) -> None:
        self.answers.put_nowait(web.Response(body=encode_message(reply), content_type="application/msgpack"))

    async def hears(self) -> SyncRequest:
        async with asyncio.timeout(5):
            return await self.requests.get()

    async def handle(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/msgpack"
        self.requests.put_nowait(decode_request(await request.read()))
        return await self.answers.get()


class Pod:
    """What the supervisor does with what it is given."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.reports: list[Report] = []
        self.rejected: Mapping[str, str] = {}
        self.refuses = False

    async def apply(self, held: HeldConfig, _: Report) -> Mapping[str, str]:
        if self.refuses:
            raise SyncError("a worker refused the configuration")
        self.applied.append(held.encoded.root)
        return self.rejected

    def reported(self, report: Report) -> None:
        self.reports.append(report)


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[Controller]:
    made = Controller(tmp_path / "control.sock")
    app = web.Application()
    app.router.add_post("/v1/sync", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.UnixSite(runner, made.path).start()
    yield made
    await runner.cleanup()


@contextlib.asynccontextmanager
async def syncing(pod: Pod, path: str) -> AsyncIterator[None]:
    task = asyncio.create_task(Sync(path, pod.apply, pod.reported).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_sync_acknowledges_what_was_applied_with_what_was_rejected(controller: Controller) -> None:
    pod = Pod()
    pod.rejected = {"r": "because"}
    async with syncing(pod, controller.path):
        first = await controller.hears()
        controller.says(between(None, ONE))
        second = await controller.hears()
        controller.says(between(ONE, TWO))
        third = await controller.hears()

    assert [first, second, third] == [
        SyncRequest(),
        SyncRequest(digest=ONE.root, rejected={"r": "because"}),
        SyncRequest(digest=TWO.root, rejected={"r": "because"}),
    ]
    assert pod.applied == [ONE.root, TWO.root]


async def test_sync_empty_change_brings_only_its_report(controller: Controller) -> None:
    pod = Pod()
    report = Report(problems=(ProblemReport("Ingress", "ns", "name", "PortNotFound", "sentence"),))
    async with syncing(pod, controller.path):
        await controller.hears()
        controller.says(between(None, ONE))
        await controller.hears()
        controller.says(msgspec.structs.replace(between(ONE, ONE), report=report))
        await controller.hears()

    assert pod.applied == [ONE.root]
    assert pod.reports == [Report(), report]


async def test_sync_first_configuration_may_be_empty(controller: Controller) -> None:
    pod = Pod()
    empty = encode_config(EMPTY)
    async with syncing(pod, controller.path):
        await controller.hears()
        controller.says(between(None, empty))
        acknowledged = await controller.hears()

    assert acknowledged == SyncRequest(digest=empty.root)
    assert pod.applied == [empty.root]


@pytest.mark.parametrize(
    "response",
    [
        {"status": 500},
        {"body": b"\xc1nonsense"},
        {"body": encode_message(between(TWO, ONE))},
        {"body": encode_message(msgspec.structs.replace(between(ONE, TWO), digest="torn"))},
        {"body": encode_message(msgspec.structs.replace(between(ONE, TWO), version=1))},
    ],
)
async def test_sync_bad_answer_changes_nothing_and_is_asked_again(controller: Controller, response: Mapping[str, object]) -> None:
    pod = Pod()
    async with syncing(pod, controller.path):
        await controller.hears()
        controller.says(between(None, ONE))
        await controller.hears()
        controller.answers.put_nowait(web.Response(**response))  # type: ignore[arg-type]
        again = await controller.hears()
        controller.says(between(ONE, TWO))
        after = await controller.hears()

    assert (again.digest, after.digest) == (ONE.root, TWO.root)
    assert pod.applied == [ONE.root, TWO.root]


async def test_sync_refused_configuration_is_not_acknowledged(controller: Controller) -> None:
    pod = Pod()
    async with syncing(pod, controller.path):
        await controller.hears()
        controller.says(between(None, ONE))
        await controller.hears()
        pod.refuses = True
        controller.says(between(ONE, TWO))
        again = await controller.hears()

    assert again.digest == ONE.root


async def test_sync_waits_for_a_controller_that_comes_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And warns of nothing: the two containers of a pod start beside each other."""
    caplog.set_level(logging.INFO, "sluice.processes")
    pod = Pod()
    made = Controller(tmp_path / "late.sock")
    async with syncing(pod, made.path):
        async with asyncio.timeout(5):
            while not caplog.records:
                await asyncio.sleep(0)
        app = web.Application()
        app.router.add_post("/v1/sync", made.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.UnixSite(runner, made.path).start()
        first = await made.hears()
    await runner.cleanup()

    assert first == SyncRequest()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "error" not in caplog.text


async def test_sync_warns_of_a_controller_that_does_not_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_sync, "START", 0.1)
    async with syncing(Pod(), str(tmp_path / "never.sock")), asyncio.timeout(5):
        while not caplog.records:
            await asyncio.sleep(0.01)

    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_sync_socket_of_another_user_is_not_asked(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may own it; so the check is seen with both our own and root's id away."""
    asked = asyncio.Event()

    def owner(_: Path) -> object:
        asked.set()
        return type("Stat", (), {"st_uid": 12345})

    monkeypatch.setattr(config_sync.Path, "stat", owner)
    async with syncing(Pod(), controller.path), asyncio.timeout(5):
        await asked.wait()
        asked.clear()
        await asked.wait()

    assert controller.requests.empty()
