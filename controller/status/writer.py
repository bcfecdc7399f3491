"""Writes what the tracker reports, while this replica leads: conditions of WsRoutes, load balancers and Events of Ingresses.

Nothing is written that is stored already, so two writers that mean the same come to rest; a write names the version that it was
made for, so that it never undoes what it has not seen.
"""

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.stored_status import Addresses, StoredStatus
from controller.status.client import FAILURES, MERGE, TIMEOUT, explain, status_of
from controller.status.conditions import OURS, PENDING, foreign_conditions, make_conditions
from controller.status.events import ALL_SOLVED, REPEAT_SECONDS, EventText, event_name, event_text, make_event
from controller.status.tracker import StatusReport, Tracker

_log = logging.getLogger("sluice.status")
CONCURRENCY = 16
"""Requests that may be under way."""
HOLDOFF = 0.05
"""Seconds from a change to writing: a verdict and its acknowledgement make one write."""
GRACE = 1.0
"""Seconds until an object that the proxy has not acknowledged is reported as pending, and until a new problem becomes an Event."""
RETRY_FIRST, RETRY_MOST = 1.0, 60.0
WARN_SECONDS = 60.0
"""For how long one object is named for all that fail alike: while the API server is away none can be written."""
CONTENTION_FIRST, CONTENTION_DOUBLINGS, CONTENTION_MOST = 1.0, 9, 1200.0
"""Seconds until the same is written again after another writer undid it, how often that doubles, and when it is forgotten."""
_GONE = frozenset((404, 409, 422))
"""Statuses after which trying the same again is of no use: the object is gone or newer, and its next version is on its way here."""
_NAMESPACE_ENDS = "NamespaceTerminating"
"""Cause in the body of a 403: nothing can be made in a namespace that is being deleted, and its objects go with it."""


@dataclass(slots=True)
class _LastEvent:
    """The last Event about an object."""

    text: EventText | None
    at: float


@dataclass(slots=True)
class _Written:
    """The last write to an object, and how often it was repeated because another writer wrote something else."""

    content: object
    at: float
    again: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """What the writer sees of the cluster's source."""

    stored_statuses: Mapping[ObjectRef, StoredStatus]
    addresses: Callable[[], Addresses]
    """What is published in the status of Ingresses; empty: nothing is to be written there."""


