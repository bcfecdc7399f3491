"""Services and EndpointSlices as upstreams: one for each Service port that a rule names."""

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.resources import EndpointSlice, Service
from controller.resources.kinds.ingress import BackendRef
from controller.resources.kinds.service import SERVICE_LABEL, ServicePort, SliceEndpoint
from controller.resources.reading.fields import shown
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from controller.translate.dependencies import Dependents
from proxy.model.config import Endpoint, EndpointState, Upstream

TLS_PROTOCOLS = frozenset({"https", "kubernetes.io/wss"})
"""appProtocol of ports that are spoken to over TLS; `kubernetes.io/ws` and anything else is plain."""
OVER_TLS = "/https"
"""The end of an upstream's key where an object, not the Service's port, asks for TLS."""
THROUGH_SERVICE = "/cluster-ip"
"""The end of an upstream's key where an object asks for the address of the Service in place of those of its pods."""
_BEST_FIRST: tuple[EndpointState, ...] = ("ready", "draining", "unready", "stopping")
Flaw = tuple[Reason, str]
"""Why endpoints of a Service port are not used: a reason, and what follows the field in a sentence."""
UnreadyBackend = tuple[str, str]
"""A backend without an endpoint that is ready: the field that names it, and its upstream, such as `shop/chat:80`."""
_USABLE: frozenset[EndpointState] = frozenset({"ready", "draining"})


@dataclass(frozen=True, slots=True)
class UpstreamRules:
    """What may be reached."""

    allow_external_name: bool
    allow_loopback: bool
    own_addresses: frozenset[str] = frozenset()

    def refuses(self, address: str) -> bool:
        """Tell whether an address leads to the proxy itself or its machine."""
        return address in self.own_addresses or (not self.allow_loopback and _is_loopback(address))


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend of a rule that was resolved: its upstream, and where it was named."""

    key: str
    service: Service
    port: ServicePort
    field: str


def resolve_backend(
    owner: ObjectRef, backend: BackendRef, services: Mapping[ObjectRef, Service], rules: UpstreamRules, *, https: bool = False
) -> Backend | Problem:
    """Find the Service port that a rule names, or say why there is none. `https`: it is spoken to over TLS, whatever it says."""
    field = f"{backend.field}.service" if not backend.field.endswith("service") else f"{backend.field}.name"
    ref = ObjectRef("Service", owner.namespace, backend.service)
    service = services.get(ref)
    if service is None:
        message = f'{field}: Service "{ref.path}" was not found; a Service of this namespace would be accepted.'
        return Problem(owner, Reason.BACKEND_NOT_FOUND, field, message)
    if service.external_name and not rules.allow_external_name:
        message = (
            f'{field}: Service "{ref.path}" is of type ExternalName, which needs --allow-external-name; '
            "a Service with endpoints would be accepted."
        )
        return Problem(owner, Reason.REF_NOT_PERMITTED, field, message)
    port = _find_port(service, backend.port)
    if port is not None and https and port.app_protocol not in TLS_PROTOCOLS:
        # Other objects may speak to the same port without TLS: theirs is another upstream.
        return Backend(f"{ref.path}:{port.port}{OVER_TLS}", service, replace(port, app_protocol="https"), backend.field)
    if port is not None:
        return Backend(f"{ref.path}:{port.port}", service, port, backend.field)
    place = f"{backend.field}.port"
    asked = backend.port or '""'
    message = f'{place}: Service "{ref.path}" has no port {asked}; {_ports_of(service)}.'
    return Problem(owner, Reason.PORT_NOT_FOUND, place, message)


def through_service(backend: Backend) -> Backend:
    """Return the backend by the Service's own address, which is another upstream; a Service that has none stays as it is."""
    service = backend.service
    if service.external_name or not service.cluster_ip:
        return backend
    return replace(backend, key=backend.key + THROUGH_SERVICE)


