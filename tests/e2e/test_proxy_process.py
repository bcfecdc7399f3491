"""Real `sluice-proxy` processes: workers that die, configurations that come and go, TLS across workers, signals."""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import resource
import signal
import socket
import ssl
import sys
import time
from pathlib import Path

import aiohttp
import pytest
import trustme
from e2e.harness import HOST, Hub, backend, config, get, issue, ok, proxy, running, trusting, until

from proxy.model.wire import ProblemReport, Report


async def test_start_without_configuration_refuses_connections_and_is_not_ready(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        before, _ = await one.ask("/readyz")
        with pytest.raises(ConnectionRefusedError):
            await get(one.http)
        hub.publish(config(port))
        acknowledged = await hub.acknowledged()
        after, _ = await one.ask("/readyz")
        answer = await get(one.http)

    assert (before, after, acknowledged.rejected) == (503, 200, {})
    assert ok(answer)


async def test_worker_killed_loses_no_waiting_connection_and_is_replaced_within_a_second(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port))
        await one.ready()
        (worker,) = one.workers()
        os.kill(worker, signal.SIGSTOP)
        waiting = [asyncio.create_task(get(one.http)) for _ in range(30)]
        await until(lambda: _queued(one.http) == 30)
        os.kill(worker, signal.SIGKILL)
        async with asyncio.timeout(1):
            answers = await asyncio.gather(*waiting)
        (successor,) = one.workers()
        _, metrics = await one.ask("/metrics")

    assert all(ok(answer) for answer in answers)
    assert successor != worker
    assert "sluice_worker_restarts_total 1.0" in metrics
    assert "sluice_workers 1.0" in metrics


async def test_worker_killed_while_the_controller_is_away_comes_back_with_its_configuration(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        hub.publish(config(port))
        await one.ready()
        await hub.stop()
        before = one.workers()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        await until(lambda: len(set(one.workers()) - set(before)) == 2)
        answers = await asyncio.gather(*(get(one.http) for _ in range(10)))
        await hub.start()
        hub.publish(config(port, host="other.example.com"))
        await hub.acknowledged()
        moved = await get(one.http, host="other.example.com")

    assert all(ok(answer) for answer in answers)
    assert ok(moved)


async def test_worker_that_hangs_over_a_configuration_is_replaced(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        hub.publish(config(port))
        await one.ready()
        hanging, steady = one.workers()
        os.kill(hanging, signal.SIGSTOP)
        hub.publish(config(port, host="other.example.com"))
        await hub.acknowledged(20)
        after = one.workers()
        answers = await asyncio.gather(*(get(one.http, host="other.example.com") for _ in range(10)))

    assert steady in after
    assert hanging not in after
    assert all(ok(answer) for answer in answers)


async def test_worker_killed_resets_no_counter_and_drops_its_gauges(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port))
        await one.ready()
        for _ in range(3):
            await get(one.http)
        await one.ask("/metrics")
        (worker,) = one.workers()
        os.kill(worker, signal.SIGKILL)
        await until(lambda: one.workers() not in ([], [worker]))
        await get(one.http)
        _, metrics = await one.ask("/metrics")

    line = 'sluice_http_requests_total{code="200",method="GET",route="wsroute/default/shop/all",service="default/shop:80"} 4.0'
    assert line in metrics


async def test_sockets_of_a_killed_worker_are_counted_and_those_of_an_orderly_end_are_not(hub: Hub) -> None:
    """The worker cannot say it: the supervisor knows what it had."""
    by = 'sluice_ws_closes_total{by="proxy:worker_lost",code="1006",route="wsroute/default/shop/all"}'
    async with (
        backend() as port,
        proxy(hub, "--workers", "1", "--drain-time", "0", stderr=asyncio.subprocess.PIPE) as one,
        aiohttp.ClientSession() as session,
    ):
        hub.publish(config(port))
        await one.ready()
        (worker,) = one.workers()
        url, headers = f"http://127.0.0.1:{one.http}/ws", {"Host": HOST}
        sockets = [await session.ws_connect(url, headers=headers) for _ in range(3)]
        _, before = await one.ask("/metrics")
        os.kill(worker, signal.SIGKILL)
        await until(lambda: one.workers() not in ([], [worker]))
        sockets.append(await session.ws_connect(url, headers=headers))
        _, after = await one.ask("/metrics")
        one.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            _, said = await one.process.communicate()

    assert by not in before
    assert f"{by} 3.0\n" in after
    assert said.count(b"sockets=3 replaced in 0 s") == 1
    assert said.count(b"replaced in") == 1


async def test_crashing_worker_has_its_queue_served_by_a_neighbour(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        hub.publish(config(port))
        await one.ready()
        steady, victim = one.workers()
        for _ in range(4):  # from the fourth on, successors are half a second away
            os.kill(victim, signal.SIGKILL)
            await until(lambda gone=victim: gone not in one.workers())
            await until(lambda: len(one.workers()) == 2)
            (victim,) = set(one.workers()) - {steady}
        for _ in range(5):
            os.kill(victim, signal.SIGKILL)
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*(get(one.http) for _ in range(20)))
            alone = one.workers()
            if alone == [steady]:
                break
            (victim,) = set(alone) - {steady}  # the machine was slow: the successor was there before the last answer

    assert all(ok(answer) for answer in answers)
    assert alone == [steady]


async def test_supervisor_killed_takes_its_workers_along(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "3") as one:
        hub.publish(config(port))
        await one.ready()
        workers = one.workers()
        one.process.kill()
        await until(lambda: not running(workers), 5)

    assert len(workers) == 3


async def test_descriptors_run_out_pauses_accepting_and_ends_no_worker(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port))
        await one.ready()
        (worker,) = one.workers()
        used = _descriptors(worker)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 8, used + 8))
        silent = [await asyncio.open_connection("127.0.0.1", one.http) for _ in range(30)]
        await until(lambda: _descriptors(worker) >= used + 8)
        for _, writer in silent:
            writer.close()
        answer = await get(one.http)
        after = one.workers()

    assert ok(answer)
    assert after == [worker]


