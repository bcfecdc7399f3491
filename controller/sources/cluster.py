"""The API server as the source of objects: a reflector for each kind, and the store that they fill."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import kopf
from kopf._cogs.clients import api
from kopf._cogs.structs.references import NamespaceName, Resource

from controller.resources import parse_object
from controller.resources.kinds.service import EndpointSlice
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem
from controller.resources.reading.stored_status import Addresses, StoredStatus, read_stored_status, service_addresses
from controller.sources.api_session import ApiSession
from controller.sources.pod_grace import PodGraces
from controller.sources.reflector import Kind, Reflector, State, requests_log
from controller.sources.snapshot import SourceSnapshot, Store

SILENCE = 300.0
"""Seconds without an answer to a reflector after which it counts as dead."""

_SERVICES = Kind("Service", "", "v1", "services")
KINDS = (
    Kind("IngressClass", "networking.k8s.io", "v1", "ingressclasses", namespaced=False),
    Kind("Ingress", "networking.k8s.io", "v1", "ingresses"),
    Kind("WsRoute", "sluice.dev", "v1alpha1", "wsroutes"),
    _SERVICES,
    Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"),
    # Not every Secret: kopf's selectors are per kind, and other types would get a stream of their own.
    Kind("Secret", "", "v1", "secrets", fields="type=kubernetes.io/tls"),
)
_NAMESPACES = Kind("Namespace", "", "v1", "namespaces", namespaced=False)
_PODS = Resource("", "v1", "pods", kind="Pod", namespaced=True)
_STATUS = ("Ingress", "WsRoute")


def _is_same_spec(known: StoredStatus, new: StoredStatus) -> bool:
    return new.generation > 0 and (known.uid, known.generation) == (new.uid, new.generation)


async def _read_pod(namespace: str, name: str) -> Mapping[str, Any]:
    """Get a pod, in one try."""
    settings = kopf.OperatorSettings()
    settings.networking.error_backoffs = ()
    settings.networking.request_timeout = 5.0
    url = _PODS.get_url(namespace=NamespaceName(namespace), name=name)
    response = await api.request(method="get", url=url, settings=settings, logger=requests_log)
    async with response:
        pod: Mapping[str, Any] = await response.json()
    return pod


class ClusterSource:
    """The objects of a cluster.

    `changed` is called with a kind when its objects, or whether they can be watched, changed; `status_changed` with an object that
    came or went or whose stored status differs, the publish service's addresses among it.
    """

    def __init__(
        self,
        namespaces: Sequence[str],
        changed: Callable[[str], None],
        status_changed: Callable[[ObjectRef], None],
        *,
        namespace_selector: str = "",
        always: Collection[ObjectRef] = (),
        publish_service: ObjectRef | None = None,
        pod_grace: bool = False,
    ) -> None:
        """`namespace_selector`: labels of the namespaces whose objects are served; `always`: objects that are so in any namespace.

        `pod_grace`: read pods that terminate, for the time that they have left.
        """
        self.listed = asyncio.Event()
        """Set once every kind is listed, or known to be absent or forbidden."""
        self.stored_statuses: dict[ObjectRef, StoredStatus] = {}
        """Of every Ingress and WsRoute."""
        self.published: Addresses = ()
        """Addresses of the publish service."""
        self._changed, self._status_changed = changed, status_changed
        self._publish_service = publish_service
        self._store = Store(selective=bool(namespace_selector), always=always)
        self._namespaces = Reflector(replace(_NAMESPACES, labels=namespace_selector), None, self) if namespace_selector else None
        self._namespaces_listed = asyncio.Event()
        self._served = [
            Reflector(kind, namespace, self)
            for kind in KINDS
            for namespace in (tuple(dict.fromkeys(namespaces)) or (None,) if kind.namespaced else (None,))
        ]
        """Of what decides what is served."""
        if self._namespaces is not None:
            self._served.append(self._namespaces)
        self._reflectors = list(self._served)
        self._running: list[Reflector] = []
        if publish_service is not None and namespaces and publish_service.namespace not in namespaces:
            # The rights for it name it: a list by its name is what they allow.
            kind = replace(_SERVICES, fields=f"metadata.name={publish_service.name}")
            self._reflectors.append(Reflector(kind, publish_service.namespace, self))
        self._graces = PodGraces(_read_pod, self._store_slice) if pod_grace else None
        self._session: ApiSession | None = None

    async def run(self) -> None:
        """Watch for ever; raises `ApiSessionError` where no API server is configured."""
        self._session = ApiSession(kopf.OperatorSettings())
        self._session.install()
        try:
            async with asyncio.TaskGroup() as group:
                if self._namespaces is not None:
                    # First, so that no object is looked at before it is known whether its namespace is served.
                    self._start(self._namespaces, group)
                    await self._namespaces_listed.wait()
                for reflector in self._reflectors:
                    if reflector is not self._namespaces:
                        self._start(reflector, group)
        finally:
            await self._session.close()

    def _start(self, reflector: Reflector, group: asyncio.TaskGroup) -> None:
        self._running.append(reflector)
        group.create_task(reflector.run(), name=f"reflector of {reflector.where}")

    @property
    def snapshot(self) -> SourceSnapshot:
        """What the cluster holds, as far as the reflectors know."""
        return self._store.snapshot()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Kinds that cannot be watched."""
        return tuple(reflector.problem for reflector in self._reflectors if reflector.problem is not None)

    @property
    def forbidden(self) -> bool:
        """Whether a kind has never been seen because it may not be."""
        return any(reflector.state is State.FORBIDDEN for reflector in self._served)

    @property
    def alive(self) -> bool:
        """Whether every reflector had an answer lately: objects of a silent one may be out of date."""
        oldest = min((reflector.last_answer for reflector in self._running), default=time.monotonic())
        return time.monotonic() - oldest < SILENCE

    def apply(self, ref: ObjectRef, raw: Mapping[str, Any], kind: Kind) -> None:
        """Take a version of an object."""
        if kind.name == _NAMESPACES.name:
            self._select(ref.name, selected=True)
            return
        stored = read_stored_status(raw, kind.name) if kind.name in _STATUS else None
        known = self.stored_statuses.get(ref)
        if stored is not None and known != stored:
            self.stored_statuses[ref] = stored
            self._status_changed(ref)
        if kind.name == "WsRoute" and stored is not None and known is not None and _is_same_spec(known, stored):
            return  # a status was written, as ours is: a new spec has a new generation
        record = parse_object(raw)
        if self._graces is not None and isinstance(record, EndpointSlice):
            if self._store.is_served(ref):
                self._graces.apply(record, wait=self.listed.is_set())
                return
            self._graces.forget(ref)
        if (self._store.remove(ref) if record is None else self._store.apply(record)) and self._store.is_served(ref):
            self._changed(kind.name)
        if ref == self._publish_service:
            addresses = service_addresses(raw)
            if addresses != self.published:
                self.published = addresses
                self._status_changed(ref)

    def _store_slice(self, record: EndpointSlice) -> None:
        if self._store.apply(record):
            self._changed("EndpointSlice")

    def _select(self, namespace: str, *, selected: bool) -> None:
        """Serve the objects of a namespace, or not any more: it has the labels, or lost them."""
        if not self._store.select(namespace, selected=selected):
            return
        if selected and self._graces is not None:
            for record in self._store.slices_in(namespace):
                self._graces.apply(record, wait=False)
        self._changed(_NAMESPACES.name)

    def remove(self, ref: ObjectRef, kind: Kind) -> None:
        """Forget an object."""
        if kind.name == _NAMESPACES.name:
            self._select(ref.name, selected=False)
            return
        if self._graces is not None and kind.name == "EndpointSlice":
            self._graces.forget(ref)
        if self._store.remove(ref) and self._store.is_served(ref):
            self._changed(kind.name)
        if self.stored_statuses.pop(ref, None) is not None or ref == self._publish_service:
            self.published = () if ref == self._publish_service else self.published
            self._status_changed(ref)

    def state_changed(self, reflector: Reflector) -> None:
        """Publish a reflector's new state or problem."""
        if reflector is self._namespaces and reflector.state is not State.STARTING:
            self._namespaces_listed.set()
        if all(served.state is not State.STARTING for served in self._served):
            self.listed.set()
        self._changed(reflector.kind.name)