def _find_port(service: Service, wanted: int | str) -> ServicePort | None:
    ports = [port for port in service.ports if port.protocol == "TCP"]
    for port in ports:
        if port.port == wanted or (wanted and port.name == wanted):
            # The first port of that number stands for all of them, whatever the name by which it was asked for.
            return next(first for first in ports if first.port == port.port)
    if service.external_name and not service.ports and isinstance(wanted, int) and 1 <= wanted <= 65535:
        return ServicePort("", wanted)
    return None


def _ports_of(service: Service) -> str:
    known = []
    for port in service.ports:
        words = [word for word in (port.name, port.protocol if port.protocol != "TCP" else "") if word]
        known.append(f"{port.port} ({', '.join(words)})" if words else str(port.port))
    if len(known) < 2:
        return f"its port is {known[0]}" if known else "it has no ports"
    return f"its ports are {', '.join(known[:-1])} and {known[-1]}"


def _is_loopback(address: str) -> bool:
    """Tell whether an address leads to the proxy's own machine; the unspecified address does too, once it is dialled."""
    if address == "localhost" or address.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback or (mapped or ip).is_unspecified


def translate_upstream(
    service: Service, port: ServicePort, slices: Collection[EndpointSlice], rules: UpstreamRules, *, by_service: bool = False
) -> tuple[Upstream, tuple[Flaw, ...]]:
    """Collect the endpoints of one Service port, each with what may be sent there; one in several slices is the best of them.

    `by_service`: its own address is the one endpoint. Also returns why some are not used. Those that are not
    ready are among the endpoints: what is open there stays open.
    """
    tls = port.app_protocol in TLS_PROTOCOLS
    if service.external_name:
        name = service.external_name.lower().rstrip(".")
        if rules.refuses(name):
            return Upstream((), tls), (_refused(service, name),)
        return Upstream((Endpoint(name, port.port),), tls), ()
    if by_service:
        if rules.refuses(service.cluster_ip):
            return Upstream((), tls), (_refused(service, service.cluster_ip),)
        return Upstream((Endpoint(service.cluster_ip, port.port),), tls), ()
    states: dict[tuple[str, int], EndpointState] = {}
    pods: dict[str, str] = {}
    deadlines: dict[str, float] = {}
    for endpoint_slice in slices:
        numbers = [number for name, number in endpoint_slice.ports if name == port.name]
        for endpoint in endpoint_slice.endpoints:
            state = _state(endpoint)
            for number in numbers:
                for address in endpoint.addresses:
                    states[address, number] = min(states.get((address, number), state), state, key=_BEST_FIRST.index)
                    if endpoint.pod:
                        pods[address] = max(endpoint.pod, pods.get(address, ""))
                    if endpoint.deadline:
                        deadlines[address] = max(endpoint.deadline, deadlines.get(address, 0.0))
    refused = {address for (address, _), state in states.items() if state in _USABLE and rules.refuses(address)}
    endpoints = tuple(
        Endpoint(address, number, state, _deadline(state, deadlines.get(address, 0.0)), pods.get(address, ""))
        for (address, number), state in sorted(states.items())
        if not rules.refuses(address)
    )
    return Upstream(endpoints, tls), (
        *(_refused(service, address) for address in sorted(refused)),
        *_portless(service, port, slices),
    )


def _deadline(state: EndpointState, deadline: float) -> float:
    return deadline if state in ("draining", "stopping") else 0.0


def _state(endpoint: SliceEndpoint) -> EndpointState:
    if endpoint.ready:
        return "ready"
    if endpoint.terminating:
        return "draining" if endpoint.serving else "stopping"
    return "unready"


def _refused(service: Service, address: str) -> Flaw:
    message = (
        f'Service "{service.ref.path}" has the endpoint {address}, which is the proxy\'s own machine '
        "and is not used; addresses of pods would be accepted."
    )
    return Reason.REF_NOT_PERMITTED, message


