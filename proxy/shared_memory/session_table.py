# Compiled by mypyc: see setup.py.
"""Sessions of affinity, by their ids, to the endpoints that know them: remembered for all workers of the pod.

The table lies in an anonymous shared mapping made before the fork. Each worker writes into a region of its own and reads all of
them, so no lock is needed; a worker that ends leaves what it wrote, and its successor goes on there. A region is a hash table of
buckets of a few entries; where a bucket is full, the id that was not used for the longest time is forgotten, so that it is bounded.

An entry is written byte by byte while others may read it. It carries a check over its other words: what is read in the middle of
being written does not fit, and counts as not there.
"""

import hashlib
import mmap
import struct
from dataclasses import dataclass
from typing import Final

BUCKETS = 8192
WAYS: Final = 8
"""65,536 ids per worker. One matters while its session polls, and then shows itself at least every 45 s (Engine.IO's defaults)."""
REFRESH_SECONDS: Final = 10
"""An id that is used again is written anew after this time."""

_ENTRY: Final = struct.Struct("<QQQQQ")
_BUCKET_BYTES: Final = WAYS * _ENTRY.size
REGION_BYTES: Final = BUCKETS * _BUCKET_BYTES
_SALT: Final = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class EndpointId:
    """Digests that stand for an endpoint: of its address and port, and of its address alone."""

    exact: int
    address: int


def endpoint_id(address: str, port: int) -> EndpointId:
    """Return what stands for an endpoint; the same in every worker."""
    return EndpointId(_digest(f"{address}|{port}"), _digest(address))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class SessionTable:
    """Made before the fork; each worker then sets its `region`."""

    def __init__(self, regions: int) -> None:
        self._memory = mmap.mmap(-1, regions * REGION_BYTES)
        self._regions = regions
        self.region = 0
        """Where this process writes."""

    def learn(self, scope: str, sid: str, endpoint: EndpointId, now: float) -> None:
        """Remember where a session is. `now`: seconds of the monotonic clock, which all workers share."""
        key, bucket = self._key(scope, sid)
        self._write(key, bucket, endpoint, int(now))

    def find(self, scope: str, sid: str, now: float) -> EndpointId | None:
        """Return where a session is; None: not known, or forgotten. What is found counts as used."""
        key, bucket = self._key(scope, sid)
        best: tuple[int, EndpointId] | None = None
        for step in range(self._regions):
            region = (self.region + step) % self._regions
            entry = self._read(region * REGION_BYTES + bucket, key)
            if entry is not None and (best is None or entry[0] > best[0]):
                best = entry
        if best is None:
            return None
        stamp, endpoint = best
        if int(now) - stamp >= REFRESH_SECONDS:
            self._write(key, bucket, endpoint, int(now))
        return endpoint

    def _key(self, scope: str, sid: str) -> tuple[int, int]:
        # A backend's JSON may have half of a surrogate pair in it (RFC 8259, 8.2), which is no UTF-8.
        digest = hashlib.blake2b(f"{scope}|{sid}".encode(errors="surrogatepass"), digest_size=16).digest()
        return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little") % BUCKETS * _BUCKET_BYTES

    def _read(self, offset: int, key: int) -> tuple[int, EndpointId] | None:
        bucket = self._memory[offset : offset + _BUCKET_BYTES]
        wanted = key.to_bytes(8, "little")
        start = bucket.find(wanted)
        while start >= 0:
            if start % _ENTRY.size == 0:
                _, exact, address, stamp, check = _ENTRY.unpack_from(bucket, start)
                if check == key ^ exact ^ address ^ stamp ^ _SALT:
                    return stamp, EndpointId(exact, address)
            start = bucket.find(wanted, start + 1)
        return None

    def _write(self, key: int, bucket: int, endpoint: EndpointId, now: int) -> None:
        start = self.region * REGION_BYTES + bucket
        chosen, oldest = start, now + 1
        for offset in range(start, start + _BUCKET_BYTES, _ENTRY.size):
            held, _, _, stamp, _ = _ENTRY.unpack_from(self._memory, offset)
            if held == key:
                chosen = offset
                break
            if stamp < oldest:
                chosen, oldest = offset, stamp
        check = key ^ endpoint.exact ^ endpoint.address ^ now ^ _SALT
        _ENTRY.pack_into(self._memory, chosen, key, endpoint.exact, endpoint.address, now, check)
