"""Shedding after a scale-up, in a time of its own: several workers, clients that come back, endpoints that come and go."""

import math
import random
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.model.config import Path, Route, Share, Target
from proxy.model.policy import Close, Drain, Rebalance
from proxy.transport.timer_wheel import Deadline
from proxy.websocket.closer import SocketEntry
from proxy.websocket.rebalance import Rebalancer

TICK = 0.1


def route(above: float = 1.3, rate: float = 50.0, *more: Any) -> Route:
    target = Target((Share("u"),))
    return Route(
        id="wsroute/n/chat/0",
        origin="wsroute",
        namespace="n",
        name="chat",
        created="",
        index=0,
        hosts=("",),
        path=Path("prefix", "/"),
        websocket=target,
        policies=(Rebalance(above, rate), *more),
    )


class Socket:
    """An open socket of one worker."""

    def __init__(self, world: "World", worker: "Worker", number: int, where: Route) -> None:
        self.world, self.worker, self.number = world, worker, number
        self.phase = 0
        self.opened = world.now
        self.stats: Any = SimpleNamespace(info=SimpleNamespace(endpoint=worker.pools[number], service="shop/chat:80"))
        active: Any = SimpleNamespace(route=where)
        self.entry: SocketEntry | None = SocketEntry(self, active)
        worker.pools[number].sockets += 1
        worker.sockets[self] = None

    def close(self, code: int, reason: bytes, cause: str) -> None:
        self.phase = 2
        self.world.closed.append((self.world.now, self.number, self.opened, code, reason, cause))
        self.world.leaving.append((self.world.now + self.world.linger, self))

    def gone(self) -> None:
        self.worker.pools[self.number].sockets -= 1
        del self.worker.sockets[self]


class Worker:
    """One worker: what it has open, and its rebalancer."""

    def __init__(self, world: "World", endpoints: int) -> None:
        self.world = world
        self.sockets: dict[Socket, None] = {}
        self.pools = [SimpleNamespace(sockets=0, counter=Counter(world, number)) for number in range(endpoints)]
        self.usable: list[Any] = list(self.pools)
        self.due: dict[Deadline, None] = {}
        upstreams: Any = {"u": self}
        wheel: Any = self
        self.rebalancer = Rebalancer(wheel, lambda: world.now, self.sockets, upstreams)

    def schedule(self, deadline: Deadline, after: float) -> None:
        deadline.at = self.world.now + after
        self.due[deadline] = None

    def turn(self) -> None:
        for deadline in list(self.due):
            if deadline.at and deadline.at <= self.world.now:
                deadline.at = 0.0
                deadline.callback()


@dataclass
class Counter:
    """What all workers have of one endpoint."""

    world: "World"
    number: int

    @property
    def sockets(self) -> int:
        return sum(worker.pools[self.number].sockets for worker in self.world.workers)


@dataclass
class World:
    """Time, the workers, and the clients outside."""

    workers: list[Worker] = field(default_factory=list)
    now: float = 1000.0
    linger: float = 0.05
    away: float = 1.0
    returning: bool = True
    closed: list[tuple[float, int, float, int, bytes, str]] = field(default_factory=list)
    leaving: list[tuple[float, Socket]] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    where: Route = field(default_factory=route)

    def start(self, workers: int, counts: list[int], seed: int = 1) -> None:
        chance = random.Random(seed)  # noqa: S311  a seeded choice of workers
        self.workers = [Worker(self, len(counts)) for _ in range(workers)]
        for number, count in enumerate(counts):
            for _ in range(count):
                self.now += 0.001
                Socket(self, chance.choice(self.workers), number, self.where)
        for worker in self.workers:
            worker.rebalancer.replace(self.where.id, self.where)

    def counts(self) -> list[int]:
        return [pool.counter.sockets for pool in self.workers[0].pools]

    def run(self, seconds: float) -> None:
        chance = random.Random(2)  # noqa: S311  the same
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            for one in [one for one in self.leaving if one[0] <= self.now]:
                self.leaving.remove(one)
                one[1].gone()
                if self.returning:
                    self.back.append(self.now + self.away)
            for at in [at for at in self.back if at <= self.now]:
                self.back.remove(at)
                counts = self.counts()
                usable = [number for number, pool in enumerate(self.workers[0].pools) if pool in self.workers[0].usable]
                Socket(self, chance.choice(self.workers), min(usable, key=lambda number: counts[number]), self.where)
            for worker in self.workers:
                worker.turn()