def _portless(service: Service, port: ServicePort, slices: Collection[EndpointSlice]) -> Iterator[Flaw]:
    """Name the first slice whose endpoints are not used because their port is not known."""
    known = any(name == port.name for item in slices for name, _ in item.ports)
    portless = {item.ref.path: number for item in slices for name, number in item.unusable if name == port.name and item.endpoints}
    # Pods that lack the port of that name are no fault while others have it (a named targetPort of the Service).
    if not portless and not known:
        portless = {item.ref.path: "" for item in slices if item.endpoints and not item.ports and not item.unusable}
    if not portless and not known:
        yield from _misnamed(service, port, slices)
    elif portless:
        path = min(portless)
        named = f'port "{port.name}"' if port.name else "the port"
        lacks = f"{named} has {portless[path]}" if portless[path] else "it has no ports"
        message = (
            f'Service "{service.ref.path}" has endpoints in EndpointSlice "{path}" that are not used, as {lacks} there; '
            f"{named} with a number from 1 to 65535 would be accepted."
        )
        yield Reason.PORT_NOT_FOUND, message


def _misnamed(service: Service, port: ServicePort, slices: Collection[EndpointSlice]) -> Iterator[Flaw]:
    """Name the first slice with endpoints all of whose ports have other names than the Service's."""
    others = {item.ref.path: sorted({name for name, _ in item.ports}) for item in slices if item.endpoints and item.ports}
    if others:
        path = min(others)
        message = (
            f'Service "{service.ref.path}" has endpoints in EndpointSlice "{path}" that are not used, as {_named(others[path])} '
            f"there, and port {port.port} of the Service {_called(port.name)}; the same in both would be accepted."
        )
        yield Reason.PORT_NOT_FOUND, message


def _unready(slices: Collection[EndpointSlice]) -> str:
    paths = " and ".join(f'"{path}"' for path in sorted(item.ref.path for item in slices))
    count = sum(len(item.endpoints) for item in slices)
    endpoints = f"{count} endpoints of which none is ready were found" if count else "no endpoints were found"
    return f"{endpoints} in EndpointSlice {paths}; one that is ready would be accepted."


