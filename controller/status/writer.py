"""Writes what the tracker says, while this replica leads: conditions of WsRoutes, load balancers and Events of Ingresses.

Nothing is written that stands there already, so two writers that mean the same end in peace; a write names the version that it was
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
from controller.resources.reading.stored_status import Addresses, Observed
from controller.status.client import FAILURES, MERGE, TIMEOUT, explain, status_of
from controller.status.conditions import OURS, PENDING, foreign_conditions, make_conditions
from controller.status.events import FINE, REPEAT_SECONDS, Saying, event_name, make_event, saying
from controller.status.tracker import Told, Tracker

_log = logging.getLogger("sluice.status")
AT_ONCE = 16
"""Requests that may be under way."""
SETTLE = 0.05
"""Seconds from a change to looking at what is to be written: a verdict and its acknowledgement make one write."""
PATIENCE = 1.0
"""Seconds until an object that the proxy has not acknowledged is said to be pending, and until a new problem becomes an Event."""
RETRY_FIRST, RETRY_MOST = 1.0, 60.0
WARN_SECONDS = 60.0
"""For how long one object is named for all that fail alike: while the API server is away none can be written."""
WAR_FIRST, WAR_DOUBLINGS, WAR_MOST = 1.0, 9, 1200.0
"""Seconds until the same is written again after somebody undid it, how often that doubles, and when it is forgotten."""
_GONE = frozenset((404, 409, 422))
"""Statuses after which trying the same again is of no use: the object is gone or newer, and its next version is on its way here."""
_ENDING = "NamespaceTerminating"
"""Cause in the body of a 403: nothing can be made in a namespace that is being deleted, and its objects go with it."""


@dataclass(slots=True)
class _Said:
    """The last Event about an object."""

    what: Saying | None
    at: float


@dataclass(slots=True)
class _Written:
    """What was last written to an object, and how often it had to be written again because somebody wrote something else."""

    what: object
    at: float
    again: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """What the cluster's source shows the writer."""

    observed: Mapping[ObjectRef, Observed]
    addresses: Callable[[], Addresses]
    """What is published in the status of Ingresses; empty: nothing is to be written there."""


