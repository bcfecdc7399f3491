"""The admin port on a real socket."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.admin.http_port import MOST_CONNECTIONS, AdminServer, accepts_gzip, is_address_or_localhost, is_loopback
from proxy.admin.metrics_endpoint import Exposition, RenderError, in_child
from proxy.model.sockets import SocketRow
from proxy.observability.pod_totals import Totals
from proxy.observability.worker_stats import WorkerStats

ROW = SocketRow("id", "ingress/n/a/0", "n/s:80", "10.0.0.1:80", "192.0.2.1", 5.0, 1.0, 1, 2, 3, 4)


class View:
    """What a supervisor would show."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.exposition = Exposition(self.totals.registry)
        self.is_ready = False
        stats = WorkerStats()
        stats.connection_opened("http")
        stats.route("ingress/n/a/0").request_done("n/s:80", "GET", 200, 0.01, 0, 5)
        self.totals.add(1, stats.take_delta())

    def alive(self) -> bool:
        return True

    def ready(self) -> bool:
        return self.is_ready

    def owners(self) -> int:
        return self.totals.owners

    async def gather(self) -> None:
        await asyncio.sleep(0)

    def routes(self) -> list[dict[str, object]]:
        return [{"id": "ingress/n/a/0"}]

    def problems(self) -> list[dict[str, object]]:
        return []

    async def sockets(self) -> list[SocketRow]:
        await asyncio.sleep(0)
        return [ROW]


@contextlib.asynccontextmanager
async def admin(view: View, *, details_open: bool = False) -> AsyncIterator[aiohttp.ClientSession]:
    server = AdminServer(view, details_open=details_open)
    sock = socket.create_server(("127.0.0.1", 0))
    await server.start(sock)
    base = f"http://127.0.0.1:{sock.getsockname()[1]}"
    try:
        async with aiohttp.ClientSession(base, timeout=aiohttp.ClientTimeout(10)) as session:
            yield session
    finally:
        await server.stop()


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


async def test_method_that_is_not_answered_names_those_that_are() -> None:
    async with admin(View()) as session, session.delete("/metrics") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_head_is_answered_without_a_body() -> None:
    async with admin(View()) as session, session.head("/healthz") as answer:
        assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x00\xa5\x01", b"GET /<b>x HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nBad Name: secret\r\n\r\n"]
)
async def test_what_is_no_request_is_refused_without_version_and_not_repeated(sent: bytes) -> None:
    async with admin(View()) as session:
        assert session._base_url is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", session._base_url.port)
        writer.write(sent + b"\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read(-1)
        writer.close()

    assert answer.startswith(b"HTTP/1.")
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b"Server: sluice\r\n" in answer
    assert answer.endswith(b"\r\n\r\nThe request is malformed.\n")
    assert b"aiohttp" not in answer
    assert b"secret" not in answer


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False), ("::ffff:10.0.0.1", False), ("", False)],
)
def test_loopback_is_known_in_every_spelling(address: str, *, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        *((address, True) for address in ("127.0.0.1", "127.0.0.1:9090", "10.1.2.3:65535", "[::1]", "[::1]:9090", "[2001:DB8::7]")),
        *((name, True) for name in ("localhost", "LocalHost:9090", "localhost.", "localhost:")),
        *((name, False) for name in ("rebind.attacker.test", "rebind.attacker.test:9090", "sluice-metrics", "sub.localhost")),
        *((near, False) for near in ("127.0.0.1.attacker.test", "127.1", "2130706433", "127.0.0.1:99999", "127.0.0.1 ")),
        *((broken, False) for broken in ("", ":9090", "[]", "[::1", "::1", "[localhost]", "user@127.0.0.1", "[::1]x")),
    ],
)
def test_addresses_and_localhost_are_no_names(authority: str, *, expected: bool) -> None:
    assert is_address_or_localhost(authority) is expected


