"""The access log: one line each, nothing of a client's breaks it, and it never waits."""

import asyncio
import fcntl
import json
import os

from proxy.http.message import Client, Request
from proxy.observability.access_log import BUFFER_LIMIT, AccessLog


def make_request(target: str = "/x", agent: str = "t") -> Request:
    lines = [f"User-Agent: {agent}".encode("latin-1")]
    request = Request(Client(peer="10.0.0.9"), "GET", target, 11, "a.test", "a.test", lines, upgrade=False)
    request.id = "id1"
    return request


async def test_json_line_holds_what_happened() -> None:
    reader, writer = os.pipe()
    log = AccessLog("json", asyncio.get_running_loop(), writer)
    log.request(make_request(), 502, "n/s:80", 5, 0.25, "ingress/n/a/0", "10.0.0.1:8080", "connect_refused")
    log.close()
    line = json.loads(os.read(reader, 65536))
    del line["time"]
    os.close(reader)
    os.close(writer)

    assert line == {
        "event": "request",
        "client": "10.0.0.9",
        "method": "GET",
        "host": "a.test",
        "target": "/x",
        "agent": "t",
        "id": "id1",
        "route": "ingress/n/a/0",
        "service": "n/s:80",
        "status": 502,
        "bytes": 5,
        "seconds": 0.25,
        "endpoint": "10.0.0.1:8080",
        "cause": "connect_refused",
    }


async def test_control_characters_and_quotes_of_a_client_are_escaped() -> None:
    reader, writer = os.pipe()
    log = AccessLog("text", asyncio.get_running_loop(), writer)
    log.request(make_request('/"x', 'evil\x1b[31m"\xe9'), 200, "n/s:80", 5, 0.25, "r")
    log.close()
    data = os.read(reader, 65536)
    os.close(reader)
    os.close(writer)

    assert data.count(b"\n") == 1
    assert b'target="/\\"x"' in data
    assert b'agent="evil\\x1b[31m\\"\\xe9"' in data


async def test_reader_that_does_not_read_loses_lines_and_stops_nothing() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    log = AccessLog("text", asyncio.get_running_loop(), writer)
    for _ in range(2 * BUFFER_LIMIT // 200):
        log.request(make_request(), 200, "n/s:80", 5, 0.25, "r")
        log.flush()
    log.close()
    os.close(reader)
    os.close(writer)

    assert log.dropped > 0


async def test_log_whose_reader_is_gone_drops_lines() -> None:
    reader, writer = os.pipe()
    log = AccessLog("text", asyncio.get_running_loop(), writer)
    os.close(reader)
    log.request(make_request(), 200, "n/s:80", 5, 0.25, "r")
    log.flush()
    log.close()
    os.close(writer)

    assert log.dropped == 1


async def test_disk_that_is_full_costs_lines_and_what_has_room_again_begins_on_a_line_of_its_own() -> None:
    """A file that must not grow stands for the disk; the place where it is written to is the log's and ours together."""
    file = os.memfd_create("disk", os.MFD_ALLOW_SEALING)
    size = 8192
    os.truncate(file, size)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    log = AccessLog("text", asyncio.get_running_loop(), file)
    written = 0
    while not log.dropped:
        for _ in range(10):
            log.request(make_request(), 200, "n/s:80", 5, 0.25, "r")
            written += 1
        log.flush()
    full = os.pread(file, size, 0)
    dropped = log.dropped
    os.lseek(file, 0, os.SEEK_SET)
    log.request(make_request("/after"), 200, "n/s:80", 5, 0.25, "r")
    log.close()
    after = os.pread(file, size, 0)
    os.close(file)

    assert len(full.rstrip(b"\0")) > size - 4096
    assert full.count(b"\n") + dropped == written
    assert after.startswith(b"\ntime=")
    assert b'target="/after"' in after.split(b"\n")[1]
    assert log.dropped == dropped
