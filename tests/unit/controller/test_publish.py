"""The hub and its socket: what a proxy is given, when, and who may ask."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from controller.publish import server
from controller.publish.hub import HISTORY, Hub
from controller.publish.server import serve
from proxy.model.config import Endpoint, ProxyConfig, Upstream
from proxy.model.wire import ProblemReport, Report, SyncReply, SyncRequest, decode_reply, encode_config, encode_message

WAIT = 10.0
REPORT = Report(problems=(ProblemReport("WsRoute", "shop", "chat", "InvalidSpec", "spec: nothing was found."),), objects=1)


def config(*ports: int) -> ProxyConfig:
    upstreams = {f"shop/s{port}:80": Upstream((Endpoint("10.0.0.1", port),)) for port in ports}
    return ProxyConfig(routes={}, upstreams=upstreams, certificates={}, tls_hosts={})


@contextlib.asynccontextmanager
async def serving(path: Path, hub: Hub, wait: float = WAIT) -> AsyncIterator[aiohttp.ClientSession]:
    runner = await serve(hub, path, wait=wait)
    connector = aiohttp.UnixConnector(path=str(path))
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=WAIT)) as session:
            yield session
    finally:
        await runner.cleanup()


async def ask(session: aiohttp.ClientSession, digest: str = "") -> SyncReply:
    async with session.post("http://proxy/v1/sync", data=encode_message(SyncRequest(digest=digest))) as response:
        assert response.status == 200
        return decode_reply(await response.read())


async def test_hub_gives_everything_to_who_holds_nothing_and_changes_to_who_holds_a_kept_root() -> None:
    hub = Hub()
    hub.publish(config(1, 2), REPORT)
    everything = await hub.sync(SyncRequest(), WAIT)
    assert everything is not None
    assert (everything.base, set(everything.upsert)) == ("", {"u/shop/s1:80", "u/shop/s2:80"})
    hub.publish(config(2, 3), REPORT)

    change = await hub.sync(SyncRequest(digest=everything.digest), WAIT)
    assert change is not None
    assert (change.base, set(change.upsert), set(change.remove)) == (everything.digest, {"u/shop/s3:80"}, {"u/shop/s1:80"})
    assert hub.acknowledged == everything.digest


async def test_hub_gives_everything_to_who_holds_a_root_that_is_no_longer_kept() -> None:
    hub = Hub()
    hub.publish(config(1), REPORT)
    old = encode_config(config(1)).root
    for port in range(2, HISTORY + 3):
        hub.publish(config(port), REPORT)

    reply = await hub.sync(SyncRequest(digest=old), WAIT)
    assert reply is not None
    assert reply.base == ""


async def test_hub_waits_until_something_differs() -> None:
    hub = Hub()
    hub.publish(config(1), REPORT)
    held = encode_config(config(1)).root
    await hub.sync(SyncRequest(digest=held), WAIT)  # the report
    waiting = asyncio.create_task(hub.sync(SyncRequest(digest=held), WAIT))
    await asyncio.sleep(0)
    assert not hub.publish(config(1), REPORT)
    await asyncio.sleep(0)
    assert not waiting.done()
    hub.publish(config(2), REPORT)

    async with asyncio.timeout(WAIT):
        reply = await waiting
    assert reply is not None
    assert reply.digest == encode_config(config(2)).root


async def test_hub_tells_a_changed_report_though_the_configuration_is_the_same() -> None:
    hub = Hub()
    hub.publish(config(1), Report())
    held = encode_config(config(1)).root
    await hub.sync(SyncRequest(digest=held), WAIT)
    waiting = asyncio.create_task(hub.sync(SyncRequest(digest=held), WAIT))
    await asyncio.sleep(0)
    hub.publish(config(1), REPORT)

    async with asyncio.timeout(WAIT):
        reply = await waiting
    assert reply is not None
    assert (reply.digest, reply.upsert, reply.report) == (held, {}, REPORT)


async def test_hub_does_not_tell_a_report_to_who_has_gone_and_asked_again() -> None:
    hub = Hub()
    hub.publish(config(1), Report())
    held = encode_config(config(1)).root
    await hub.sync(SyncRequest(digest=held), WAIT)
    vanished = asyncio.create_task(hub.sync(SyncRequest(digest=held), WAIT))
    await asyncio.sleep(0)
    there = asyncio.create_task(hub.sync(SyncRequest(digest=held), WAIT))
    await asyncio.sleep(0)
    hub.publish(config(1), REPORT)

    async with asyncio.timeout(WAIT):
        assert await vanished is None
        reply = await there
    assert reply is not None
    assert reply.report == REPORT


async def test_hub_has_nothing_to_say_within_the_time() -> None:
    hub = Hub()

    assert await hub.sync(SyncRequest(), 0.01) is None


async def test_socket_is_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(path, Hub()):
        assert path.stat().st_mode & 0o777 == 0o600


async def test_peer_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    hub.publish(config(1), REPORT)
    async with serving(tmp_path / "control.sock", hub) as session:
        monkeypatch.setattr(server, "_peer_uid", lambda _request: os.getuid() + 4711)
        async with session.post("http://proxy/v1/sync", data=encode_message(SyncRequest())) as response:
            assert (response.status, await response.text()) == (
                403,
                "This socket is for the proxy of the same user, or of the user that --proxy-uid names.\n",
            )


async def test_proxy_of_the_user_that_is_named_is_served_and_the_socket_is_the_groups_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub()
    hub.publish(config(1), REPORT)
    path = tmp_path / "control.sock"
    peers = server.Peers()
    runner = await server.serve(hub, path, proxy_uid=os.getuid() + 4711, peers=peers)
    try:
        assert path.stat().st_mode & 0o777 == 0o660
        monkeypatch.setattr(server, "_peer_uid", lambda _request: os.getuid() + 4711)
        connector = aiohttp.UnixConnector(path=str(path))
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
            async with session.post("http://proxy/v1/sync", data=encode_message(SyncRequest())) as response:
                assert response.status == 200
            assert peers.arrived.is_set()
            assert peers.count == 1
        async with asyncio.timeout(5):
            while peers.count:
                await asyncio.sleep(0)
    finally:
        await runner.cleanup()


async def test_uid_of_the_peer_is_the_kernels_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = server._peer_uid

    def peer_uid(request: aiohttp.web.Request) -> int:
        seen.append(real(request))
        return seen[-1]

    monkeypatch.setattr(server, "_peer_uid", peer_uid)
    hub = Hub()
    hub.publish(config(1), REPORT)
    async with serving(tmp_path / "control.sock", hub) as session:
        await ask(session)

    assert seen == [os.getuid()]


@pytest.mark.parametrize("body", [b"", b"\xff", b"{}", encode_message(SyncRequest(version=99))])
async def test_request_that_is_none_is_refused_and_the_next_is_answered(tmp_path: Path, body: bytes) -> None:
    hub = Hub()
    hub.publish(config(1), REPORT)
    async with serving(tmp_path / "control.sock", hub) as session:
        async with session.post("http://proxy/v1/sync", data=body) as response:
            assert response.status == 400
            assert (await response.text()).strip()

        assert (await ask(session)).digest == encode_config(config(1)).root


async def test_nothing_new_is_said_when_the_poll_is_over(tmp_path: Path) -> None:
    hub = Hub()
    hub.publish(config(1), REPORT)
    async with serving(tmp_path / "control.sock", hub, wait=0.05) as session:
        held = (await ask(session)).digest
        reply = await ask(session, held)

        assert (reply.base, reply.digest, reply.upsert, reply.remove) == (held, held, {}, ())


async def test_client_that_vanishes_while_it_waits_leaves_nothing_behind(tmp_path: Path) -> None:
    hub = Hub()
    hub.publish(config(1), REPORT)
    path = tmp_path / "control.sock"
    async with serving(path, hub) as session:
        held = (await ask(session)).digest
        before = asyncio.all_tasks()
        waiting = asyncio.create_task(ask(session, held))
        async with asyncio.timeout(WAIT):
            while hub.acknowledged != held:
                await asyncio.sleep(0)
            waiting.cancel()
            while len(asyncio.all_tasks() - before - {waiting}) > 1:
                await asyncio.sleep(0.001)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(path))) as other:
            reply = await asyncio.wait_for(ask(other, held), WAIT)

        assert (reply.upsert, reply.report) == ({}, REPORT)