async def answered(port: int, head: str) -> tuple[int, bytes]:
    """Send a request as it is written; return the status and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        answer = await reader.read(-1)
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("details_open", [False, True])
async def test_page_of_a_browser_that_has_its_name_resolve_to_loopback_reads_nothing(*, details_open: bool) -> None:
    """DNS rebinding: the browser connects to 127.0.0.1 and sends the attacker's name; who asks by address is answered."""
    async with admin(View(), details_open=details_open) as session:
        assert session._base_url is not None
        port = session._base_url.port
        assert port is not None
        for path in ("/sockets", "/routes", "/problems"):
            for fields in (f"Host: rebind.attacker.test:{port}", "X: y", "Host: 127.0.0.1\r\nHost: rebind.attacker.test"):
                status, body = await answered(port, f"GET {path} HTTP/1.1\r\n{fields}")
                assert status in (400, 421)
                assert b"ingress/" not in body
            status, body = await answered(port, f"GET http://rebind.attacker.test{path} HTTP/1.1\r\nHost: 127.0.0.1")
            assert (status, body.count(b"IP address or localhost")) == (421, 1)
            for host in (f"127.0.0.1:{port}", f"localhost:{port}", "[::1]:9090", "10.0.0.1"):
                assert (await answered(port, f"GET {path} HTTP/1.1\r\nHost: {host}"))[0] == 200


async def test_metrics_and_probes_are_served_to_any_name() -> None:
    view = View()
    view.is_ready = True
    async with admin(view) as session:
        assert session._base_url is not None
        port = session._base_url.port
        assert port is not None
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await answered(port, f"GET {path} HTTP/1.1\r\nHost: sluice-metrics.sluice-system.svc:9090"))[0] == 200
            assert (await answered(port, f"GET {path} HTTP/1.0"))[0] == 200


def children() -> set[str]:
    """Processes of ours, those that have ended and were not waited for among them."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


async def test_many_series_are_written_apart_and_are_the_same() -> None:
    view, before = View(), children()
    inline = (await view.exposition.render("", owners=1, compress=False))[0]
    apart = (await view.exposition.render("", owners=10_000, compress=False))[0]

    assert apart == inline
    assert children() == before  # nobody is left to be waited for


async def test_loop_goes_on_while_series_are_written_apart() -> None:
    turns = 0

    def slow() -> bytes:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        return b"done"

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.005)

    counting = asyncio.create_task(count())
    data = await in_child(slow)
    counting.cancel()

    assert data == b"done"
    assert turns > 10


async def test_child_that_fails_is_an_error_and_not_half_an_answer() -> None:
    def fails() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(RenderError, match="ended early"):
        await in_child(fails)


async def test_metrics_are_compressed_where_the_scraper_asks() -> None:
    async with admin(View()) as session:
        async with session.get("/metrics", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            compressed = await answer.text()
        async with session.get("/metrics", headers={"Accept-Encoding": "identity"}) as answer:
            assert "Content-Encoding" not in answer.headers
            plain = await answer.text()

    assert compressed == plain


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br", False),
        ("", False),
        ("xgzip", False),
    ],
)
def test_gzip_is_sent_to_who_takes_it(field: str, *, expected: bool) -> None:
    assert accepts_gzip(field) is expected


async def test_scrape_that_is_given_up_ends_its_child() -> None:
    def slow() -> bytes:
        time.sleep(60)
        return b""

    task = asyncio.create_task(in_child(slow))
    await asyncio.sleep(0.05)
    start = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert time.monotonic() - start < 5


class HeldView(View):
    """A view whose counts come when the test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.held = asyncio.Event(), asyncio.Event()

    async def gather(self) -> None:
        self.asked.set()
        await self.held.wait()


async def test_connections_are_bounded_and_who_holds_them_keeps_no_probe_out_and_ends_no_scrape() -> None:
    view = HeldView()
    async with admin(view) as session, asyncio.timeout(20):
        assert session._base_url is not None
        port = session._base_url.port
        scrape = asyncio.create_task(session.get("/metrics"))
        await view.asked.wait()
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS + 20)]
        half = await asyncio.open_connection("127.0.0.1", port)
        half[1].write(b"GET /healthz HTTP/1.1\r\nHo")
        async with session.get("/healthz") as probe:
            assert probe.status == 200
        # 84 silent ones, half a head, the scrape and the probe: the oldest had to go, the scrape was at work.
        for reader, _ in silent[:23]:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        half[1].write(b"st: x\r\nConnection: close\r\n\r\n")
        assert (await half[0].read()).startswith(b"HTTP/1.1 200 ")
        assert not any(reader.at_eof() for reader, _ in silent[23:])
        view.held.set()
        async with await scrape as answer:
            assert answer.status == 200
        for _, writer in (*silent, half):
            writer.close()
