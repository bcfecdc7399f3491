"""Ingress v1 as typed records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.resources.annotations.families.classes import CLASS
from controller.resources.annotations.read import annotations_of, check_strings, read_features
from controller.resources.features import Features
from controller.resources.reading.fields import (
    PATH_HINT,
    Reader,
    check_names,
    encoded_path,
    is_host,
    is_literal_path,
    metadata_ref,
    read_created,
    read_generation,
    read_uid,
    shown,
)
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Malformed, Problem


@dataclass(frozen=True, slots=True)
class BackendRef:
    """A Service port that a rule names, and where it names it."""

    service: str
    port: int | str
    weight: int = 1
    field: str = ""


@dataclass(frozen=True, slots=True)
class IngressPath:
    """One path of a rule. Its number in the object is its place in `Ingress.paths`."""

    host: str
    """Empty: any host."""
    kind: Literal["exact", "prefix"]
    path: str
    """As it was written. Whether it is a literal path or a regular expression depends on others of its host."""
    literal: str
    """As requests write it; empty: none can, so that it can only be an expression."""
    backend: BackendRef
    field: str


@dataclass(frozen=True, slots=True)
class TlsEntry:
    """Hosts and the Secret of their certificate; without a name the default certificate serves them."""

    hosts: tuple[str, ...]
    secret: str
    field: str


@dataclass(frozen=True, slots=True)
class Ingress:
    """A networking.k8s.io/v1 Ingress."""

    ref: ObjectRef
    created: str
    generation: int
    class_name: str | None
    legacy_class: str | None
    """The annotation kubernetes.io/ingress.class, used where spec.ingressClassName is absent."""
    paths: tuple[IngressPath, ...]
    bare_hosts: tuple[str, ...]
    """Hosts of rules without paths: the default backend serves them, as it does the hosts of all rules."""
    default_backend: BackendRef | None
    tls: tuple[TlsEntry, ...]
    features: Features
    problems: tuple[Problem, ...]
    """Annotations that are not honoured; the Ingress is served all the same."""
    uid: str = ""
    """As that of a WsRoute."""


def parse_ingress(raw: Mapping[str, Any]) -> Ingress | Malformed:
    """Read an Ingress."""
    ref = metadata_ref(raw, "Ingress")
    reader = Reader(ref)
    check_names(reader, raw)
    spec = reader.mapping(raw, "spec", "spec")
    paths: list[IngressPath] = []
    bare: list[str] = []
    for place, rule in reader.objects(spec, "rules", "spec.rules"):
        host = reader.text(rule, "host", f"{place}.host")
        if host and not is_host(host):
            reader.report(f"{place}.host", f'{shown(host)} was found, a lower-case host or "*." and a host would be accepted.')
        http = reader.mapping(rule, "http", f"{place}.http")
        items = reader.objects(http, "paths", f"{place}.http.paths")
        if not items:
            bare.append(host)
        for field, item in items:
            path = _parse_path(reader, host, field, item)
            if path is not None:
                paths.append(path)
    default = None
    if spec.get("defaultBackend") is not None:
        default = _parse_backend(reader, reader.mapping(spec, "defaultBackend", "spec.defaultBackend"), "spec.defaultBackend")
    tls = tuple(_parse_tls(reader, place, item) for place, item in reader.objects(spec, "tls", "spec.tls"))
    class_name = reader.text(spec, "ingressClassName", "spec.ingressClassName") or None
    annotations = annotations_of(reader, raw)
    if reader.problems:
        fault = read_features(Reader(ref), annotations).fault
        return Malformed(ref, tuple(reader.problems), class_name, annotations.get(CLASS), read_generation(raw), fault)
    check_strings(reader, raw)
    features = read_features(reader, annotations)
    return Ingress(
        ref,
        read_created(raw),
        read_generation(raw),
        class_name,
        annotations.get(CLASS),
        tuple(paths),
        tuple(bare),
        default,
        tls,
        features,
        tuple(reader.problems),
        read_uid(raw),
    )


def _parse_path(reader: Reader, host: str, field: str, item: Mapping[str, Any]) -> IngressPath | None:
    kind = reader.text(item, "pathType", f"{field}.pathType") or "ImplementationSpecific"
    if kind not in ("Exact", "Prefix", "ImplementationSpecific"):
        reader.report(f"{field}.pathType", f"{shown(kind)} was found, Exact, Prefix or ImplementationSpecific would be accepted.")
    path = reader.text(item, "path", f"{field}.path") or "/"
    if not path.startswith("/"):
        reader.report(f"{field}.path", f"{shown(path)} was found, {PATH_HINT}")
    backend = _parse_backend(reader, reader.mapping(item, "backend", f"{field}.backend"), f"{field}.backend")
    if backend is None:
        return None
    literal = path
    if not is_literal_path(path):
        written = encoded_path(path)
        literal = written if is_literal_path(written) else ""
    return IngressPath(host, "exact" if kind == "Exact" else "prefix", path, literal, backend, field)


def _parse_backend(reader: Reader, raw: Mapping[str, Any], field: str) -> BackendRef | None:
    if raw.get("resource") is not None:
        reader.report(f"{field}.resource", "a resource was found, only backend.service would be accepted.")
        return None
    service = reader.mapping(raw, "service", f"{field}.service")
    name = reader.text(service, "name", f"{field}.service.name", required=True)
    port = reader.mapping(service, "port", f"{field}.service.port")
    number, label = (
        reader.number(port, "number", f"{field}.service.port.number"),
        reader.text(port, "name", f"{field}.service.port.name"),
    )
    if number is None and not label:
        reader.report(f"{field}.service.port", "nothing was found, a number or a name would be accepted.")
        return None
    return BackendRef(name, number if number is not None else label, 1, f"{field}.service")


def _parse_tls(reader: Reader, place: str, item: Mapping[str, Any]) -> TlsEntry:
    hosts = []
    for number, host in enumerate(reader.items(item, "hosts", f"{place}.hosts")):
        if isinstance(host, str) and is_host(host):
            hosts.append(host)
        else:
            reader.report(
                f"{place}.hosts[{number}]", f'{shown(host)} was found, a lower-case host or "*." and a host would be accepted.'
            )
    return TlsEntry(tuple(hosts), reader.text(item, "secretName", f"{place}.secretName"), f"{place}.secretName")
