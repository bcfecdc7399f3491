"""The dashboard and the alert rules against a real Prometheus that scrapes a real Sluice under traffic: no query is empty."""

import asyncio
import contextlib
import json
import math
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import trustme
import yaml
from aiohttp import web
from demo import sluice, write_secret, write_whole
from e2e.test_reload import endpoints_text
from metrics_page import page

from controller.resources.problems import Reason

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

FILES = Path(__file__).parents[2] / "charts" / "sluice" / "files"
HOST = "chat.localhost"
FREE = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1", "--drain-time", "0s"]
DEADLINE = 60.0
"""Seconds until every query has an answer: each rate needs two scrapes that differ."""
VARIABLES = {"$__rate_interval": "15s", "$route": ".*", "$service": ".*"}
"""What Grafana puts in their places, with All chosen."""


def dashboard_queries() -> dict[str, str]:
    """Title and letter of every query, as Prometheus gets it."""
    found = {}
    for panel in json.loads((FILES / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            found[f"{panel['title']} {target['refId']}"] = query
    return found


def alert_selectors() -> dict[str, str]:
    """Every selector of every alert: an alert over series that are never there stays silent for ever."""
    groups = yaml.safe_load((FILES / "rules.yaml").read_text())["groups"]
    return {
        f"{rule['alert']} {selector}": selector
        for group in groups
        for rule in group["rules"]
        for selector in re.findall(r"sluice_\w+(?:\{[^}]*\})?", rule["expr"])
    }


def of_a_cluster(selector: str) -> bool:
    """Tell whether a selector is of problems with kinds, which only a cluster has."""
    return "Kind" in selector and "!~" not in selector


def objects(version: int) -> str:
    """A route that works, one whose Service is missing, and one whose endpoint refuses; `version` changes nothing but a path."""
    services = "---\n".join(
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n"
        for name in ("echo", "dead")
    )
    rules: list[dict[str, Any]] = [
        {"name": name, "path": {"value": path}, **{kind: {"backends": [{"service": name, "port": 80}]} for kind in kinds}}
        for name, path, kinds in (
            ("echo", "/", ("websocket", "http")),
            ("gone", "/gone", ("websocket", "http")),
            ("dead", f"/dead/{version}", ("http",)),
        )
    ]
    rules[0]["keepalive"] = {"interval": "1s", "misses": 1}
    route = {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "WsRoute",
        "metadata": {"name": "chat"},
        "spec": {"hosts": [HOST], "tls": {"secretName": "chat-tls", "redirect": False}, "rules": rules},
    }
    return f"{services}---\n{json.dumps(route)}\n"


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


class Traffic:
    """Everything that a day brings, once a round."""

    def __init__(
        self, change: Callable[[int], None], http: int, https: int, context: ssl.SSLContext, address: str = "127.0.0.1"
    ) -> None:
        self._change = change
        """Makes the route's next version."""
        self._http = f"http://{address}:{http}"
        self._https = f"https://{address}:{https}"
        self._https_at = address, https
        self._tls: dict[str, Any] = {"ssl": context, "server_hostname": HOST, "headers": {"Host": HOST}}
        self._plain: dict[str, Any] = {"headers": {"Host": HOST}}

    async def run(self) -> None:
        """Go on until cancelled, with two sockets open all along, one that talks and one that only answers pings."""
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self._https}/", **self._tls) as held,
            session.ws_connect(f"{self._http}/", **self._plain) as silent,
            asyncio.TaskGroup() as others,
        ):
            others.create_task(self._listen(silent))
            others.create_task(self._vanish(session))
            version = 0
            while True:
                version += 1
                await self._echo(held)
                async with session.ws_connect(f"{self._http}/", **self._plain) as brief:
                    await self._echo(brief)
                async with session.ws_connect(f"{self._http}/cut", **self._plain) as cut:
                    await cut.receive()
                with contextlib.suppress(aiohttp.WSServerHandshakeError):  # 500: there is no such Service
                    await session.ws_connect(f"{self._http}/gone", **self._plain)
                for path in ("/", "/gone", f"/dead/{version - 1}"):
                    async with session.post(f"{self._https}{path}", data=b"body", **self._tls) as answer:
                        await answer.read()
                await self._fail_handshake()
                await asyncio.to_thread(self._change, version)
                await asyncio.sleep(0.2)  # so that rounds spread over scrapes

    async def _listen(self, opened: aiohttp.ClientWebSocketResponse) -> None:
        raise AssertionError(f"the silent socket got {await opened.receive()}")

    async def _vanish(self, session: aiohttp.ClientSession) -> None:
        """Open a socket that answers no ping, until it is closed for that; then another."""
        while True:
            async with session.ws_connect(f"{self._http}/", autoping=False, **self._plain) as mute:
                while (await mute.receive()).type is aiohttp.WSMsgType.PING:
                    pass

    async def _echo(self, opened: aiohttp.ClientWebSocketResponse) -> None:
        await opened.send_str("hello")
        assert await opened.receive_str() == "hello"

    async def _fail_handshake(self) -> None:
        """Trust nobody: the handshake ends with an alert of ours."""
        with contextlib.suppress(ssl.SSLError):
            nobody = ssl.create_default_context(cadata=trustme.CA().cert_pem.bytes().decode())
            await asyncio.open_connection(*self._https_at, ssl=nobody)


