"""Which replica writes: a Lease, held while it is renewed in time.

The kubernetes client's own election crashes where no Lease exists and leads on after its lease has run out
(docs/architecture.md, the Lease). Only writing depends on this one: every replica serves.
"""

import asyncio
import contextlib
import datetime as dt
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from controller.status.client import FAILURES, TIMEOUT, explain, status_of

_log = logging.getLogger("sluice.status")
DURATION = 15
"""Seconds after the last renewal when another replica may take over."""
RENEW_DEADLINE = 10.0
"""Seconds after the last renewal when the holder stops writing."""
RETRY = 2.0
CALL = 4.0
"""Seconds that one request may take: two of them fit before the deadline."""


@dataclass(slots=True)
class _Seen:
    """The Lease as it was last read, and when it last changed by our own clock: other machines' clocks decide nothing."""

    holder: str
    renewed: object
    at: float
    duration: float


class Leader:
    """One candidate. `changed` is called when it begins or ceases to lead."""

    def __init__(self, name: str, namespace: str, identity: str, changed: Callable[[bool], None]) -> None:
        self._name, self._namespace, self._identity = name, namespace, identity
        self._changed = changed
        self._seen: _Seen | None = None
        self._renewed_at = 0.0
        self._rival = ""
        self.leading = False

    async def run(self, api: client.ApiClient) -> None:
        """Stand for ever; gives the Lease up when it is cancelled."""
        leases = client.CoordinationV1Api(api)
        watchdog = asyncio.create_task(self._step_down_in_time())
        failing = ""
        try:
            while True:
                try:
                    async with asyncio.timeout(CALL):
                        leads = await self._try(leases)
                except FAILURES as error:
                    reason = explain(error)
                    if isinstance(error, ApiException) and status_of(error) == 409:
                        _log.debug("lease=%s/%s another replica was first", self._namespace, self._name)
                    elif reason != failing:
                        _log.warning("lease=%s/%s error=%r trying again", self._namespace, self._name, reason)
                    failing = reason
                else:
                    failing = ""
                    self._set(leading=leads)
                await asyncio.sleep(RETRY * random.uniform(0.8, 1.2))  # noqa: S311  no secret: only not all at the same moment
        finally:
            watchdog.cancel()
            led = self.leading
            self._set(leading=False)
            if led:
                with contextlib.suppress(*FAILURES):
                    await asyncio.wait_for(self._give_up(leases), CALL)

    async def _step_down_in_time(self) -> None:
        """Stop leading before another replica may begin, also while a request hangs."""
        while True:
            await asyncio.sleep(0.5)
            if self.leading and time.monotonic() - self._renewed_at > RENEW_DEADLINE:
                _log.warning("lease=%s/%s not renewed for %g s: leading no more", self._namespace, self._name, RENEW_DEADLINE)
                self._set(leading=False)

    def _set(self, *, leading: bool) -> None:
        if leading != self.leading:
            self.leading = leading
            _log.info("lease=%s/%s leading=%s identity=%s", self._namespace, self._name, str(leading).lower(), self._identity)
            self._changed(leading)

    async def _try(self, leases: client.CoordinationV1Api) -> bool:
        """Take or renew the Lease if that may be done; tell whether we hold it."""
        start = time.monotonic()
        try:
            lease = await leases.read_namespaced_lease(self._name, self._namespace, _request_timeout=TIMEOUT)
        except ApiException as error:
            if status_of(error) != 404:
                raise
            lease = None
        if lease is None:
            body = client.V1Lease(metadata=client.V1ObjectMeta(name=self._name), spec=self._spec(None))
            await leases.create_namespaced_lease(self._namespace, body, _request_timeout=TIMEOUT)
        else:
            if not self._may_take(lease.spec):
                return False
            lease.spec = self._spec(lease.spec)
            # Its resourceVersion goes back with it: the second writer is refused.
            await leases.replace_namespaced_lease(self._name, self._namespace, lease, _request_timeout=TIMEOUT)
        self._renewed_at = start
        return True

    def _may_take(self, spec: client.V1LeaseSpec | None) -> bool:
        holder = (spec.holder_identity if spec is not None else None) or ""
        renewed = spec.renew_time if spec is not None else None
        duration = float((spec.lease_duration_seconds if spec is not None else None) or DURATION)
        now = time.monotonic()
        if self._seen is None or (self._seen.holder, self._seen.renewed) != (holder, renewed):
            self._seen = _Seen(holder, renewed, now, duration)
        if holder in ("", self._identity):
            return True
        if holder != self._rival:
            self._rival = holder
            _log.info(
                "lease=%s/%s held by %s: it writes until it ends, or for %g s more", self._namespace, self._name, holder, duration
            )
        return now - self._seen.at > self._seen.duration

    def _spec(self, old: client.V1LeaseSpec | None) -> client.V1LeaseSpec:
        now = dt.datetime.now(dt.UTC)
        ours = old is not None and old.holder_identity == self._identity
        transitions = (old.lease_transitions or 0) if old is not None else -1
        return client.V1LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=DURATION,
            acquire_time=old.acquire_time if old is not None and ours else now,
            renew_time=now,
            lease_transitions=transitions if ours else transitions + 1,
        )

    async def _give_up(self, leases: client.CoordinationV1Api) -> None:
        lease = await leases.read_namespaced_lease(self._name, self._namespace, _request_timeout=TIMEOUT)
        if lease.spec is not None and lease.spec.holder_identity == self._identity:
            lease.spec.holder_identity = None
            lease.spec.lease_duration_seconds = 1
            await leases.replace_namespaced_lease(self._name, self._namespace, lease, _request_timeout=TIMEOUT)
