# Compiled by mypyc: see setup.py.
"""Rendezvous hashing: each key ranks all endpoints, and the first one serves it. Pure.

An endpoint that goes moves the keys that it was first for, and no others; one that comes takes its share from everybody. All
numbers stay below 2**30, so that a product fits into a machine word when this is compiled. Every worker and every pod of the
proxy ranks alike: nothing here depends on the process.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

NO_KEY: Final = -1
"""The request has nothing to hash."""

KEY_MASK: Final = (1 << 30) - 1
"""Bits of a key."""


class Ranked(Protocol):
    """An endpoint, as far as it is ranked."""

    seed: int


R = TypeVar("R", bound=Ranked)


def hash_key(text: str) -> int:
    """Return the key of a text: 30 bits."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") & KEY_MASK


def seed_of(address: str, port: int) -> int:
    """Return what stands for an endpoint in its rank: 30 bits."""
    return hash_key(f"{address}|{port}")


def mix(number: int) -> int:
    """Spread 30 bits over 30 bits: each bit of the result depends on all (after the finalizer of MurmurHash3)."""
    number = ((number ^ number >> 15) * 0x2C1B3C6D) & KEY_MASK
    number = ((number ^ number >> 12) * 0x297A2D39) & KEY_MASK
    return number ^ number >> 15


def highest_ranked(key: int, endpoints: Sequence[R]) -> R:
    """Return the endpoint that ranks first for `key`; there is at least one."""
    best = endpoints[0]
    highest = mix(key ^ best.seed)
    for endpoint in endpoints:
        rank = mix(key ^ endpoint.seed)
        if rank > highest:
            best, highest = endpoint, rank
    return best