async def test_connections_wait_from_nine_tenths_of_the_descriptors_on_and_what_is_open_goes_on(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1", descriptors=200) as one:
        hub.publish(config(port))
        await one.ready()
        (worker,) = one.workers()
        first = await asyncio.open_connection("127.0.0.1", one.http)
        crowd = [await asyncio.open_connection("127.0.0.1", one.http) for _ in range(220)]
        await until(lambda: _descriptors(worker) >= 180)
        waiting = await asyncio.open_connection("127.0.0.1", one.http)
        waiting[1].write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        first[1].write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        async with asyncio.timeout(10):
            served = await first[0].readuntil(b"hello")
        health = await one.ask("/healthz")
        metrics = await one.ask("/metrics")
        most = _descriptors(worker)
        for _, writer in crowd:
            writer.close()
        async with asyncio.timeout(10):
            later = await waiting[0].readuntil(b"hello")
        for _, writer in (first, waiting):
            writer.close()
        after = one.workers()

    assert served.startswith(b"HTTP/1.1 200 ")
    assert later.startswith(b"HTTP/1.1 200 ")
    assert (health[0], metrics[0]) == (200, 200)
    assert most <= 190
    assert after == [worker]


async def test_soft_limit_of_descriptors_is_raised_at_start(hub: Hub) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
    try:
        async with backend() as port, proxy(hub, "--workers", "1") as one:
            hub.publish(config(port))
            await one.ready()
            (worker,) = one.workers()
            found = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert found == (hard, hard)


async def test_worker_that_hangs_without_a_reason_is_replaced(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        hub.publish(config(port))
        await one.ready()
        hanging, steady = one.workers()
        os.kill(hanging, signal.SIGSTOP)
        await until(lambda: hanging not in one.workers() and len(one.workers()) == 2, 20)
        after = one.workers()
        answers = await asyncio.gather(*(get(one.http) for _ in range(20)))

    assert steady in after
    assert all(ok(answer) for answer in answers)


async def test_problems_and_routes_are_shown_on_the_admin_port(hub: Hub) -> None:
    problem = ProblemReport("Ingress", "default", "shop", "PortNotFound", "spec: a sentence.", "spec")
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        note = ProblemReport("Secret", "default", "unnamed", "SecretInvalid", "data: a note.", "data", note=True)
        hub.publish(config(port), Report(problems=(problem, note), objects=3))
        await hub.acknowledged()
        _, problems = await one.ask("/problems")
        _, routes = await one.ask("/routes")
        _, metrics = await one.ask("/metrics")

    assert [(one["message"], one["note"]) for one in json.loads(problems)] == [
        ("spec: a sentence.", False),
        ("data: a note.", True),
    ]
    assert f'"port": {port}' in routes
    assert 'sluice_problems{reason="PortNotFound"} 1.0' in metrics
    assert "SecretInvalid" not in metrics


class Tls:
    """Clients that trust one authority, and remember their sessions."""

    def __init__(self, authority: trustme.CA, port: int) -> None:
        self.context = trusting(authority)
        self.port = port

    def visit(self, session: ssl.SSLSession | None = None, name: str = HOST) -> tuple[bool, ssl.SSLSession | None, int]:
        """Make a request; tell whether the session was resumed, and give its successor and the certificate's serial number."""
        with (
            socket.create_connection(("127.0.0.1", self.port), 10) as plain,
            self.context.wrap_socket(plain, server_hostname=name, session=session) as secure,
        ):
            secure.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while data := secure.recv(65536):
                answer += data
            assert ok(answer)
            reused = bool(secure.session_reused)
            serial = 0 if reused else int(str(secure.getpeercert()["serialNumber"]), 16)  # type: ignore[index]
            return reused, secure.session, serial


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_session_resumes_in_another_worker_and_after_a_new_certificate(hub: Hub, version: ssl.TLSVersion) -> None:
    authority = trustme.CA()
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        client = Tls(authority, one.https)
        client.context.maximum_version = version
        hub.publish(config(port, issue(authority, HOST)))
        await one.ready()
        _, session, first = await asyncio.to_thread(client.visit)
        resumed = [(await asyncio.to_thread(client.visit, session))[0] for _ in range(10)]
        before = one.workers()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        await until(lambda: len(set(one.workers()) - set(before)) == 2)
        elsewhere, _, _ = await asyncio.to_thread(client.visit, session)
        hub.publish(config(port, issue(authority, HOST)))
        await hub.acknowledged()
        afterwards, _, _ = await asyncio.to_thread(client.visit, session)
        _, _, second = await asyncio.to_thread(client.visit)

    assert resumed == [True] * 10
    assert (elsewhere, afterwards) == (True, True)
    assert first != second


async def test_tls_certificate_that_does_not_load_keeps_the_one_before(hub: Hub) -> None:
    authority = trustme.CA()
    good, other = issue(authority, HOST), issue(authority, HOST)
    broken = type(good)(good.chain, other.key, good.not_after)
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        client = Tls(authority, one.https)
        hub.publish(config(port, good))
        await one.ready()
        _, _, first = await asyncio.to_thread(client.visit)
        hub.publish(config(port, broken))
        await hub.acknowledged()
        _, _, second = await asyncio.to_thread(client.visit)

    assert first == second


async def _raw(port: int, data: bytes, seconds: float = 5) -> bytes:
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if data:
            writer.write(data)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""  # closed on bytes that nobody read
        finally:
            writer.close()


async def test_tls_port_refuses_plain_http_h2_only_and_silence_each_in_its_way(hub: Hub) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    async with backend() as port, proxy(hub, "--workers", "1", "--tls-handshake-timeout", "300ms") as one:
        hub.publish(config(port))
        await one.ready()
        plain = await _raw(one.https, b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        silence = await _raw(one.https, b"")
        partial = await _raw(one.https, b"\x16\x03\x01\x02\x00\x01")
        garbage = await _raw(one.https, b"\x16\x03\x01\x00\x05\x02aaaa")
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            async with asyncio.timeout(5):
                await asyncio.open_connection("127.0.0.1", one.https, ssl=context, server_hostname=HOST)
        _, metrics = await one.ask("/metrics")

    assert plain.startswith(b"HTTP/1.1 400 ")
    assert b"text/plain" in plain
    assert (silence, partial, garbage) == (b"", b"", bytes.fromhex("15030300020232"))
    assert 'sluice_tls_handshakes_total{result="refused"} 3.0' in metrics
    assert 'sluice_tls_handshakes_total{result="timeout"} 2.0' in metrics


async def test_tls_hello_in_pieces_is_served(hub: Hub) -> None:
    """Post-quantum key shares spread a ClientHello over segments."""
    authority = trustme.CA()
    context = trusting(authority)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port, issue(authority, HOST)))
        await one.ready()
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", one.https)
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in (hello[:1], hello[1:7], hello[7:100], hello[100:]):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)  # so that each piece is a segment; the outcome does not depend on it
            answer = await reader.read(5)
            writer.close()

    assert answer[:2] == b"\x16\x03"


