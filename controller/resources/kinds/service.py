"""Services and the endpoints behind them."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.reading.fields import Reader, check_names, metadata_ref, shown
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Malformed

SERVICE_LABEL = "kubernetes.io/service-name"
"""Label of an EndpointSlice that names its Service (discovery.k8s.io/v1, LabelServiceName)."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service."""

    name: str
    port: int
    app_protocol: str = ""
    protocol: str = "TCP"
    """Only TCP ports can be routed to."""


@dataclass(frozen=True, slots=True)
class Service:
    """A v1 Service, as far as routing needs it."""

    ref: ObjectRef
    ports: tuple[ServicePort, ...]
    external_name: str = ""
    """Not empty: type ExternalName."""
    cluster_ip: str = ""
    """Empty: it has none, as a headless one."""


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    """One endpoint of a slice, with all its addresses."""

    addresses: tuple[str, ...]
    ready: bool
    serving: bool
    terminating: bool
    pod: str = ""
    """Name of the pod; empty: it is none."""
    deadline: float = 0.0
    """Unix time when the pod, which terminates, is killed; 0: unknown."""


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """A discovery.k8s.io/v1 EndpointSlice of one Service."""

    ref: ObjectRef
    service: str
    """By its label kubernetes.io/service-name; empty: it has none, and is used for nothing."""
    ports: tuple[tuple[str, int], ...]
    """Name (empty for the unnamed one) and number."""
    endpoints: tuple[SliceEndpoint, ...]
    unusable: tuple[tuple[str, str], ...] = ()
    """Ports that cannot be connected to: name, and what number they have. In Kubernetes none at all means all ports, none to
    connect to either (discovery.k8s.io/v1, EndpointPort); kube-proxy passes over both."""


def parse_service(raw: Mapping[str, Any]) -> Service | Malformed:
    """Read a Service."""
    ref = metadata_ref(raw, "Service")
    reader = Reader(ref)
    check_names(reader, raw)
    spec = reader.mapping(raw, "spec", "spec")
    ports = []
    for path, item in reader.objects(spec, "ports", "spec.ports"):
        number = reader.number(item, "port", f"{path}.port")
        if number is None or not 1 <= number <= 65535:
            reader.report(f"{path}.port", f"{shown(item.get('port'))} was found, a number from 1 to 65535 would be accepted.")
            continue
        name, application = reader.text(item, "name", f"{path}.name"), reader.text(item, "appProtocol", f"{path}.appProtocol")
        protocol = reader.text(item, "protocol", f"{path}.protocol") or "TCP"
        ports.append(ServicePort(name, number, application, protocol))
    external = ""
    address = spec.get("clusterIP")
    cluster_ip = address if isinstance(address, str) and _is_address(address) else ""
    if reader.text(spec, "type", "spec.type") == "ExternalName":
        external = reader.text(spec, "externalName", "spec.externalName", required=True)
    return Malformed(ref, tuple(reader.problems)) if reader.problems else Service(ref, tuple(ports), external, cluster_ip)


def parse_endpoint_slice(raw: Mapping[str, Any]) -> EndpointSlice | Malformed | None:
    """Read an EndpointSlice; None: it is of names instead of addresses."""
    ref = metadata_ref(raw, "EndpointSlice")
    reader = Reader(ref)
    check_names(reader, raw)
    labels = reader.mapping(reader.mapping(raw, "metadata", "metadata"), "labels", "metadata.labels")
    service = labels.get(SERVICE_LABEL)
    if raw.get("addressType") == "FQDN":
        return None
    ports, unusable = [], []
    for path, item in reader.objects(raw, "ports", "ports"):
        number = reader.number(item, "port", f"{path}.port")
        name, protocol = reader.text(item, "name", f"{path}.name"), reader.text(item, "protocol", f"{path}.protocol") or "TCP"
        if protocol == "TCP" and number is not None and 1 <= number <= 65535:
            ports.append((name, number))
        elif protocol == "TCP":
            unusable.append((name, "no number" if number is None else f"the number {number}"))
    endpoints = []
    for path, item in reader.objects(raw, "endpoints", "endpoints"):
        conditions = reader.mapping(item, "conditions", f"{path}.conditions")
        addresses = []
        for number, address in enumerate(reader.items(item, "addresses", f"{path}.addresses")):
            if _is_address(address):
                addresses.append(address)
            else:
                reader.report(f"{path}.addresses[{number}]", f"{shown(address)} was found, an IP address would be accepted.")
        terminating = conditions.get("terminating") is True
        # A condition that is not given counts as ready (discovery.k8s.io/v1, EndpointConditions).
        ready = conditions.get("ready") is not False
        serving = conditions.get("serving")
        target = reader.mapping(item, "targetRef", f"{path}.targetRef")
        pod = reader.text(target, "name", f"{path}.targetRef.name") if target.get("kind") == "Pod" else ""
        serves = ready if serving is None else serving is True
        endpoints.append(SliceEndpoint(tuple(addresses), ready and not terminating, serves, terminating, pod))
    if reader.problems:
        return Malformed(ref, tuple(reader.problems))
    return EndpointSlice(ref, service if isinstance(service, str) else "", tuple(ports), tuple(endpoints), tuple(unusable))


def _is_address(text: object) -> bool:
    try:
        ipaddress.ip_address(text if isinstance(text, str) else "")
    except ValueError:
        return False
    return True