def test_new_endpoint_gets_its_share_and_nobody_sheds_more_than_is_too_much() -> None:
    world = World()
    world.start(2, [300, 300, 0])
    world.run(30)

    assert sum(world.counts()) == 600
    assert max(world.counts()) <= 1.3 * 200
    assert len(world.closed) <= 2 * 40 + 4
    assert {(code, reason, cause) for *_, code, reason, cause in world.closed} == {(1012, b"service restart", "rebalance")}


def test_close_policy_says_how_they_go() -> None:
    world = World(where=route(1.3, 50.0, Close(drain=Drain(code=4000, reason="move on"))))
    world.start(1, [30, 0])
    world.run(10)

    assert {(code, reason) for _, _, _, code, reason, _ in world.closed} == {(4000, b"move on")}


def test_rate_is_that_of_all_workers_together() -> None:
    world = World(where=route(1.1, 10.0))
    world.start(4, [1000, 1000, 0, 0])
    world.run(20)
    times = [at for at, *_ in world.closed]
    busiest = max(sum(1 for at in times if start <= at < start + 5) for start in times)

    assert 170 <= len(times) <= 200
    assert busiest <= 5 * 10 + 4


def test_oldest_go_first() -> None:
    world = World(away=1000.0)
    world.start(1, [50, 0])
    world.run(5)
    ages = [opened for _, _, opened, *_ in world.closed]

    assert ages
    assert ages == sorted(ages)
    assert max(ages) < min(socket.opened for socket in world.workers[0].sockets)


def test_clients_that_never_come_back_do_not_take_the_others_along_within_the_half_minute() -> None:
    world = World(returning=False)
    world.start(2, [100, 100, 0])
    world.run(25)

    assert sum(world.counts()) >= 2 * math.floor(1.3 * 200 / 3) - 4


def test_it_ends_at_once_when_the_new_endpoint_goes() -> None:
    world = World(where=route(1.3, 10.0))
    world.start(2, [500, 500, 0])
    world.run(5)
    for worker in world.workers:
        worker.usable.pop()
    before = len(world.closed)
    world.run(10)

    assert before > 10
    assert len(world.closed) == before


def test_it_ends_at_once_when_the_policy_goes() -> None:
    world = World(where=route(1.3, 10.0))
    world.start(2, [500, 500, 0])
    world.run(5)
    for worker in world.workers:
        worker.rebalancer.replace(world.where.id, None)
    before = len(world.closed)
    world.run(10)

    assert len(world.closed) == before > 10


def test_few_sockets_that_no_move_would_spread_better_stay() -> None:
    world = World()
    world.start(2, [2, 1, 1, 1, 1])
    world.run(20)

    assert world.closed == []


def test_sockets_that_go_anyway_count_as_gone() -> None:
    world = World(away=1000.0)
    world.start(1, [50, 30])
    for socket in sorted(world.workers[0].sockets, key=lambda one: one.opened)[:10]:
        socket.close(1012, b"", "endpoint_terminating")
    world.linger = 1000.0
    world.leaving = [(at + 1000, socket) for at, socket in world.leaving]
    before = len(world.closed)
    world.run(10)

    assert len(world.closed) == before


def test_sockets_of_other_routes_at_the_same_endpoints_stay() -> None:
    world = World(where=route(1.3, 50.0), away=1000.0)
    world.start(1, [30, 0])
    other = msgspec.structs.replace(world.where, id="wsroute/n/other/0", policies=())
    for socket in list(world.workers[0].sockets)[:20]:
        assert socket.entry is not None
        socket.entry.active = SimpleNamespace(route=other)  # type: ignore[assignment]
    world.run(10)

    assert [opened for _, _, opened, *_ in world.closed] == sorted(opened for _, _, opened, *_ in world.closed)
    assert len(world.closed) == 10
    assert world.counts() == [20, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 120), min_size=2, max_size=6),
    st.integers(1, 4),
    st.sampled_from([1.05, 1.3, 2.0]),
    st.floats(0.0, 3.0),
    st.integers(0, 1000),
)
def test_whatever_the_start_it_comes_to_rest_within_the_bound(
    counts: list[int], workers: int, above: float, away: float, seed: int
) -> None:
    world = World(where=route(above, 40.0), away=away)
    world.start(workers, counts, seed)
    world.run(60)
    rested = len(world.closed)
    world.run(10)
    mean = sum(counts) / len(counts)

    assert sum(world.counts()) == sum(counts)
    assert max(world.counts()) <= max(above * mean, math.ceil(mean))
    assert len(world.closed) == rested