@pytest.mark.parametrize("strict", [True, False])
async def test_tls_unknown_name_gets_the_default_or_is_refused_under_strict_sni(hub: Hub, *, strict: bool) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with backend() as port, proxy(hub, "--workers", "1", "--strict-sni" if strict else "--no-strict-sni") as one:
        hub.publish(config(port, issue(trustme.CA(), HOST)))
        await one.ready()
        refusal = ""
        try:
            async with asyncio.timeout(5):
                _, writer = await asyncio.open_connection("127.0.0.1", one.https, ssl=context, server_hostname="nobody.example")
            writer.close()
        except ssl.SSLError as error:
            refusal = error.reason

    assert ("UNRECOGNIZED_NAME" in refusal) == strict


async def test_sigterm_finishes_requests_closes_sockets_and_ends_before_the_grace(hub: Hub) -> None:
    hold = asyncio.Event()
    async with (
        backend(hold=hold) as port,
        proxy(hub, "--workers", "2", "--drain-delay", "500ms", "--drain-time", "500ms", "--grace", "20s") as one,
        aiohttp.ClientSession() as session,
    ):
        hub.publish(config(port))
        await one.ready()
        sockets = [await session.ws_connect(f"http://127.0.0.1:{one.http}/ws", headers={"Host": HOST}) for _ in range(6)]
        for number, one_socket in enumerate(sockets):
            await one_socket.send_str(str(number))
            assert await one_socket.receive_str(timeout=5) == str(number)
        slow = asyncio.create_task(get(one.http, "/slow"))
        await until(lambda: _established(port) >= 7)
        one.process.send_signal(signal.SIGTERM)
        await one.ready(503)
        late = await get(one.http)
        closes = [await one_socket.receive(timeout=10) for one_socket in sockets]
        hold.set()
        finished = await slow
        async with asyncio.timeout(10):
            status = await one.process.wait()

    assert ok(late)
    assert [(close.type, close.data) for close in closes] == [(aiohttp.WSMsgType.CLOSE, 1001)] * 6
    assert ok(finished)
    assert status == 0