class Prometheus:
    """Debian's, scraping each second."""

    def __init__(self, address: str) -> None:
        self._api = f"http://{address}/api/v1"

    async def values(self, query: str) -> list[float]:
        """Ask for the values of this moment that are numbers."""
        async with aiohttp.ClientSession() as session, session.post(f"{self._api}/query", data={"query": query}) as answer:
            said = await answer.json()
            assert answer.status == 200, f"{query}: {said['error']}"
        values = [float(one["value"][1]) for one in said["data"]["result"]]
        return [value for value in values if math.isfinite(value)]

    async def rules(self) -> dict[str, str]:
        """Return each alert and what became of its evaluation: ok, err with why, or unknown before the first."""
        async with aiohttp.ClientSession() as session, session.get(f"{self._api}/rules") as answer:
            groups = (await answer.json())["data"]["groups"]
        return {
            rule["name"]: f"{rule['health']} {rule.get('lastError', '')}".strip() for group in groups for rule in group["rules"]
        }

    async def empty(self, queries: Mapping[str, str], seconds: float) -> list[str]:
        """Ask until every query has an answer, or the time is over; return those without."""
        left = dict(queries)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while left:
                    left = {name: query for name, query in left.items() if not await self.values(query)}
                    await asyncio.sleep(0.5)
        return sorted(left)


@contextlib.asynccontextmanager
async def prometheus(
    folder: Path, found: Mapping[str, Any], *, prefix: Sequence[str] = (), address: str = "127.0.0.1"
) -> AsyncIterator[Prometheus]:
    """Scrape as the chart's ServiceMonitor asks: the label `service` is the metrics' own. `found`: how targets are found."""
    job = {"job_name": "sluice", "honor_labels": True, **found}
    (folder / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(FILES / "rules.yaml")],
                "scrape_configs": [job],
            }
        )
    )
    process = await asyncio.create_subprocess_exec(
        *(*prefix, "prometheus", "--config.file", str(folder / "prometheus.yml"), "--storage.tsdb.path", str(folder / "tsdb")),
        *("--web.listen-address", f"{address}:0"),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        lines = ""
        async with asyncio.timeout(30):
            while "Server is ready to receive web requests" not in lines:
                line = (await process.stderr.readline()).decode()
                assert line, f"Prometheus ended by itself: {lines}"
                lines += line
        listening = re.findall(r'msg="Listening on" address=(\S+)', lines)[0]
        reading = asyncio.create_task(process.stderr.read())
        yield Prometheus(listening)
        process.terminate()
        await reading
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


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
