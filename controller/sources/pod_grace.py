"""How long pods that terminate have left: read once for each, when an EndpointSlice says that it terminates.

A drained endpoint's sockets are closed over what is left of its pod's own grace period, which only the pod says. The slice
waits for the answer, but not for long: that new sockets avoid the endpoint matters more than when the old ones are closed.
"""

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from controller.resources.kinds.service import EndpointSlice
from controller.resources.reading.fields import metadata_of
from controller.resources.reading.object_ref import ObjectRef

_log = logging.getLogger("sluice.sources")
READ_SECONDS = 0.25
"""How long a slice waits for the API server's answers about its pods."""
CONCURRENCY = 16
"""Requests that may be under way."""

Read = Callable[[str, str], Awaitable[Mapping[str, Any]]]
"""Gets a pod by namespace and name; raises where it cannot."""


def deadline_of(pod: Mapping[str, Any], now: float) -> float:
    """Return the Unix time when a pod is killed; 0: it does not terminate.

    That is its deletionTimestamp, which has the grace period in it (Kubernetes, ObjectMeta), the same at every reading. Where our
    clock and the API server's differ by more than the grace period allows, the grace period counts from now.
    """
    metadata = metadata_of(pod)
    stamp, grace = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    if not isinstance(stamp, str) or not isinstance(grace, int):
        return 0.0
    try:
        killed = dt.datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return 0.0
    return killed if now <= killed <= now + grace else now + grace


class PodGraces:
    """The deadlines of pods that slices name as terminating."""

    def __init__(self, read: Read, apply: Callable[[EndpointSlice], None]) -> None:
        self._read = read
        self._apply = apply
        self._known: dict[ObjectRef, dict[str, float]] = {}
        """Per slice, of its pods that terminate; 0: it could not be read."""
        self._held: dict[ObjectRef, EndpointSlice] = {}
        """Slices whose newest version waits for an answer."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._limit = asyncio.Semaphore(CONCURRENCY)
        self._failing = ""

    def apply(self, record: EndpointSlice, *, wait: bool) -> None:
        """Apply a slice with the deadlines of its pods. `wait`: not before they are known, for a moment."""
        ref = record.ref
        ending = {endpoint.pod for endpoint in record.endpoints if endpoint.terminating and endpoint.pod}
        known = {pod: deadline for pod, deadline in self._known.get(ref, {}).items() if pod in ending}
        self._known[ref] = known
        if ref in self._held:
            self._held[ref] = record
            return
        unknown = ending - known.keys()
        if not unknown or not wait:
            self._apply(self._filled(record))
        if unknown:
            if wait:
                self._held[ref] = record
            task = asyncio.create_task(self._read_deadlines(ref, record, unknown))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def forget(self, ref: ObjectRef) -> None:
        """Forget a slice that is gone."""
        self._known.pop(ref, None)
        self._held.pop(ref, None)

    def _filled(self, record: EndpointSlice) -> EndpointSlice:
        known = self._known.get(record.ref)
        if not known:
            return record
        endpoints = tuple(
            replace(endpoint, deadline=known.get(endpoint.pod, 0.0)) if endpoint.terminating else endpoint
            for endpoint in record.endpoints
        )
        return replace(record, endpoints=endpoints)

    async def _read_deadlines(self, ref: ObjectRef, record: EndpointSlice, pods: Iterable[str]) -> None:
        async def read(pod: str) -> float:
            async with self._limit:
                return deadline_of(await self._read(ref.namespace, pod), time.time())

        names = list(pods)
        tasks = [asyncio.create_task(read(pod)) for pod in names]
        done, late = await asyncio.wait(tasks, timeout=READ_SECONDS)
        for task in late:
            task.cancel()
        deadlines: dict[str, float] = {}
        for pod, task in zip(names, tasks, strict=True):
            error = task.exception() if task in done else TimeoutError(f"no answer within {READ_SECONDS:g} s")
            deadlines[pod] = 0.0 if error is not None else task.result()
            if error is not None:
                self._warn(f"{type(error).__name__}: {error}")
        known = self._known.get(ref)
        newest = self._held.pop(ref, record)
        if known is None:
            return  # the slice went meanwhile
        known.update(deadlines)
        self.apply(newest, wait=False)

    def _warn(self, failure: str) -> None:
        if failure != self._failing:
            _log.warning("error=%r sockets of the pod are closed over close.drain.over instead of its grace period", failure[:300])
        self._failing = failure
