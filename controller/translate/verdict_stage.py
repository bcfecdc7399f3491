"""The last stage of a translation: the verdict of each object, and the lists of problems and notes."""

from collections.abc import Collection, Iterable

from controller.resources import Ingress
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from controller.sources.snapshot import SourceSnapshot
from controller.translate.certificates import check_default, check_names, check_secret, secret_ref
from controller.translate.conflicts import HostOwners, conflict_problems, foreign_host_problem
from controller.translate.per_object import ObjectTranslation
from controller.translate.stages import ROUTING_KINDS, Stages
from controller.translate.verdicts import LAST_ANSWERS_500, LAST_SERVED, LAST_USED, Verdict, make_verdict, with_suffix


def refresh_verdicts(stages: Stages, snapshot: SourceSnapshot, refs: Iterable[ObjectRef]) -> list[ObjectRef]:
    """Make the verdicts of objects anew; return those that differ from before."""
    verdicts = stages.verdicts
    changed: list[ObjectRef] = []
    for ref in refs:
        before, after = verdicts.get(ref), _verdict(stages, snapshot, ref)
        if after is None:
            if verdicts.pop(ref, None) is not None:
                changed.append(ref)
        elif after != before:
            verdicts[ref] = after
            changed.append(ref)
    return changed


def _verdict(stages: Stages, snapshot: SourceSnapshot, ref: ObjectRef) -> Verdict | None:
    malformed = snapshot.malformed.get(ref)
    translation = stages.objects.get(ref)
    if malformed is not None and stages.classes is not None and not stages.classes.serves(malformed):
        malformed = None
    if translation is None:
        return None if malformed is None else make_verdict(malformed.problems, served=False)
    problems = [
        *translation.problems,
        *stages.path_problems.get(ref, ()),
        *stages.upstreams.problems(ref, translation.backends),
        *_tls_problems(stages, snapshot, translation),
        *_host_problems(stages, translation),
    ]
    if malformed is not None:
        suffix = LAST_ANSWERS_500 if ref in stages.faults else LAST_SERVED if translation.routes else ""
        return make_verdict((*problems, *with_suffix(malformed.problems, suffix)), served=False)
    if not problems:
        return make_verdict((), served=True)
    withheld = isinstance(translation.item, Ingress) and translation.item.features.canary
    if translation.routes:
        withheld = all(route.fault for route in translation.routes)
    return make_verdict(problems, served=not withheld and (not translation.routes or stages.serves_anything(ref)))


def _tls_problems(stages: Stages, snapshot: SourceSnapshot, translation: ObjectTranslation) -> Iterable[Problem]:
    for claim in (*translation.claims, *translation.claims_without_host):
        if (problem := check_secret(claim, snapshot.secrets, snapshot.malformed)) is not None:
            yield problem
    claims = stages.claims.get(translation.item.ref, ())
    yield from stages.tls.problems(claims)
    for claim in claims:
        if claim.secret and stages.tls.secrets.get(claim.host) == claim.secret:
            problem = check_names(claim, snapshot.secrets[secret_ref(claim.secret)])
            if problem is not None:
                yield problem


def _host_problems(stages: Stages, translation: ObjectTranslation) -> Iterable[Problem]:
    if stages.settings.host_ownership:
        yield from _foreign_hosts(translation, stages.host_owners)
    routes = stages.path_routes.get(translation.item.ref, ())
    conflicts = [(route, places) for route in routes if (places := stages.conflicts.lost_places(route))]
    if conflicts:
        fields = translation.fields()
        for route, places in conflicts:
            yield from conflict_problems(route, places, fields)


def _foreign_hosts(translation: ObjectTranslation, owners: HostOwners) -> Iterable[Problem]:
    ref = translation.item.ref
    fields = {host: translation.host_field(host) for route in translation.routes for host in route.hosts if host}
    fields = {**{claim.host: claim.field for claim in translation.claims if claim.source == "listed"}, **fields}
    for host, field in fields.items():
        owner = owners.foreign_owner(host, ref.namespace)
        if owner is not None:
            yield foreign_host_problem(ref, field, host, owner)


def list_problems(stages: Stages, snapshot: SourceSnapshot) -> tuple[Problem, ...]:
    """Return what is wrong, in order of the objects; last, what is wrong with the default certificate."""
    by_object = {ref: verdict.problems for ref, verdict in stages.verdicts.items() if verdict.problems}
    for ref, malformed in snapshot.malformed.items():
        if ref.kind not in ROUTING_KINDS and _is_needed(stages, ref):
            by_object[ref] = _of_malformed(snapshot, ref, malformed.problems)
    for ref, ingress_class in snapshot.ingress_classes.items():
        if ingress_class.problems and ingress_class.controller == stages.settings.controller_name:
            by_object[ref] = (*by_object.get(ref, ()), *ingress_class.problems)
    problems = tuple(problem for ref in sorted(by_object, key=_order) for problem in by_object[ref])
    default = check_default(stages.settings.default_certificate, snapshot.secrets, snapshot.malformed)
    return problems if default is None else (*problems, default)


def list_notes(stages: Stages, snapshot: SourceSnapshot) -> tuple[Problem, ...]:
    """Return what is wrong with Secrets that no object of ours names, then, where asked for, which backends have no endpoint."""
    unneeded = {
        ref: _of_malformed(snapshot, ref, malformed.problems)
        for ref, malformed in snapshot.malformed.items()
        if ref.kind not in ROUTING_KINDS and not _is_needed(stages, ref)
    }
    notes = tuple(problem for ref in sorted(unneeded, key=_order) for problem in unneeded[ref])
    return (*notes, *_without_endpoints(stages, snapshot.services)) if stages.settings.note_endpoints else notes


def _is_needed(stages: Stages, ref: ObjectRef) -> bool:
    """Tell whether an object that is no route is of use to one: a Secret is where one names it, all others are."""
    return ref.kind != "Secret" or ref.path == stages.settings.default_certificate or bool(stages.secret_dependents.of(ref))


def _of_malformed(snapshot: SourceSnapshot, ref: ObjectRef, problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return with_suffix(sorted(set(problems)), LAST_USED if _is_held(snapshot, ref) else "")


def _is_held(snapshot: SourceSnapshot, ref: ObjectRef) -> bool:
    """Tell whether an earlier version of an object that is no route is known."""
    return any(ref in kind for kind in (snapshot.services, snapshot.endpoint_slices, snapshot.secrets, snapshot.ingress_classes))


def _without_endpoints(stages: Stages, services: Collection[ObjectRef]) -> Iterable[Problem]:
    """Say of each object which of its backends have no endpoint that is ready."""
    reasons = stages.upstreams.without_ready_endpoints(services)
    for ref in sorted(stages.objects, key=_order) if reasons else ():
        for backend in stages.objects[ref].backends:
            if (reason := reasons.get(backend.key)) is not None:
                yield Problem(ref, Reason.BACKEND_NOT_FOUND, backend.field, f"{backend.field}: {reason}")


def _order(ref: ObjectRef) -> tuple[str, str, str]:
    return (ref.kind, ref.namespace, ref.name)
