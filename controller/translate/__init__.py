"""From what a source knows to what the proxy serves, and what the owners of objects are told. Pure: no clock, no I/O, no log.

A translation is whole every time; what makes it cheap is memory of single steps. `Memo` keeps, for each object, its record, the
records that it looked at and the result; where all of them are still the very same values, the result is taken over. Results
that are taken over keep their identity, so that their digests need not be computed again either.
"""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.resources import EndpointSlice, Ingress, Secret, Service, WsRoute
from controller.resources.ingress import BackendRef
from controller.resources.problems import Problem, Reason
from controller.resources.refs import ObjectRef
from controller.resources.service import ServicePort
from controller.sources.snapshot import SourceSnapshot
from controller.translate.attach import find_classes
from controller.translate.certificates import Claim, check_secret, claims_of, settle_claims, translate_certificate
from controller.translate.policies.https_redirect import covered
from controller.translate.precedence import Place, claim_hosts, find_conflicts, foreign_host, places_of
from controller.translate.report import Verdict, make_verdict
from controller.translate.routes import translate_ingress, translate_ws_route
from controller.translate.upstreams import UpstreamRules, resolve_backend, translate_upstream
from proxy.model.config import Certificate, ProxyConfig, Route, Upstream


@dataclass(frozen=True, slots=True)
class TranslateSettings:
    """What the operator of the controller decided."""

    default_certificate: str = ""
    """``namespace/name`` of a Secret; empty: the proxy makes one."""
    host_ownership: bool = False
    """The first namespace to claim a host keeps it."""
    allow_external_name: bool = False
    allow_loopback: bool = False
    """Endpoints on this machine's loopback may be used: standalone only."""
    implicit_class: bool = False
    """Where no IngressClass is ours, one named sluice is assumed: standalone only."""


@dataclass(frozen=True, slots=True)
class Translation:
    """The result: what is served, and what is said."""

    config: ProxyConfig
    verdicts: Mapping[ObjectRef, Verdict]
    problems: tuple[Problem, ...]
    """Everything that is wrong, objects that could not be read included."""


@dataclass(slots=True)
class _Translated:
    """One object's routes and what they were made of."""

    item: Ingress | WsRoute
    looked_at: tuple[tuple[ObjectRef, Service | None], ...]
    tls: tuple[bool, ...]
    routes: tuple[Route, ...]
    places: tuple[tuple[Place, ...], ...]
    problems: tuple[Problem, ...]
    used: Mapping[str, tuple[Service, ServicePort]]
    claims: tuple[Claim, ...]


@dataclass(slots=True)
class Memo:
    """What the last translation found out. Give it to the next one; a new one changes nothing but the time taken."""

    settings: TranslateSettings | None = None
    objects: dict[ObjectRef, _Translated] = field(default_factory=dict)
    upstreams: dict[str, tuple[Service, ServicePort, tuple[EndpointSlice, ...], Upstream]] = field(default_factory=dict)
    certificates: dict[str, tuple[Secret, Certificate]] = field(default_factory=dict)
    verdicts: dict[ObjectRef, tuple[tuple[Problem, ...], bool, Verdict]] = field(default_factory=dict)
    slices: tuple[Mapping[ObjectRef, EndpointSlice], dict[ObjectRef, list[EndpointSlice]]] | None = None


def translate(snapshot: SourceSnapshot, settings: TranslateSettings, memo: Memo) -> Translation:
    """Translate everything; `memo` is brought up to date."""
    if memo.settings != settings:
        memo.objects, memo.upstreams, memo.verdicts, memo.settings = {}, {}, {}, settings
    classes = find_classes(snapshot.ingress_classes, implicit=settings.implicit_class)
    known: list[Ingress | WsRoute] = [*snapshot.ws_routes.values(), *snapshot.ingresses.values()]
    ours = [item for item in known if classes.serves(item)]
    claims = [claim for item in ours for claim in _claims(item, memo)]
    hosts, told = settle_claims(claims)
    listed = {claim.host for claim in claims}
    problems: dict[ObjectRef, list[Problem]] = {}
    for problem in told:
        problems.setdefault(problem.ref, []).append(problem)
    for claim in claims:
        if (wrong := check_secret(claim, snapshot.secrets, snapshot.malformed)) is not None:
            problems.setdefault(claim.owner, []).append(wrong)
    rules = UpstreamRules(settings.allow_external_name, settings.allow_loopback)
    memo.objects = {item.ref: _translate_object(item, snapshot.services, listed, rules, memo) for item in ours}
    routes = [pair for one in memo.objects.values() for pair in zip(one.routes, one.places, strict=True)]
    if settings.host_ownership:
        routes = _owned(routes, problems)
    conflicts, dead = find_conflicts(routes)
    for ref, found in conflicts.items():
        problems.setdefault(ref, []).extend(found)
    certificates, default = _certificates(hosts, snapshot, settings, problems, memo)
    config = ProxyConfig(
        routes={route.id: route for route, _ in routes},
        upstreams=_upstreams(memo, snapshot.endpoint_slices, rules),
        certificates=certificates,
        tls_hosts={host: secret for host, secret in hosts.items() if secret in certificates},
        default_certificate=default,
    )
    served = {(str(route.origin), route.namespace, route.name) for route, _ in routes if route.id not in dead}
    verdicts = _verdicts(memo, problems, served)
    said = [problem for verdict in verdicts.values() for problem in verdict.problems]
    said += [problem for ref, found in problems.items() if ref not in verdicts for problem in found]
    said += [problem for bad in snapshot.malformed.values() for problem in bad.problems]
    return Translation(config, verdicts, tuple(sorted(set(said))))