def _named(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"the port {_called(names[0])}"
    return f"the ports are named {' and '.join(map(shown, names))}"


def _called(name: str) -> str:
    return f"is named {shown(name)}" if name else "has no name"


class Upstreams:
    """Stage: the endpoints of every Service port that some object uses."""

    __slots__ = (
        "_dependents",
        "_dirty",
        "_flaws",
        "_keys",
        "_ports",
        "_rules",
        "_slices",
        "_unready",
        "readiness_changed",
        "values",
    )

    def __init__(self, rules: UpstreamRules) -> None:
        self._rules = rules
        self._dependents = Dependents[str]()
        self._ports: dict[str, tuple[Service, ServicePort]] = {}
        self._keys: dict[ObjectRef, set[str]] = {}
        self._slices: dict[ObjectRef, dict[ObjectRef, EndpointSlice]] = {}
        self._flaws: dict[str, tuple[Flaw, ...]] = {}
        """Of upstreams that have any."""
        self._dirty: set[str] = set()
        self._unready: set[str] = set()
        """Upstreams without an endpoint that is ready, but for those whose flaws say why and those that only the resolver knows."""
        self.readiness_changed: set[ObjectRef] = set()
        """Objects whose backends without a ready endpoint may be others than in the last translation."""
        self.values: dict[str, Upstream] = {}

    def replace(self, owner: ObjectRef, old: Iterable[Backend], new: Iterable[Backend]) -> None:
        """Let an object use `new` instead of `old`."""
        self.readiness_changed.add(owner)
        before, after = [backend.key for backend in old], [backend.key for backend in new]
        self._dependents.replace(owner, before, after)
        self._dirty.update(before, after)
        for backend in new:
            self._ports[backend.key] = (backend.service, backend.port)
            self._keys.setdefault(backend.service.ref, set()).add(backend.key)

    def replace_slice(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        """Let a slice `new` stand in place of `old`."""
        for item in (old, new):
            if item is not None:
                service = ObjectRef("Service", item.ref.namespace, item.service)
                self._dirty.update(self._keys.get(service, ()))
                known = self._slices.setdefault(service, {})
                if item is new:
                    known[item.ref] = item
                elif not (known.pop(item.ref, None) and known):
                    self._slices.pop(service, None)

    def resolve(self) -> tuple[set[ObjectRef], bool]:
        """Make dirty upstreams anew; return the users of those whose flaws differ, and whether any upstream differs."""
        affected: set[ObjectRef] = set()
        differs = False
        for key in self._dirty:
            users = self._dependents.of(key)
            before = self.values.get(key)
            if not users:
                differs |= self._drop(key)
                continue
            service, port = self._ports[key]
            behind = self._slices.get(service.ref, {})
            upstream, flaws = translate_upstream(
                service, port, behind.values(), self._rules, by_service=key.endswith(THROUGH_SERVICE)
            )
            if upstream != before:
                self.values[key] = upstream
                differs = True
            if flaws != self._flaws.get(key, ()):
                affected.update(users)
                if flaws:
                    self._flaws[key] = flaws
                else:
                    del self._flaws[key]
            ready = flaws or service.external_name or any(endpoint.state in _USABLE for endpoint in upstream.endpoints)
            if bool(ready) is (key in self._unready):
                (self._unready.discard if ready else self._unready.add)(key)
                self.readiness_changed.update(users)
        self._dirty.clear()
        return affected, differs

    def unready_backends(self, used: Iterable[Backend]) -> tuple[UnreadyBackend, ...]:
        """Return those of an object's backends that have no endpoint that is ready."""
        if not self._unready:
            return ()
        return tuple((backend.field, backend.key) for backend in used if backend.key in self._unready)

    def without_ready_endpoints(self, services: Collection[ObjectRef]) -> dict[str, str]:
        """Say of each upstream without an endpoint that is ready why, as what follows the field in a sentence.

        Not of those whose flaws say it, nor of those of which only the resolver knows the addresses. `services`: that exist.
        """
        reasons = {}
        for key in sorted(self._unready):
            service, _ = self._ports[key]
            behind = self._slices.get(service.ref)
            why = self._without_slice(service.ref, services) if not behind else _unready(behind.values())
            reasons[key] = f'Service "{service.ref.path}" has no endpoint that is ready, so requests get 503: {why}'
        return reasons

    def _without_slice(self, service: ObjectRef, services: Collection[ObjectRef]) -> str:
        """Say that no slice is of a Service, and which other one may be meant to."""
        wanted = f"{SERVICE_LABEL}: {service.name}"
        unlabelled = self._slices.get(ObjectRef("Service", service.namespace, ""), {})
        strays = sorted(
            (ref.path, other.name)
            for other, slices in self._slices.items()
            if other.namespace == service.namespace and other.name and other not in services
            for ref in slices
        )
        near = ""
        if unlabelled:
            near = f', EndpointSlice "{min(ref.path for ref in unlabelled)}" has no such label'
        elif strays:
            near = f', EndpointSlice "{strays[0][0]}" has it with {shown(strays[0][1])}'
        return (
            f'no EndpointSlice of namespace "{service.namespace}" has the label {wanted}{near}; one that has it would be accepted, '
            "which a cluster makes of a Service with a selector."
        )

    def _drop(self, key: str) -> bool:
        known = self._ports.pop(key, None)
        if known is not None:
            keys = self._keys[known[0].ref]
            keys.discard(key)
            if not keys:
                del self._keys[known[0].ref]
        self._flaws.pop(key, None)
        self._unready.discard(key)
        return self.values.pop(key, None) is not None

    def problems(self, owner: ObjectRef, used: Collection[Backend]) -> list[Problem]:
        """Say which endpoints behind an object are not used."""
        if not self._flaws:
            return []
        return [
            Problem(owner, reason, backend.field, f"{backend.field}: {message}")
            for backend in used
            for reason, message in self._flaws.get(backend.key, ())
        ]
