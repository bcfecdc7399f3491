"""The admin port on a real socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.admin import make_app
from proxy.metrics import WorkerStats
from proxy.totals import Totals


class View:
    """What a supervisor would show."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.registry = self.totals.registry
        self.is_ready = False
        stats = WorkerStats()
        stats.connection_opened("http")
        stats.route("ingress/n/a/0").request_done("n/s:80", "GET", 200, 0.01, 0, 5)
        self.totals.add(1, stats.delta())

    def alive(self) -> bool:
        return True

    def ready(self) -> bool:
        return self.is_ready

    async def gather(self) -> None:
        await asyncio.sleep(0)

    def routes(self) -> list[dict[str, object]]:
        return [{"id": "ingress/n/a/0"}]

    def problems(self) -> list[dict[str, object]]:
        return []


@contextlib.asynccontextmanager
async def admin(view: View) -> AsyncIterator[aiohttp.ClientSession]:
    runner = web.AppRunner(make_app(view, details_open=False), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}", timeout=aiohttp.ClientTimeout(10)) as session:
        yield session
    await runner.cleanup()


async def test_metrics_are_valid_in_both_formats() -> None:
    async with admin(View()) as session:
        async with session.get("/metrics") as answer:
            text = await answer.text()
        async with session.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as answer:
            open_text = await answer.text()
            content_type = answer.headers["Content-Type"]

    assert content_type.startswith("application/openmetrics-text")
    names = {sample.name for family in parse_text(text) for sample in family.samples}
    assert {"sluice_connections", "sluice_connections_total", "sluice_http_requests_total"} <= names
    assert {sample.name for family in parse_open(open_text) for sample in family.samples} >= names - {"sluice_connections_created"}


async def test_readyz_says_whether_the_first_configuration_is_applied() -> None:
    view = View()
    async with admin(view) as session:
        async with session.get("/readyz") as answer:
            assert answer.status == 503
        view.is_ready = True
        async with session.get("/readyz") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/metrics", 405), ("GET", "/routes", 200)]
)
async def test_other_pages_answer_with_a_sentence_and_no_version(method: str, path: str, status: int) -> None:
    async with admin(View()) as session, session.request(method, path) as answer:
        assert answer.status == status
        assert answer.headers["Server"] == "sluice"
        assert (await answer.text()).endswith("\n")