@dataclass(slots=True)
class Writer:
    """The one writer of this replica."""

    tracker: Tracker
    view: View
    leading: Callable[[], bool]
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _events: dict[ObjectRef, _LastEvent] = field(default_factory=dict)
    _balanced: set[ObjectRef] = field(default_factory=set)
    """Ingresses whose status names our addresses by our own hand."""
    _retries: dict[ObjectRef, float] = field(default_factory=dict)
    _warned: dict[tuple[type, int], float] = field(default_factory=dict)
    """When a kind of failure was last warned of."""
    _pending: dict[ObjectRef, float] = field(default_factory=dict)
    """Objects that the proxy has not acknowledged, and since when."""
    _unsettled: dict[ObjectRef, float] = field(default_factory=dict)
    """Ingresses whose problems differ from their last Event, and since when."""
    _written: dict[ObjectRef, _Written] = field(default_factory=dict)

    def wake(self) -> None:
        """Write what is dirty."""
        self._wake.set()

    async def run(self, api: client.ApiClient) -> None:
        """Write for ever."""
        while True:
            try:
                async with asyncio.timeout(REPEAT_SECONDS / 10):
                    await self._wake.wait()
            except TimeoutError:
                self._repeat()
            await asyncio.sleep(HOLDOFF)
            self._wake.clear()
            if self.leading():
                await self._write(api)

    def _repeat(self) -> None:
        due = time.monotonic() - REPEAT_SECONDS
        for ref, event in self._events.items():
            if event.text is not None and event.at < due:
                self.tracker.mark_dirty(ref)

    async def _write(self, api: client.ApiClient) -> None:
        limit = asyncio.Semaphore(CONCURRENCY)

        async def write(ref: ObjectRef) -> None:
            async with limit:
                await self._write_object(api, ref)

        async with asyncio.TaskGroup() as group:
            for ref in self.tracker.take_dirty():
                group.create_task(write(ref))

    async def _write_object(self, api: client.ApiClient, ref: ObjectRef) -> None:
        """Write the status of one object, where it differs."""
        if not self.leading():
            return
        try:
            if ref.kind == "WsRoute":
                await self._write_conditions(api, ref)
            elif ref.kind == "Ingress":
                await self._write_addresses(api, ref)
                await self._write_event(api, ref)
        except FAILURES as error:
            if _is_final(error):
                _log.debug("object=%s error=%r its status is not written", ref, explain(error))
            else:
                self._retry(ref, error)
        else:
            self._retries.pop(ref, None)

    def _retry(self, ref: ObjectRef, error: BaseException) -> None:
        delay = self._retries.get(ref, RETRY_FIRST)
        if delay == RETRY_FIRST:
            kind = (type(error), status_of(error) if isinstance(error, ApiException) else 0)
            now = time.monotonic()
            is_due = now - self._warned.get(kind, -WARN_SECONDS) >= WARN_SECONDS
            if is_due:
                self._warned[kind] = now
            level = logging.WARNING if is_due else logging.DEBUG
            _log.log(level, "object=%s error=%r its status is not written; trying again", ref, explain(error))
        self._retries[ref] = min(2 * delay, RETRY_MOST)
        self._write_later(ref, delay)

    def _write_later(self, ref: ObjectRef, delay: float) -> None:
        def again() -> None:
            self.tracker.mark_dirty(ref)
            self.wake()

        asyncio.get_running_loop().call_later(delay, again)

    def _may_write(self, ref: ObjectRef, content: object) -> bool:
        """Tell whether to write now. What was undone is written again later each time, so that two writers come to rest."""
        now, last = time.monotonic(), self._written.get(ref)
        if last is None or last.content != content or now - last.at > CONTENTION_MOST:
            self._written[ref] = _Written(content, now)
            return True
        left = last.at + CONTENTION_FIRST * 2**last.again - now
        if left > 0:
            self._write_later(ref, left + 0.01)
            return False
        last.at, last.again = now, min(last.again + 1, CONTENTION_DOUBLINGS)
        if last.again == 3:
            _log.warning("object=%s another writer writes its status too: it is written less often", ref)
        return True

    async def _write_conditions(self, api: client.ApiClient, ref: ObjectRef) -> None:
        report, stored = self.tracker.report_of(ref), self.view.stored_statuses.get(ref)
        if stored is None:
            self._written.pop(ref, None)
            return
        if report is None:
            await self._remove_conditions(api, ref, stored)
            return
        if self._awaits_acknowledgement(ref, report):
            return
        conditions = make_conditions(
            *(report.verdict, report.programmed, report.generation, stored.conditions, _now(), report.unready),
            keep_unready=self.tracker.awaits_endpoints(ref),
        )
        content = (report, tuple(condition for condition in stored.conditions if condition.type not in OURS))
        if conditions is None or not self._may_write(ref, content):
            return
        await self._patch_conditions(api, stored, conditions)

    async def _remove_conditions(self, api: client.ApiClient, ref: ObjectRef, stored: StoredStatus) -> None:
        """Remove the conditions that this process wrote to an object that is not ours any more; those of others stay."""
        if self._written.pop(ref, None) is not None:
            await self._patch_conditions(api, stored, foreign_conditions(stored.conditions))

    async def _patch_conditions(self, api: client.ApiClient, stored: StoredStatus, conditions: list[dict[str, object]]) -> None:
        await client.CustomObjectsApi(api).patch_namespaced_custom_object_status(
            "sluice.dev",
            "v1alpha1",
            stored.ref.namespace,
            "wsroutes",
            stored.ref.name,
            {"metadata": {"resourceVersion": stored.resource_version}, "status": {"conditions": conditions}},
            _content_type=MERGE,
            _request_timeout=TIMEOUT,
        )

    def _awaits_acknowledgement(self, ref: ObjectRef, report: StatusReport) -> bool:
        """Tell whether to wait for the proxy's acknowledgement, which usually is a few milliseconds away."""
        if report.programmed is not PENDING:
            self._pending.pop(ref, None)
            return False
        now = time.monotonic()
        left = self._pending.setdefault(ref, now) + GRACE - now
        if left > 0:
            self._write_later(ref, left + 0.01)
        return left > 0

    async def _write_addresses(self, api: client.ApiClient, ref: ObjectRef) -> None:
        report, stored = self.tracker.report_of(ref), self.view.stored_statuses.get(ref)
        if stored is None:
            self._balanced.discard(ref)
            return
        ours = self.view.addresses()
        wanted = ours if report is not None else ()
        if report is None and ref not in self._balanced:
            return  # another controller's, as far as we know
        if wanted == stored.addresses or (report is not None and not ours) or not self._may_write(ref, wanted):
            return
        ingress = [{"ip": address} if address else {"hostname": name} for address, name in wanted]
        await client.NetworkingV1Api(api).patch_namespaced_ingress_status(
            ref.name,
            ref.namespace,
            {"metadata": {"resourceVersion": stored.resource_version}, "status": {"loadBalancer": {"ingress": ingress}}},
            _content_type=MERGE,
            _request_timeout=TIMEOUT,
        )
        if report is not None:
            self._balanced.add(ref)
        else:
            self._balanced.discard(ref)

    async def _write_event(self, api: client.ApiClient, ref: ObjectRef) -> None:
        """Post an Event if the verdict differs from the last one, or if that Event is old."""
        report, stored = self.tracker.report_of(ref), self.view.stored_statuses.get(ref)
        if report is None or stored is None:
            self._events.pop(ref, None)
            self._unsettled.pop(ref, None)
            return
        text, last = event_text(report.verdict), self._events.get(ref)
        if text is None:
            self._unsettled.pop(ref, None)
            if last is not None and last.text is not None:
                await self._post(api, stored, ALL_SOLVED, known=False)
            self._events[ref] = _LastEvent(None, time.monotonic())
            return
        if last is not None and last.text == text and time.monotonic() - last.at < REPEAT_SECONDS:
            self._unsettled.pop(ref, None)
            return
        if self._is_unsettled(ref):
            return
        await self._post(api, stored, text, known=last is not None)
        self._unsettled.pop(ref, None)
        self._events[ref] = _LastEvent(text, time.monotonic())

    def _is_unsettled(self, ref: ObjectRef) -> bool:
        """Tell whether a problem is so new that it may be over in a moment.

        When an ACME challenge is answered, cert-manager deletes the solver's Service and then its Ingress; when one begins, it
        creates them in either order. A sentence that changes meanwhile does not begin to wait anew.
        """
        now, since = time.monotonic(), self._unsettled.get(ref)
        if since is None:
            self._unsettled[ref] = now
            self._write_later(ref, GRACE + 0.01)
            return True
        return now - since < GRACE

    async def _post(self, api: client.ApiClient, stored: StoredStatus, text: EventText, *, known: bool) -> None:
        """Create an Event, or let the one that is there be of now. `known`: this process saw the verdict change."""
        events, now = client.CoreV1Api(api), _now()
        namespace = stored.ref.namespace
        try:
            event = client.CoreV1Event.model_validate(make_event(stored, text, now))
            await events.create_namespaced_event(namespace, event, _request_timeout=TIMEOUT)
        except ApiException as error:
            if status_of(error) != 409:
                raise
            if known or text is ALL_SOLVED:
                await events.patch_namespaced_event(
                    event_name(stored, text), namespace, {"lastTimestamp": now}, _content_type=MERGE, _request_timeout=TIMEOUT
                )


def _is_final(error: BaseException) -> bool:
    """Tell whether trying the same again is of no use."""
    return isinstance(error, ApiException) and (status_of(error) in _GONE or _NAMESPACE_ENDS in str(error.body))


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
