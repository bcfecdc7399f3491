"""The writer of statuses without an API server: what is said of failures, and of what is over in a moment."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import client

from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from controller.resources.reading.stored_status import StoredStatus
from controller.sources.snapshot import SourceSnapshot
from controller.status import writer as writer_module
from controller.status.tracker import Tracker
from controller.status.writer import View, Writer
from controller.translate.verdicts import make_verdict


async def test_failure_of_many_objects_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sluice.status")
    refs = [ObjectRef("WsRoute", "shop", f"r{number}") for number in range(5)]
    tracker = Tracker()
    bad = {ref: make_verdict([Problem(ref, Reason.INVALID_SPEC, "f", "f: nothing was found.")], served=False) for ref in refs}
    tracker.built(SourceSnapshot(), bad, "root")
    observed = {ref: StoredStatus(ref, "sluice.dev/v1alpha1", ref.name, "1", 1) for ref in refs}
    writer = Writer(tracker, View(observed, tuple), lambda: True)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        settings = client.Configuration(host=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        async with client.ApiClient(settings) as api:
            task = asyncio.create_task(writer.run(api))
            writer.wake()
            async with asyncio.timeout(10):
                while len(caplog.records) < len(refs):
                    await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    assert sorted(record.levelname for record in caplog.records[: len(refs)]) == [*["DEBUG"] * 4, "WARNING"]


class Posts:
    """An API server that takes Events and nothing else; one writer, and Ingresses whose verdicts the test decides."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.tracker = Tracker()
        self.observed: dict[ObjectRef, StoredStatus] = {}
        self.writer = Writer(self.tracker, View(self.observed, tuple), lambda: True)

    def says(self, **wrong: str) -> None:
        """Let there be these Ingresses and no others, each with what is wrong with it."""
        refs = {name: ObjectRef("Ingress", "shop", name) for name in wrong}
        self.observed.clear()
        self.observed.update({ref: StoredStatus(ref, "networking.k8s.io/v1", name, "1", 1) for name, ref in refs.items()})
        verdicts = {
            refs[name]: make_verdict(
                [Problem(refs[name], Reason.BACKEND_NOT_FOUND, "f", f"f: {text}.")] if text else (), served=True
            )
            for name, text in wrong.items()
        }
        self.tracker.built(SourceSnapshot(), verdicts, "root")
        self.writer.wake()

    async def taken(self) -> None:
        """Wait until the writer has looked at everything."""
        async with asyncio.timeout(10):
            while self.tracker._dirty or self.writer._wake.is_set():
                await asyncio.sleep(0.01)

    async def until_said(self, name: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while not (found := [one for one in self.events if one["involvedObject"]["name"] == name]):
                await asyncio.sleep(0.01)
        return found[0]


@contextlib.asynccontextmanager
async def posting() -> AsyncIterator[Posts]:
    posts = Posts()

    async def create(request: web.Request) -> web.Response:
        posts.events.append(await request.json())
        return web.json_response(posts.events[-1], status=201)

    app = web.Application()
    app.router.add_post("/api/v1/namespaces/shop/events", create)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        async with client.ApiClient(settings) as api:
            task = asyncio.create_task(posts.writer.run(api))
            yield posts
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    finally:
        await runner.cleanup()


@pytest.mark.slow
async def test_solver_whose_service_and_ingress_vanish_in_the_same_second_raises_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one whose Service comes a moment after it; what stays wrong beside them is said."""
    monkeypatch.setattr(writer_module, "GRACE", 3.0)  # for a machine that is slow itself
    async with posting() as posts:
        posts.says(solver="", early="its Service was not found", shop="its Service was not found")
        await posts.taken()
        posts.says(solver="its Service was not found", early="", shop="its Service was not found")
        await posts.taken()
        posts.says(early="", shop="its Service was not found")
        event = await posts.until_said("shop")
        await posts.taken()

    assert event["message"] == "f: its Service was not found."
    assert [one["involvedObject"]["name"] for one in posts.events] == ["shop"]


@pytest.mark.slow
async def test_problem_whose_sentence_keeps_changing_is_said_all_the_same() -> None:
    async with posting() as posts:
        started = time.monotonic()
        number = 0
        while not posts.events and time.monotonic() - started < 10:
            posts.says(shop=f"there are {number}")
            number += 1
            await asyncio.sleep(0.1)

    assert time.monotonic() - started < 10
    assert posts.events[0]["message"].startswith("f: there are ")
