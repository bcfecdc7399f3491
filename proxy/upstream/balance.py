# Compiled by mypyc: see setup.py.
"""The choice among endpoints and among the shares of a target. Pure but for its own counters."""

import random
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from proxy.model.config import LoadBalancing, Share
from proxy.upstream.rendezvous import mix

_SHARE_SALT: Final = 0x15A4E35
"""The choice of a share is independent of the one of an endpoint."""

MOST_COMPARED: Final = 64
"""Endpoints among which the least loaded is looked for. Of more, each choice looks at the next so many: to read what all workers
have open takes about 0.2 us each."""


class Loaded(Protocol):
    """An endpoint as far as its load is concerned."""

    @property
    def load(self) -> int:
        """Requests in flight and open sockets."""
        ...

    @property
    def cost(self) -> float:
        """How long one more request would wait for its answer, by what is known."""
        ...


E = TypeVar("E", bound=Loaded)


class LoadBalancer:
    """The state of one upstream's load balancing: where the round has come."""

    __slots__ = ("_round",)

    def __init__(self) -> None:
        self._round = -1

    def choose(self, policy: LoadBalancing, endpoints: Sequence[E]) -> E:
        """Choose one of `endpoints`, which is not empty."""
        count = len(endpoints)
        if count == 1:
            return endpoints[0]
        if policy == "random2":
            first, second = random.sample(endpoints, 2)
            return first if first.load <= second.load else second
        if policy == "ewma":
            # Of two only: the best one of all would get everything until its next answer says otherwise.
            first, second = random.sample(endpoints, 2)
            return first if first.cost <= second.cost else second
        self._round += 1
        if policy == "round-robin":
            return endpoints[self._round % count]
        # Ties go round, so that idle endpoints share what comes; so do the stretches of many, one further in each round.
        rounds = -(-count // MOST_COMPARED)
        start = (self._round // rounds + self._round % rounds * MOST_COMPARED) % count
        best = endpoints[start]
        least = best.load
        for step in range(1, min(count, MOST_COMPARED)):
            candidate = endpoints[(start + step) % count]
            load = candidate.load
            if load < least:
                best, least = candidate, load
        return best


class Shares:
    """Smooth weighted round robin over the shares of a target: every stretch of traffic is split as the whole is."""

    __slots__ = ("_credits", "_shares", "_total", "single", "upstreams")

    def __init__(self, shares: Sequence[Share]) -> None:
        self._shares = [share for share in shares if share.weight > 0]
        self._credits = [0] * len(self._shares)
        self._total = sum(share.weight for share in self._shares)
        self.single = len(self._shares) == 1
        self.upstreams = tuple([share.upstream for share in self._shares if share.upstream is not None])
        """Keys of the upstreams that get anything."""

    def choose(self) -> Share | None:
        """Return the next share; None: no share has a weight."""
        if self.single:
            return self._shares[0]
        best = -1
        for number, share in enumerate(self._shares):
            self._credits[number] += share.weight
            if best < 0 or self._credits[number] > self._credits[best]:
                best = number
        if best < 0:
            return None
        self._credits[best] -= self._total
        return self._shares[best]

    def choose_for(self, key: int) -> Share | None:
        """Return the share of a key of 30 bits, always the same one; None: no share has a weight."""
        point = mix(key ^ _SHARE_SALT) * self._total >> 30
        for share in self._shares:
            point -= share.weight
            if point < 0:
                return share
        return None
