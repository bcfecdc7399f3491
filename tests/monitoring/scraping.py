"""A Prometheus that scrapes Sluice, traffic that moves every series, and what the dashboard and the alerts ask for."""

import asyncio
import contextlib
import json
import math
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import trustme
import yaml

FILES = Path(__file__).parents[2] / "charts" / "sluice" / "files"
HOST = "chat.localhost"
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
