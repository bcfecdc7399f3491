"""The status of an object as the API server holds it, and the version that it is of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.reading.fields import as_mapping, metadata_of, metadata_ref, read_generation
from controller.resources.reading.object_ref import ObjectRef

Addresses = tuple[tuple[str, str], ...]
"""IP address and host name of each entry of a load balancer's status; one of the two is empty."""


@dataclass(frozen=True, slots=True)
class StoredCondition:
    """A condition as it is stored."""

    type: str
    status: str
    reason: str
    message: str
    observed_generation: int
    last_transition: str
    """RFC 3339."""


@dataclass(frozen=True, slots=True)
class StoredStatus:
    """The status of one object."""

    ref: ObjectRef
    api_version: str
    uid: str
    resource_version: str
    generation: int
    conditions: tuple[StoredCondition, ...] = ()
    addresses: Addresses = ()


def read_stored_status(raw: Mapping[str, Any], kind: str) -> StoredStatus:
    """Read the status of an Ingress, WsRoute or Service. Never raises, whatever stands there."""
    metadata, status = metadata_of(raw), as_mapping(raw.get("status"))
    return StoredStatus(
        metadata_ref(raw, kind),
        str(raw.get("apiVersion") or ""),
        str(metadata.get("uid") or ""),
        str(metadata.get("resourceVersion") or ""),
        read_generation(raw),
        tuple(
            StoredCondition(
                str(item.get("type") or ""),
                str(item.get("status") or ""),
                str(item.get("reason") or ""),
                str(item.get("message") or ""),
                item["observedGeneration"] if isinstance(item.get("observedGeneration"), int) else 0,
                str(item.get("lastTransitionTime") or ""),
            )
            for item in _items(status.get("conditions"))
        ),
        _addresses(as_mapping(status.get("loadBalancer"))),
    )


def service_addresses(raw: Mapping[str, Any]) -> Addresses:
    """Return the addresses by which a Service is reached: its load balancer's, then its external ones, else the cluster's own."""
    spec = as_mapping(raw.get("spec"))
    given = spec.get("externalIPs")
    external = tuple((str(address), "") for address in given) if isinstance(given, list) else ()
    if spec.get("type") == "LoadBalancer":
        return _addresses(as_mapping(as_mapping(raw.get("status")).get("loadBalancer"))) + external
    if spec.get("type") == "ExternalName":
        return (("", str(spec.get("externalName") or "")),)
    address = spec.get("clusterIP")
    return external or (((address, ""),) if isinstance(address, str) and address not in ("", "None") else ())


def _addresses(balancer: Mapping[str, Any]) -> Addresses:
    entries = ((str(item.get("ip") or ""), str(item.get("hostname") or "")) for item in _items(balancer.get("ingress")))
    return tuple((address, name) for address, name in entries if address or name)


def _items(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
