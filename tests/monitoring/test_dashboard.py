"""The dashboard and the alert rules against a real Prometheus that scrapes a real Sluice under traffic: no query is empty."""

import asyncio
import contextlib
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import pytest
import pytest_asyncio
import trustme
from aiohttp import web
from demo import sluice, write_secret, write_whole
from e2e.standalone import FREE, endpoints_text
from metrics_page import page
from monitoring.scraping import FILES, HOST, Traffic, alert_selectors, dashboard_queries, ended, objects, of_a_cluster, prometheus

from controller.resources.reading.problems import Reason

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

DEADLINE = 60.0
"""Seconds until every query has an answer: each rate needs two scrapes that differ."""


async def echo(request: web.Request) -> web.StreamResponse:
    """Echo messages; cut the connection of a socket under /cut; answer anything else with its body."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return web.Response(body=b"answer" + await request.read())
    answer = web.WebSocketResponse()
    await answer.prepare(request)
    if request.path == "/cut":
        assert request.transport is not None
        request.transport.abort()
        return answer
    async for message in answer:
        await answer.send_str(message.data)
    return answer


@contextlib.asynccontextmanager
async def backend() -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(echo), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Scraped:
    """A Prometheus that scrapes a Sluice under traffic."""

    empty: Callable[..., Awaitable[list[str]]]
    """Gives which of some queries stay empty; fails when the traffic did."""
    rules: Callable[[], Awaitable[dict[str, str]]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scraped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scraped]:
    """Run everything."""
    folder, private = tmp_path_factory.mktemp("objects"), tmp_path_factory.mktemp("prometheus")
    authority = trustme.CA()
    issued = authority.issue_cert(HOST)
    write_secret(folder, b"".join(blob.bytes() for blob in issued.cert_chain_pems), issued.private_key_pem.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    write_whole(folder / "objects.yaml", objects(0))
    async with contextlib.AsyncExitStack() as stack:
        # Bound and not listening: it refuses connections, and nobody else can have it.
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        port = await stack.enter_async_context(backend())
        write_whole(
            folder / "endpoints.yaml",
            endpoints_text([port]) + "---\n" + endpoints_text([closed.getsockname()[1]]).replace("echo", "dead"),
        )
        # The backend shares this loop: start Sluice in a thread, so that its first lines can be awaited.
        manager = sluice(folder, FREE)
        _, listening = await asyncio.to_thread(manager.__enter__)
        stack.push_async_callback(asyncio.to_thread, manager.__exit__, None, None, None)
        asked = await stack.enter_async_context(prometheus(private, {"static_configs": [{"targets": [listening["admin"]]}]}))
        http, https = (int(listening[name].rsplit(":", 1)[1]) for name in ("http", "https"))

        def change(version: int) -> None:
            write_whole(folder / "objects.yaml", objects(version))

        traffic = asyncio.create_task(Traffic(change, http, https, context).run())
        stack.push_async_callback(ended, traffic)

        async def empty(queries: Mapping[str, str], seconds: float = DEADLINE) -> list[str]:
            left = await asked.empty(queries, seconds)
            if traffic.done():
                traffic.result()
            return left

        yield Scraped(empty, asked.rules)


async def test_no_query_of_the_dashboard_is_empty(scraped: Scraped) -> None:
    queries = dashboard_queries()

    assert queries
    assert await scraped.empty(queries) == []


async def test_no_selector_of_an_alert_is_empty(scraped: Scraped) -> None:
    selectors = {name: selector for name, selector in alert_selectors().items() if not of_a_cluster(selector)}

    assert selectors
    assert await scraped.empty(selectors) == []


async def test_every_alert_is_evaluated_without_an_error(scraped: Scraped) -> None:
    async with asyncio.timeout(DEADLINE):
        while "unknown" in (health := await scraped.rules()).values():
            await asyncio.sleep(0.5)

    assert health
    assert {name: said for name, said in health.items() if said != "ok"} == {}


async def test_reasons_of_alerts_about_kinds_are_reasons() -> None:
    patterns = [re.findall(r'reason=~"([^"]+)"', one)[0] for one in alert_selectors().values() if of_a_cluster(one)]

    assert len(patterns) == 1
    assert {str(one) for one in Reason if re.fullmatch(patterns[0], one)} == {"KindForbidden", "KindAbsent", "KindUnreachable"}


async def test_query_over_a_metric_that_does_not_exist_is_told_as_empty(scraped: Scraped) -> None:
    """The two tests above can fail."""
    queries = {"workers": "sluice_workers", "nonsense": "rate(sluice_nonsense_total[15s])"}

    assert await scraped.empty(queries, seconds=5) == ["nonsense"]


async def test_every_metric_is_on_the_dashboard() -> None:
    text = (FILES / "dashboard.json").read_text()
    names = re.findall(r"^\| `(sluice_\w+)` \|", page(), re.MULTILINE)

    assert names
    assert [name for name in names if not re.search(rf"\b{name}(_bucket)?\b", text)] == []


async def test_panels_have_numbers_of_their_own_and_lie_side_by_side() -> None:
    """Grafana drops a panel whose id another one has, and moves those that overlap."""
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    places = [panel["gridPos"] for panel in panels]
    cells = [(x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23
