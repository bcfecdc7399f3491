"""Causes: every answer of the proxy has one, and what is remembered of backends' errors is bounded."""

import ast
import asyncio
import logging
from pathlib import Path

import pytest

import proxy
from proxy.exchange.accounting import outline
from proxy.http import local_replies
from proxy.http.causes import FILTERS, REFUSALS, UPSTREAM
from proxy.http.local_replies import NO_CONTENT
from proxy.http.message import Answer, Client, Failure
from proxy.observability.metrics import UPSTREAM_ERRORS
from proxy.observability.worker_stats import ServiceStats
from proxy.transport.timer_wheel import TimerWheel
from proxy.upstream.errors import MAX_KINDS, UpstreamErrors

MADE_WHEN_DUE = {
    "unsupported_method": ("TRACE",),
    "odd_method": ("[",),
    "odd_target": ("#",),
    "unreadable_target": ("The request's path has an encoded NUL in it.",),
    "client_full": (429,),
    "rate_exceeded": (429, 3),
    "https_redirect": ("https://a.test/",),
    "with_hsts": (local_replies.NOT_FOUND, "max-age=60"),
    "expression_redirect": ("https://a.test/",),
}
"""The functions of local_replies, and what each is called with."""


def own_answers() -> dict[str, Answer]:
    """Every answer of local_replies, but for those to which a failure or a success gives the cause."""
    names = vars(local_replies)
    constants = {name: value for name, value in names.items() if isinstance(value, Answer) and value is not NO_CONTENT}
    made: dict[str, Answer] = {}
    for name, arguments in MADE_WHEN_DUE.items():
        keywords = {"upgrades_only": True} if name == "rate_exceeded" else {}
        made[name] = names[name](*arguments, **keywords)
    return constants | made


def test_every_answer_of_the_proxy_has_a_cause_that_is_documented() -> None:
    answers = own_answers()

    assert len(answers) > 30
    assert {name: one.cause for name, one in answers.items() if one.cause not in {**REFUSALS, **UPSTREAM, **FILTERS}} == {}
    assert {one.cause for one in answers.values()} == {*REFUSALS, "no_endpoint", "endpoints_full", "filter_failed"}
    assert all(one.message.endswith(".") for one in answers.values())


def test_every_function_that_makes_an_answer_is_among_those_that_are_tried() -> None:
    functions = {
        node.name
        for node in ast.parse(Path(local_replies.__file__).with_name("local_replies.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }

    assert functions == set(MADE_WHEN_DUE)


def test_no_other_module_makes_an_answer() -> None:
    makers: set[str] = set()
    for path in Path(proxy.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            if (isinstance(called, ast.Name) and called.id == "Answer") or (
                isinstance(called, ast.Attribute) and called.attr == "Answer"
            ):
                makers.add(path.name)

    assert makers == {"local_replies.py"}


@pytest.mark.slow
async def test_more_kinds_than_are_told_apart_are_said_by_their_cause(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever has a thousand broken Services fills neither the memory nor the log; every error is counted all the same."""
    caplog.set_level(logging.WARNING, "sluice.upstream")
    wheel = TimerWheel(asyncio.get_running_loop(), lambda _: None)
    errors = UpstreamErrors(wheel, quiet=0.3)
    services = [ServiceStats(f"test/{number}:80") for number in range(MAX_KINDS + 100)]
    for _ in range(3):
        for stats in services:
            errors.record(stats, Failure(502, "connect_refused", stats.key, "10.0.0.1:80"), "id")
    said = len(caplog.messages)
    async with asyncio.timeout(10):
        while errors._kinds:
            await asyncio.sleep(0.01)
    wheel.close()

    assert said == MAX_KINDS + 1
    assert len(caplog.messages) == 2 * (MAX_KINDS + 1)
    assert sum("more=2 " in message for message in caplog.messages) == MAX_KINDS
    assert 'service=* endpoint="10.0.0.1:80" cause=connect_refused more=299 ' in caplog.text
    assert [stats.labelled(UPSTREAM_ERRORS) for stats in services] == [{"connect_refused": 3}] * len(services)


async def test_id_that_a_peer_chose_cannot_write_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sluice.upstream")
    wheel = TimerWheel(asyncio.get_running_loop(), lambda _: None)
    UpstreamErrors(wheel).record(ServiceStats("a"), Failure(502, "truncated", "a"), 'x" \x1b[31m\x85\n' + "y" * 100_000)
    wheel.close()
    (message,) = caplog.messages

    assert 'id="x\\" \\x1b[31m\\x85\\x0ayyyy' in message
    assert len(message) < 400


async def test_what_is_not_a_backends_doing_is_not_counted_as_such(caplog: pytest.LogCaptureFixture) -> None:
    wheel = TimerWheel(asyncio.get_running_loop(), lambda _: None)
    stats = ServiceStats("a")
    UpstreamErrors(wheel).record(stats, Failure(499, "client_gone", "a"), "id")
    wheel.close()

    assert (stats.labelled(UPSTREAM_ERRORS), caplog.messages) == ({}, [])


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", ("", "", "")),
        (b"\r\n", ("", "", "")),
        (b"GET", ("", "", "")),
        (b"GET /a", ("GET", "", "")),
        (b"GET /a ", ("GET", "/a", "")),
        (b"GET /a\r\n", ("GET", "/a", "")),
        (b"GET  /a HTTP/1.1\r\n", ("GET", "", "")),
        (b"\r\nGET /a HTTP/1.1\r\nHost: a.test\r\n", ("GET", "/a", "a.test")),
        (b"GET /a HTTP/1.1\r\nHost: a.te", ("GET", "/a", "")),
        (b"GET /a HTTP/1.1\r\nHOST:\ta.test \r\nX", ("GET", "/a", "a.test")),
        (b"GET /a HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", ("GET", "/a", "")),
        (b"GET /a HTTP/1.1\r\n\r\nHost: body\r\n", ("GET", "/a", "")),
        (b"G[]T /a HTTP/1.1\r\nHost: a\r\n\r\n", ("", "", "a")),
        (b"A" * 32 + b" /" + b"b" * 5000, ("A" * 32, "/" + "b" * 1023, "")),
        (b"A" * 33 + b" /b HTTP/1.1\r\n", ("", "", "")),
        (b"\x16\x03\x01\x00\xa5\x01 \x00", ("", "", "")),
        (b"GET /\xff HTTP/1.1\r\nHost: " + b"h" * 9000 + b"\r\n\r\n", ("GET", "/\xff", "h" * 256)),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"Host: far\r\n\r\n", ("GET", "/", "")),
    ],
)
def test_of_a_refused_head_only_what_is_plain_is_said(head: bytes, expected: tuple[str, str, str]) -> None:
    found = outline(head, Client(peer="192.0.2.1"), lambda _: False)

    assert (found.method, found.target, found.authority) == expected
    assert found.address == "192.0.2.1"


def test_client_of_a_refused_head_is_believed_of_trusted_peers_only() -> None:
    head = b"GET / HTTP/9.9\r\nX-Forwarded-For: 203.0.113.7:1\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n"
    clients = [Client(peer="10.0.0.9", trusted=trusted) for trusted in (True, False)]

    assert [outline(head, client, lambda address: address[0] == 10).address for client in clients] == ["203.0.113.7", "10.0.0.9"]
