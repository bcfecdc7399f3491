"""What a worker answers to configurations: the new one is in place, or the old one still is."""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from proxy.model.config import EMPTY, Path, ProxyConfig, Route, Share, Target
from proxy.model.wire import Encoded, Report, encode_config, encode_message, reply_between
from proxy.observability.metrics import CONNECTIONS_TOTAL
from proxy.processes.channel import Applied, Configure, Counted, Refused, SendCounts
from proxy.processes.listening_sockets import bind_all, bound_address
from proxy.processes.worker import Inheritance, Slot, Worker
from proxy.settings import Address, Settings
from proxy.shared_memory.counters import Counters
from proxy.shared_memory.session_table import SessionTable
from proxy.tls.contexts import make_context
from proxy.tls.self_signed import self_signed

ROUTE = Route(
    id="wsroute/ns/name/rule",
    origin="wsroute",
    namespace="ns",
    name="name",
    created="",
    index=0,
    hosts=("shop.example.com",),
    path=Path("prefix", "/"),
    http=Target((Share(None),)),
)


def with_routes(*routes: Route) -> ProxyConfig:
    return msgspec.structs.replace(EMPTY, routes={route.id: route for route in routes})


ONE = encode_config(with_routes(ROUTE))
PATTERN = msgspec.structs.replace(ROUTE, id="wsroute/ns/name/pattern", path=Path("regex", "/(unclosed"))
TWO = encode_config(with_routes(ROUTE, PATTERN))


def configure(base: Encoded | None, to: Encoded) -> Configure:
    return Configure(encode_message(reply_between(base, to, Report())))


class Told(Worker):
    """A worker whose answers are kept."""

    def tell(self, message: Configure | SendCounts) -> object:
        answers: list[object] = []
        self._channel.send = answers.append  # type: ignore[method-assign]
        self.received(message)
        (answer,) = answers
        return answer


@pytest.fixture
async def worker() -> AsyncIterator[Told]:
    (http,) = bind_all(Address("127.0.0.1", 0), "--http", 1)
    (https,) = bind_all(Address("127.0.0.1", 0), "--https", 1)
    ports = bound_address(http).port, bound_address(https).port
    made = Told(
        asyncio.get_running_loop(),
        Inheritance(Settings(), make_context(self_signed(time.time())), (Slot(http, https),), *ports, Counters(1), SessionTable(1)),
        0,
    )
    yield made
    made._runtime.wheel.close()
    http.close()
    https.close()


async def test_configuration_is_applied_and_acknowledged_by_its_root(worker: Told) -> None:
    assert worker.tell(configure(None, ONE)) == Applied(ONE.root, {})
    assert set(worker._runtime.routes) == {ROUTE.id}


async def test_route_that_does_not_compile_is_named(worker: Told) -> None:
    worker.tell(configure(None, ONE))
    answer = worker.tell(configure(ONE, TWO))

    assert isinstance(answer, Applied)
    assert set(answer.rejected) == {PATTERN.id}


async def test_change_relative_to_something_else_is_refused_and_the_old_one_stays(worker: Told) -> None:
    worker.tell(configure(None, ONE))
    answer = worker.tell(configure(TWO, ONE))

    assert isinstance(answer, Refused)
    assert set(worker._runtime.routes) == {ROUTE.id}
    assert worker.tell(configure(ONE, ONE)) == Applied(ONE.root, {})


@pytest.mark.parametrize("entry", [b"\xc1", msgspec.msgpack.encode({"type": "route", "value": {"id": 7}})])
async def test_entry_that_cannot_be_read_is_refused_and_the_old_one_stays(worker: Told, entry: bytes) -> None:
    worker.tell(configure(None, ONE))
    reply = msgspec.structs.replace(reply_between(ONE, TWO, Report()), upsert={"r/bad": entry})
    answer = worker.tell(Configure(encode_message(reply)))

    assert isinstance(answer, Refused)
    assert answer.digest == TWO.root
    assert set(worker._runtime.routes) == {ROUTE.id}
    assert isinstance(worker.tell(configure(ONE, TWO)), Applied)


async def test_question_is_answered_with_its_number_and_what_was_counted(worker: Told) -> None:
    worker._runtime.stats.connection_opened("http")
    answer = worker.tell(SendCounts(7))

    assert isinstance(answer, Counted)
    assert (answer.number, answer.delta.counts) == (7, {(CONNECTIONS_TOTAL.number, ("http",)): 1})
