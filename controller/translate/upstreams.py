"""Services and EndpointSlices as upstreams: one for each Service port that a rule names."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.resources import EndpointSlice, Service
from controller.resources.ingress import BackendRef
from controller.resources.problems import Problem, Reason
from controller.resources.refs import ObjectRef
from controller.resources.service import ServicePort
from proxy.model.config import Endpoint, Upstream

TLS_PROTOCOLS = frozenset({"https", "kubernetes.io/wss"})
"""appProtocol of ports that are spoken to over TLS; `kubernetes.io/ws` and anything else is plain."""


@dataclass(frozen=True, slots=True)
class UpstreamRules:
    """What may be reached."""

    allow_external_name: bool
    allow_loopback: bool


def resolve_backend(
    owner: ObjectRef, backend: BackendRef, services: Mapping[ObjectRef, Service], rules: UpstreamRules
) -> tuple[str, Service, ServicePort] | Problem:
    """Find the Service port that a rule names: the upstream's key, the Service, the port; or why there is none."""
    field = f"{backend.field}.service" if not backend.field.endswith("service") else f"{backend.field}.name"
    ref = ObjectRef("Service", owner.namespace, backend.service)
    service = services.get(ref)
    if service is None:
        return Problem(
            owner,
            Reason.BACKEND_NOT_FOUND,
            field,
            f'{field}: Service "{ref.path}" was not found; a Service of this namespace would be accepted.',
        )
    if service.external_name and not rules.allow_external_name:
        message = (
            f'{field}: Service "{ref.path}" is of type ExternalName, which needs --allow-external-name; '
            "a Service with endpoints would be accepted."
        )
        return Problem(owner, Reason.REF_NOT_PERMITTED, field, message)
    for port in service.ports:
        if backend.port in (port.port, port.name):
            return f"{ref.path}:{port.port}", service, port
    if service.external_name and isinstance(backend.port, int) and not service.ports:
        return f"{ref.path}:{backend.port}", service, ServicePort("", backend.port)
    place = f"{backend.field}.port"
    known = [f"{port.port} ({port.name})" if port.name else str(port.port) for port in service.ports]
    text = (
        "it has no ports"
        if not known
        else f"its port is {known[0]}"
        if len(known) == 1
        else f"its ports are {', '.join(known[:-1])} and {known[-1]}"
    )
    return Problem(owner, Reason.PORT_NOT_FOUND, place, f'{place}: Service "{ref.path}" has no port {backend.port}; {text}.')


def translate_upstream(service: Service, port: ServicePort, slices: Iterable[EndpointSlice], rules: UpstreamRules) -> Upstream:
    """Collect the endpoints of one Service port: ready ones, and those that still serve while they terminate."""
    tls = port.app_protocol in TLS_PROTOCOLS
    if service.external_name:
        return Upstream((Endpoint(service.external_name, port.port),), tls)
    found: dict[tuple[str, int], bool] = {}
    for one in slices:
        numbers = [number for name, number in one.ports if name == port.name]
        for endpoint in one.endpoints:
            if not endpoint.ready and not (endpoint.serving and endpoint.terminating):
                continue
            for number in numbers:
                for address in endpoint.addresses:
                    if rules.allow_loopback or not ipaddress.ip_address(address).is_loopback:
                        found[address, number] = found.get((address, number), False) or endpoint.ready
    return Upstream(
        tuple(Endpoint(address, number, "ready" if ready else "draining") for (address, number), ready in sorted(found.items())),
        tls,
    )