def _claims(item: Ingress | WsRoute, memo: Memo) -> tuple[Claim, ...]:
    known = memo.objects.get(item.ref)
    return known.claims if known is not None and known.item is item else claims_of(item)


def _translate_object(
    item: Ingress | WsRoute, services: Mapping[ObjectRef, Service], listed: set[str], rules: UpstreamRules, memo: Memo
) -> _Translated:
    known = memo.objects.get(item.ref)
    tls = tuple(covered(path.host, listed) for path in item.paths) if isinstance(item, Ingress) else ()
    if known is not None and known.item is item and known.tls == tls and all(services.get(r) is s for r, s in known.looked_at):
        return known
    looked_at: dict[ObjectRef, Service | None] = {}
    used: dict[str, tuple[Service, ServicePort]] = {}

    def resolve(backend: BackendRef) -> str | Problem:
        ref = ObjectRef("Service", item.ref.namespace, backend.service)
        looked_at[ref] = services.get(ref)
        found = resolve_backend(item.ref, backend, services, rules)
        if isinstance(found, Problem):
            return found
        key, service, port = found
        used[key] = (service, port)
        return key

    if isinstance(item, WsRoute):
        routes, problems = translate_ws_route(item, resolve)
    else:
        routes, problems = translate_ingress(item, listed, resolve)
        problems += item.problems
    places = tuple(places_of(route) for route in routes)
    return _Translated(item, tuple(looked_at.items()), tls, routes, places, problems, used, claims_of(item))


def _owned(
    routes: list[tuple[Route, tuple[Place, ...]]], problems: dict[ObjectRef, list[Problem]]
) -> list[tuple[Route, tuple[Place, ...]]]:
    owners = claim_hosts(route for route, _ in routes)
    kept = []
    for route, places in routes:
        foreign = [host for host in route.hosts if host and owners[host] != route.namespace]
        for host in foreign:
            problem = foreign_host(route, host, owners[host])
            problems.setdefault(problem.ref, []).append(problem)
        if not foreign:
            kept.append((route, places))
    return kept


def _certificates(
    hosts: Mapping[str, str],
    snapshot: SourceSnapshot,
    settings: TranslateSettings,
    problems: dict[ObjectRef, list[Problem]],
    memo: Memo,
) -> tuple[dict[str, Certificate], str | None]:
    wanted = set(hosts.values())
    default = settings.default_certificate or None
    if default is not None:
        namespace, _, name = default.partition("/")
        ref = ObjectRef("Secret", namespace, name)
        if ref in snapshot.secrets:
            wanted.add(default)
        else:
            message = f'--default-certificate: Secret "{default}" was not found or is no TLS Secret; one made at start is served.'
            problems.setdefault(ref, []).append(Problem(ref, Reason.SECRET_NOT_FOUND, "--default-certificate", message))
            default = None
    found: dict[str, tuple[Secret, Certificate]] = {}
    for key in sorted(wanted):
        namespace, _, name = key.partition("/")
        secret = snapshot.secrets.get(ObjectRef("Secret", namespace, name))
        if secret is not None:
            known = memo.certificates.get(key)
            found[key] = known if known is not None and known[0] is secret else (secret, translate_certificate(secret))
    memo.certificates = found
    return {key: certificate for key, (_, certificate) in found.items()}, default


def _upstreams(memo: Memo, slices: Mapping[ObjectRef, EndpointSlice], rules: UpstreamRules) -> dict[str, Upstream]:
    if memo.slices is None or memo.slices[0] is not slices:
        by_service: dict[ObjectRef, list[EndpointSlice]] = {}
        for ref in sorted(slices):
            one = slices[ref]
            by_service.setdefault(ObjectRef("Service", ref.namespace, one.service), []).append(one)
        memo.slices = (slices, by_service)
    index = memo.slices[1]
    found: dict[str, tuple[Service, ServicePort, tuple[EndpointSlice, ...], Upstream]] = {}
    for translated in memo.objects.values():
        for key, (service, port) in translated.used.items():
            if key in found:
                continue
            behind = tuple(index.get(service.ref, ()))
            known = memo.upstreams.get(key)
            if known is not None and known[0] is service and known[1] == port and _same(known[2], behind):
                found[key] = known
            else:
                found[key] = (service, port, behind, translate_upstream(service, port, behind, rules))
    memo.upstreams = found
    return {key: upstream for key, (_, _, _, upstream) in found.items()}


def _same(old: tuple[EndpointSlice, ...], new: tuple[EndpointSlice, ...]) -> bool:
    return len(old) == len(new) and all(map(operator.is_, old, new))


def _verdicts(
    memo: Memo, problems: Mapping[ObjectRef, Iterable[Problem]], served: set[tuple[str, str, str]]
) -> dict[ObjectRef, Verdict]:
    verdicts: dict[ObjectRef, tuple[tuple[Problem, ...], bool, Verdict]] = {}
    for ref, one in memo.objects.items():
        found = (*one.problems, *problems.get(ref, ()))
        alive = (ref.kind.lower(), ref.namespace, ref.name) in served
        known = memo.verdicts.get(ref)
        if known is not None and known[1] == alive and known[0] == found:
            verdicts[ref] = known
        else:
            verdicts[ref] = (found, alive, make_verdict(found, served=alive))
    memo.verdicts = verdicts
    return {ref: verdict for ref, (_, _, verdict) in verdicts.items()}
