"""The step that is done for one object at a time: its routes, and everything that later stages ask about it."""

from collections.abc import Mapping
from dataclasses import dataclass

from controller.resources import Ingress, Secret, Service, WsRoute
from controller.resources.kinds.ingress import BackendRef
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem
from controller.translate.certificates import Claim, tls_claims_of
from controller.translate.routes import translate_ingress, translate_ws_route
from controller.translate.upstreams import Backend, UpstreamRules, resolve_backend, through_service
from proxy.model.config import Route


@dataclass(frozen=True, slots=True)
class ObjectTranslation:
    """One object as far as it can be translated without looking at other objects of its kind."""

    item: Ingress | WsRoute
    routes: tuple[Route, ...]
    """As written: with all hosts, and without the redirects of Ingress paths."""
    problems: tuple[Problem, ...]
    services: tuple[ObjectRef, ...]
    """Services that are named, whether they exist or not."""
    backends: tuple[Backend, ...]
    """One for each upstream."""
    claims: tuple[Claim, ...]
    claims_without_host: tuple[Claim, ...]
    """Entries for TLS whose hosts depend on the certificates of their Secrets."""

    def fields(self) -> Mapping[str, str]:
        """Return where in the object each route was written, by its id."""
        if isinstance(self.item, WsRoute):
            places = [rule.field for rule in self.item.rules]
        else:
            places = [path.field for path in self.item.paths]
        places += ["spec.defaultBackend"] * (len(self.routes) - len(places))
        return {route.id: place for route, place in zip(self.routes, places, strict=True)}

    def host_field(self, host: str) -> str:
        """Return where in the object a host was written."""
        if isinstance(self.item, WsRoute):
            return f"spec.hosts[{self.item.hosts.index(host)}]"
        return next((f"{path.field.partition('.http')[0]}.host" for path in self.item.paths if path.host == host), "spec.rules")


def translate_object(
    item: Ingress | WsRoute,
    services: Mapping[ObjectRef, Service],
    secrets: Mapping[ObjectRef, Secret],
    rules: UpstreamRules,
    before: ObjectTranslation | None,
) -> ObjectTranslation:
    """Translate one object. Routes that come out as they were in `before` are taken over, so that they keep their identity."""
    services_seen: dict[ObjectRef, None] = {}
    backends: dict[str, Backend] = {}
    https = isinstance(item, Ingress) and item.features.backend_https
    by_service = isinstance(item, Ingress) and item.features.service_upstream

    def resolve(backend: BackendRef) -> str | Problem:
        services_seen[ObjectRef("Service", item.ref.namespace, backend.service)] = None
        resolved = resolve_backend(item.ref, backend, services, rules, https=https)
        if isinstance(resolved, Problem):
            return resolved
        if by_service:
            resolved = through_service(resolved)
        backends.setdefault(resolved.key, resolved)
        return resolved.key

    if isinstance(item, WsRoute):
        routes, problems = translate_ws_route(item, resolve)
    else:
        routes, problems = translate_ingress(item, resolve)
        problems += item.problems
    if before is not None:
        routes = keep_identity(before.routes, routes)
    tls = tls_claims_of(item, secrets)
    problems += tls.problems
    return ObjectTranslation(
        item, routes, problems, tuple(services_seen), tuple(backends.values()), tls.claims, tls.claims_without_host
    )


def keep_identity(old: tuple[Route, ...], new: tuple[Route, ...]) -> tuple[Route, ...]:
    """Return `new` with every route that equals the one of the same id in `old` replaced by that very value."""
    held = {route.id: route for route in old}
    return tuple(before if (before := held.get(route.id)) == route and before is not None else route for route in new)
