"""The writer of statuses without an API server: what is said of failures."""

import asyncio
import contextlib
import logging
import socket

import pytest
from kubernetes.aio import client

from controller.resources.observed import Observed
from controller.resources.problems import Problem, Reason
from controller.resources.refs import ObjectRef
from controller.sources.snapshot import SourceSnapshot
from controller.status.tracker import Tracker
from controller.status.writer import View, Writer
from controller.translate.report import make_verdict


async def test_failure_of_many_objects_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sluice.status")
    refs = [ObjectRef("WsRoute", "shop", f"r{number}") for number in range(5)]
    tracker = Tracker()
    bad = {ref: make_verdict([Problem(ref, Reason.INVALID_SPEC, "f", "f: nothing was found.")], served=False) for ref in refs}
    tracker.built(SourceSnapshot(), bad, "root")
    observed = {ref: Observed(ref, "sluice.dev/v1alpha1", ref.name, "1", 1) for ref in refs}
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