async def test_sigterm_lets_an_upload_end_that_was_begun_before(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1", "--drain-time", "1s", "--grace", "20s") as one:
        hub.publish(config(port))
        await one.ready()
        reader, writer = await asyncio.open_connection("127.0.0.1", one.http)
        writer.write(f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n01234".encode())
        await until(lambda: _established(port) >= 1)
        one.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while True:
                    await get(one.http)
        writer.write(b"56789")
        async with asyncio.timeout(10):
            answer = await reader.read()
            status = await one.process.wait()
        writer.close()

    assert ok(answer)
    assert status == 0


@pytest.mark.parametrize("drips", [False, True])
async def test_clients_that_linger_after_an_early_answer_do_not_hold_up_the_end(hub: Hub, drips: bool) -> None:
    """Silent ones are closed after --close-wait, those that go on sending at the end of --grace."""
    async with (
        backend() as port,
        proxy(hub, "--workers", "1", "--drain-time", "0s", "--close-wait", "200ms", "--grace", "3s") as one,
    ):
        hub.publish(config(port))
        await one.ready()
        reader, writer = await asyncio.open_connection("127.0.0.1", one.http)
        writer.write(b"POST / HTTP/1.1\r\nHost: unknown.example.com\r\nContent-Length: 1000000\r\n\r\n")

        async def drip() -> None:
            while drips:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
            one.process.send_signal(signal.SIGTERM)
            status = await one.process.wait()
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert status == 0


async def test_sigterm_closes_sockets_oldest_first_and_spread_over_the_drain_time(hub: Hub) -> None:
    async with (
        backend() as port,
        proxy(hub, "--workers", "1", "--drain-time", "1s") as one,
        aiohttp.ClientSession() as session,
    ):
        hub.publish(config(port))
        await one.ready()
        sockets = [await session.ws_connect(f"http://127.0.0.1:{one.http}/ws", headers={"Host": HOST}) for _ in range(8)]
        for each in sockets:
            await each.send_str("open")
            await each.receive_str(timeout=5)
        ended: list[tuple[int, float]] = []

        async def watch(number: int) -> None:
            await sockets[number].receive(timeout=10)
            ended.append((number, asyncio.get_running_loop().time()))

        watching = [asyncio.create_task(watch(number)) for number in range(8)]
        one.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*watching)

    assert [number for number, _ in ended] == list(range(8))
    assert ended[-1][1] - ended[0][1] > 0.6


async def test_sigterm_tells_kept_connections_to_come_back_while_it_still_accepts(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2", "--drain-delay", "2s") as one:
        hub.publish(config(port))
        await one.ready()
        kept = await asyncio.open_connection("127.0.0.1", one.http)
        before = await ask(*kept)
        one.process.send_signal(signal.SIGTERM)
        await one.ready(503)
        told = await ask(*kept)
        ended = await kept[0].read()
        again = await get(one.http)
        kept[1].close()

    assert [b"Connection: close" in head for head in (before, told)] == [False, True]
    assert ended == b""
    assert ok(again)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Ask by a connection that is kept; return the head of the answer, whose body was read too."""
    writer.write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))
    assert head.startswith(b"HTTP/1.1 200 ")
    return head


async def test_sigterm_twice_ends_at_once_and_one_that_comes_twice_is_one(hub: Hub) -> None:
    hold = asyncio.Event()
    async with backend(hold=hold) as port, proxy(hub, "--workers", "2", "--drain-delay", "30s") as one:
        hub.publish(config(port))
        await one.ready()
        workers = one.workers()
        one.process.send_signal(signal.SIGTERM)
        await one.ready(503)
        one.process.send_signal(signal.SIGTERM)  # the same signal, from somebody else who had it
        answered = await get(one.http)
        async with asyncio.timeout(10):
            while running(workers):
                one.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.05)
            status = await one.process.wait()

    assert ok(answered)
    assert status == 1


async def test_grace_cuts_a_request_that_never_ends(hub: Hub) -> None:
    async with backend(hold=asyncio.Event()) as port, proxy(hub, "--workers", "1", "--grace", "3s", "--close-wait", "1s") as one:
        hub.publish(config(port))
        await one.ready()
        slow = asyncio.create_task(get(one.http, "/slow"))
        await until(lambda: _established(port) > 0)
        one.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(3):
            status = await one.process.wait()
        answers = await asyncio.gather(slow, return_exceptions=True)

    assert status == 0
    assert not ok(answers[0] if isinstance(answers[0], bytes) else b"")


async def test_port_in_use_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "--control-socket", str(tmp_path / "none"), "--https", f"127.0.0.1:{port}"),
            *("--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(20):
            _, errors = await process.communicate()

    assert process.returncode == 1
    assert errors.decode() == f"sluice-proxy: Port {port} is in use; --https or SLUICE_HTTPS moves it.\n"


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _rows(port: int, column: int, state: str) -> list[list[str]]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row for row in rows if row[column].endswith(f":{port:04X}") and row[3] == state]


def _queued(port: int) -> int:
    """Connections in the accept queues of a port: a listening socket's receive queue (proc(5))."""
    return sum(int(row[4].split(":")[1], 16) for row in _rows(port, 1, "0A"))


def _established(port: int) -> int:
    return len(_rows(port, 1, "01"))


@pytest.mark.parametrize("why", ["nobody reads", "disk full"])
async def test_log_that_takes_nothing_stops_neither_workers_nor_supervisor(hub: Hub, why: str) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    if why == "disk full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    async with backend() as port, proxy(hub, "--workers", "1", stderr=writer) as one:
        os.close(writer)
        hub.publish(config(port))
        await one.ready()
        for number in range(60):  # a line each in the worker's log and in the supervisor's
            hub.publish(config(port, host=f"h{number}.example.com"))
            await hub.acknowledged()
        (worker,) = one.workers()
        os.kill(worker, signal.SIGKILL)
        await until(lambda: one.workers() not in ([], [worker]))
        answer = await get(one.http, host="h59.example.com")
        health = await one.ask("/healthz")
    os.close(reader)

    assert ok(answer)
    assert health[0] == 200


async def test_worker_killed_again_and_again_is_back_within_a_second_each_time(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port))
        await one.ready()
        waits = []
        for _ in range(6):
            (worker,) = one.workers()
            os.kill(worker, signal.SIGKILL)
            start = time.monotonic()
            assert ok(await get(one.http))
            waits.append(time.monotonic() - start)
            await until(lambda: len(one.workers()) == 1)

    assert max(waits) < 1.0


async def test_sigterm_while_a_worker_is_away_answers_what_waits_for_it(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1", "--drain-time", "1s") as one:
        hub.publish(config(port))
        await one.ready()
        for _ in range(3):
            (worker,) = one.workers()
            os.kill(worker, signal.SIGKILL)
            await until(lambda gone=worker: gone not in one.workers())
            await until(lambda: len(one.workers()) == 1)
        (worker,) = one.workers()
        os.kill(worker, signal.SIGKILL)
        await until(lambda: not one.workers())
        asking = asyncio.create_task(get(one.http))
        await asyncio.sleep(0.05)  # the connection waits in the queue; nothing tells when it does
        one.process.terminate()
        answer = await asking

    assert ok(answer)