@dataclass(slots=True)
class Writer:
    """The one writer of this replica."""

    tracker: Tracker
    view: View
    leading: Callable[[], bool]
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _said: dict[ObjectRef, _Said] = field(default_factory=dict)
    _balanced: set[ObjectRef] = field(default_factory=set)
    """Ingresses whose status names our addresses by our own hand."""
    _retries: dict[ObjectRef, float] = field(default_factory=dict)
    _warned: dict[tuple[type, int], float] = field(default_factory=dict)
    """When a kind of failure was last warned of."""
    _pending: dict[ObjectRef, float] = field(default_factory=dict)
    """Objects that the proxy has not acknowledged, and since when."""
    _fresh: dict[ObjectRef, float] = field(default_factory=dict)
    """Ingresses of which something else is wrong than was said last, and since when."""
    _written: dict[ObjectRef, _Written] = field(default_factory=dict)

    def wake(self) -> None:
        """Look at what the tracker has."""
        self._wake.set()

    async def run(self, api: client.ApiClient) -> None:
        """Write for ever."""
        while True:
            try:
                async with asyncio.timeout(REPEAT_SECONDS / 10):
                    await self._wake.wait()
            except TimeoutError:
                self._repeat()
            await asyncio.sleep(SETTLE)
            self._wake.clear()
            if self.leading():
                await self._write(api)

    def _repeat(self) -> None:
        due = time.monotonic() - REPEAT_SECONDS
        for ref, said in self._said.items():
            if said.what is not None and said.at < due:
                self.tracker.touch(ref)

    async def _write(self, api: client.ApiClient) -> None:
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(ref: ObjectRef) -> None:
            async with limit:
                await self._bring(api, ref)

        async with asyncio.TaskGroup() as group:
            for ref in self.tracker.take():
                group.create_task(one(ref))

    async def _bring(self, api: client.ApiClient, ref: ObjectRef) -> None:
        """Bring one object's status to what is to be said of it."""
        if not self.leading():
            return
        try:
            if ref.kind == "WsRoute":
                await self._bring_conditions(api, ref)
            elif ref.kind == "Ingress":
                await self._bring_addresses(api, ref)
                await self._say(api, ref)
        except FAILURES as error:
            if _is_final(error):
                _log.debug("object=%s error=%r its status is not written", ref, explain(error))
            else:
                self._try_again(ref, error)
        else:
            self._retries.pop(ref, None)

    def _try_again(self, ref: ObjectRef, error: BaseException) -> None:
        delay = self._retries.get(ref, RETRY_FIRST)
        if delay == RETRY_FIRST:
            kind = (type(error), status_of(error) if isinstance(error, ApiException) else 0)
            now = time.monotonic()
            fresh = now - self._warned.get(kind, -WARN_SECONDS) >= WARN_SECONDS
            if fresh:
                self._warned[kind] = now
            level = logging.WARNING if fresh else logging.DEBUG
            _log.log(level, "object=%s error=%r its status is not written; trying again", ref, explain(error))
        self._retries[ref] = min(2 * delay, RETRY_MOST)
        self._look_later(ref, delay)

    def _look_later(self, ref: ObjectRef, delay: float) -> None:
        def again() -> None:
            self.tracker.touch(ref)
            self.wake()

        asyncio.get_running_loop().call_later(delay, again)

    def _may_write(self, ref: ObjectRef, what: object) -> bool:
        """Tell whether to write now. Whoever finds undone what it wrote waits longer each time: two writers make no war."""
        now, last = time.monotonic(), self._written.get(ref)
        if last is None or last.what != what or now - last.at > WAR_MOST:
            self._written[ref] = _Written(what, now)
            return True
        left = last.at + WAR_FIRST * 2**last.again - now
        if left > 0:
            self._look_later(ref, left + 0.01)
            return False
        last.at, last.again = now, min(last.again + 1, WAR_DOUBLINGS)
        if last.again == 3:
            _log.warning("object=%s somebody else writes its status too: it is written less often", ref)
        return True

    async def _bring_conditions(self, api: client.ApiClient, ref: ObjectRef) -> None:
        told, observed = self.tracker.told(ref), self.view.observed.get(ref)
        if observed is None:
            self._written.pop(ref, None)
            return
        if told is None:
            await self._take_back(api, ref, observed)
            return
        if self._is_too_early(ref, told):
            return
        conditions = make_conditions(told.verdict, told.programmed, told.generation, observed.conditions, _now())
        said = (told, tuple(one for one in observed.conditions if one.type not in OURS))
        if conditions is None or not self._may_write(ref, said):
            return
        await self._patch_conditions(api, observed, conditions)

    async def _take_back(self, api: client.ApiClient, ref: ObjectRef, observed: Observed) -> None:
        """Remove what this process said of an object that is not ours any more; what others say of it stays."""
        if self._written.pop(ref, None) is not None:
            await self._patch_conditions(api, observed, foreign_conditions(observed.conditions))

    async def _patch_conditions(self, api: client.ApiClient, observed: Observed, conditions: list[dict[str, object]]) -> None:
        await client.CustomObjectsApi(api).patch_namespaced_custom_object_status(
            "sluice.dev",
            "v1alpha1",
            observed.ref.namespace,
            "wsroutes",
            observed.ref.name,
            {"metadata": {"resourceVersion": observed.resource_version}, "status": {"conditions": conditions}},
            _content_type=MERGE,
            _request_timeout=TIMEOUT,
        )

    def _is_too_early(self, ref: ObjectRef, told: Told) -> bool:
        """Tell whether the proxy's acknowledgement is to be waited for: usually it is a few milliseconds away."""
        if told.programmed is not PENDING:
            self._pending.pop(ref, None)
            return False
        now = time.monotonic()
        left = self._pending.setdefault(ref, now) + PATIENCE - now
        if left > 0:
            self._look_later(ref, left + 0.01)
        return left > 0

    async def _bring_addresses(self, api: client.ApiClient, ref: ObjectRef) -> None:
        told, observed = self.tracker.told(ref), self.view.observed.get(ref)
        if observed is None:
            self._balanced.discard(ref)
            return
        ours = self.view.addresses()
        wanted = ours if told is not None else ()
        if told is None and ref not in self._balanced:
            return  # another controller's, as far as we know
        if wanted == observed.addresses or (told is not None and not ours) or not self._may_write(ref, wanted):
            return
        ingress = [{"ip": address} if address else {"hostname": name} for address, name in wanted]
        await client.NetworkingV1Api(api).patch_namespaced_ingress_status(
            ref.name,
            ref.namespace,
            {"metadata": {"resourceVersion": observed.resource_version}, "status": {"loadBalancer": {"ingress": ingress}}},
            _content_type=MERGE,
            _request_timeout=TIMEOUT,
        )
        if told is not None:
            self._balanced.add(ref)
        else:
            self._balanced.discard(ref)

    async def _say(self, api: client.ApiClient, ref: ObjectRef) -> None:
        """Post an Event if the verdict is another than the one that was last said, or was said long ago."""
        told, observed = self.tracker.told(ref), self.view.observed.get(ref)
        if told is None or observed is None:
            self._said.pop(ref, None)
            self._fresh.pop(ref, None)
            return
        what, last = saying(told.verdict), self._said.get(ref)
        if what is None:
            self._fresh.pop(ref, None)
            if last is not None and last.what is not None:
                await self._post(api, observed, FINE, known=False)
            self._said[ref] = _Said(None, time.monotonic())
            return
        if last is not None and last.what == what and time.monotonic() - last.at < REPEAT_SECONDS:
            self._fresh.pop(ref, None)
            return
        if self._is_too_fresh(ref):
            return
        await self._post(api, observed, what, known=last is not None)
        self._fresh.pop(ref, None)
        self._said[ref] = _Said(what, time.monotonic())

    def _is_too_fresh(self, ref: ObjectRef) -> bool:
        """Tell whether a problem may be over in a moment, and its Event of use to nobody.

        When an ACME challenge is answered, cert-manager deletes the solver's Service and then its Ingress; when one begins, it
        creates them in either order. A sentence that changes meanwhile does not begin to wait anew.
        """
        now, since = time.monotonic(), self._fresh.get(ref)
        if since is None:
            self._fresh[ref] = now
            self._look_later(ref, PATIENCE + 0.01)
            return True
        return now - since < PATIENCE

    async def _post(self, api: client.ApiClient, observed: Observed, what: Saying, *, known: bool) -> None:
        """Create an Event, or let the one that is there be of now. `known`: this process saw the verdict change."""
        events, now = client.CoreV1Api(api), _now()
        namespace = observed.ref.namespace
        try:
            event = client.CoreV1Event.model_validate(make_event(observed, what, now))
            await events.create_namespaced_event(namespace, event, _request_timeout=TIMEOUT)
        except ApiException as error:
            if status_of(error) != 409:
                raise
            if known or what is FINE:
                await events.patch_namespaced_event(
                    event_name(observed, what), namespace, {"lastTimestamp": now}, _content_type=MERGE, _request_timeout=TIMEOUT
                )


def _is_final(error: BaseException) -> bool:
    """Tell whether trying the same again is of no use."""
    return isinstance(error, ApiException) and (status_of(error) in _GONE or _ENDING in str(error.body))


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
