"""The stages of a translation: what each remembers, and one update of all of them (`incremental.py` tells how)."""

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from controller.resources import Ingress, WsRoute
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem
from controller.sources.snapshot import SourceSnapshot
from controller.translate.certificates import Claim, TlsHosts, names_covering, secret_ref
from controller.translate.conflicts import Conflicts, HostOwners
from controller.translate.dependencies import Dependents, changed_refs
from controller.translate.expressions import ExpressionHosts, resolve_paths
from controller.translate.ingress_class import Classes, find_classes
from controller.translate.per_object import ObjectTranslation, keep_identity, translate_object
from controller.translate.policies.https_redirect import with_redirect
from controller.translate.settings import TranslateSettings
from controller.translate.upstreams import UnreadyBackend, UpstreamRules, Upstreams
from controller.translate.verdicts import Verdict
from proxy.model.config import Certificate, Route

ROUTING_KINDS = ("Ingress", "WsRoute")


class Stages:
    """What every stage remembers under one setting."""

    def __init__(self, settings: TranslateSettings) -> None:
        self.settings = settings
        self.rules = UpstreamRules(settings.allow_external_name, settings.allow_loopback, settings.own_addresses)
        self.snapshot = SourceSnapshot()
        self.classes: Classes | None = None
        self.objects: dict[ObjectRef, ObjectTranslation] = {}
        self.own_routes: dict[ObjectRef, tuple[Route, ...]] = {}
        """Routes of each object, without the hosts of other namespaces."""
        self.path_routes: dict[ObjectRef, tuple[Route, ...]] = {}
        """The same with what the paths of Ingresses are on their hosts, literal or expressions."""
        self.path_problems: dict[ObjectRef, tuple[Problem, ...]] = {}
        """What is wrong with paths of Ingresses that are missing there."""
        self.claims: dict[ObjectRef, tuple[Claim, ...]] = {}
        """TLS claims that count: of objects that are served, for hosts that are not another namespace's."""
        self.faults: dict[ObjectRef, str] = {}
        """Why the last good version of an object answers 500."""
        self.served_routes: dict[ObjectRef, tuple[Route, ...]] = {}
        self.served_by_id: dict[str, Route] = {}
        self.service_dependents = Dependents[ObjectRef]()
        self.secret_dependents = Dependents[ObjectRef]()
        self.tls_dependents = Dependents[str]()
        """TLS host to the Ingresses with a path whose redirect depends on it."""
        self.claim_dependents = Dependents[str]()
        """Host to the objects that name it in a tls section."""
        self.host_owners = HostOwners()
        self.expression_hosts = ExpressionHosts(self.tls_dependents)
        self.conflicts = Conflicts()
        self.tls = TlsHosts()
        self.upstreams = Upstreams(self.rules)
        self.verdicts: dict[ObjectRef, Verdict] = {}
        self.certificates: dict[str, tuple[object, Certificate]] = {}
        self.classless: set[str] = set()
        """Objects whose class does not exist, as ids of their routes begin."""

    def serves_anything(self, ref: ObjectRef) -> bool:
        """Tell whether an object has a route that serves a place."""
        return any(self.conflicts.is_served(route) for route in self.path_routes.get(ref, ()))


class Update:
    """One translation under way: what is dirty so far. Its methods are called once each, in their order."""

    def __init__(self, stages: Stages, snapshot: SourceSnapshot) -> None:
        self.stages = stages
        self.old, self.new = stages.snapshot, snapshot
        self.dirty: set[ObjectRef] = set()
        """Objects that came, went, or were translated anew."""
        self.objects_to_serve: set[ObjectRef] = set()
        """Objects of which something that is served may differ: hosts, paths, conflicts, TLS claims or redirects."""
        self.verdicts_to_refresh: set[ObjectRef] = set()
        before = stages.snapshot
        self.problems_differ = (
            stages.classes is None
            or stages.settings.note_endpoints
            or snapshot.malformed is not before.malformed
            or snapshot.ingress_classes is not before.ingress_classes
        )
        """Problems of objects without a verdict may differ."""

    def _record(self, ref: ObjectRef) -> Ingress | WsRoute | None:
        return self.new.ws_routes.get(ref) if ref.kind == "WsRoute" else self.new.ingresses.get(ref)

    def _item(self, ref: ObjectRef) -> Ingress | WsRoute | None:
        item = self._record(ref)
        return item if item is not None and self._classes.serves(item) else None

    def translate_objects(self) -> None:
        """Translate what changed, what refers to Services that changed, and everything if our classes changed."""
        stages, old, new = self.stages, self.old, self.new
        classes, dirty = stages.classes, self.dirty
        if classes is None or old.ingress_classes is not new.ingress_classes:
            classes = find_classes(new.ingress_classes, stages.settings.controller_name, implicit=stages.settings.implicit_class)
        self._classes = classes
        if classes != stages.classes:
            stages.classes = classes
            for snapshot in (old, new):
                dirty.update(snapshot.ws_routes, snapshot.ingresses)
                self.verdicts_to_refresh.update(ref for ref in snapshot.malformed if ref.kind in ROUTING_KINDS)
        dirty.update(changed_refs(old.ws_routes, new.ws_routes), changed_refs(old.ingresses, new.ingresses))
        for ref in changed_refs(old.services, new.services):
            dirty.update(stages.service_dependents.of(ref))
        for ref in changed_refs(old.secrets, new.secrets):
            dirty.update(user for user in stages.secret_dependents.of(ref) if stages.objects[user].claims_without_host)
        for ref in changed_refs(old.endpoint_slices, new.endpoint_slices):
            stages.upstreams.replace_slice(old.endpoint_slices.get(ref), new.endpoint_slices.get(ref))
        for ref in changed_refs(old.malformed, new.malformed):
            if ref in stages.objects and stages.faults.get(ref, "") != self._fault(ref):
                dirty.add(ref)
        for ref in dirty:
            self._translate(ref)
        self.verdicts_to_refresh |= dirty
        malformed = changed_refs(old.malformed, new.malformed)
        self.verdicts_to_refresh.update(ref for ref in malformed if ref.kind in ROUTING_KINDS)
        secrets = changed_refs(old.secrets, new.secrets)
        self.problems_differ |= any(ref.path == stages.settings.default_certificate for ref in secrets)
        self._mark_dependents_of((*secrets, *(ref for ref in malformed if ref.kind == "Secret")))

    def _translate(self, ref: ObjectRef) -> None:
        stages, item = self.stages, self._item(ref)
        before = stages.objects.pop(ref, None)
        after = None if item is None else translate_object(item, self.new.services, self.new.secrets, stages.rules, before)
        stages.faults.pop(ref, None)
        if after is not None:
            if fault := self._fault(ref):
                stages.faults[ref] = fault
                faulty = tuple(msgspec.structs.replace(route, fault=fault) for route in after.routes)
                after = replace(after, routes=keep_identity(before.routes if before else (), faulty))
            stages.objects[ref] = after
        stages.service_dependents.replace(ref, before.services if before else (), after.services if after else ())
        stages.secret_dependents.replace(ref, _secrets(before), _secrets(after))
        stages.claim_dependents.replace(ref, _claimed_hosts(before), _claimed_hosts(after))
        stages.tls_dependents.replace(ref, _tls_names(before), _tls_names(after))
        stages.upstreams.replace(ref, before.backends if before else (), after.backends if after else ())

    def _fault(self, ref: ObjectRef) -> str:
        """Say why what is held of an object answers 500: its newest version asks for a guard that cannot be carried out."""
        malformed = self.new.malformed.get(ref)
        return malformed.fault if malformed is not None and self._classes.serves(malformed) else ""

    def _mark_dependents_of(self, secrets: Iterable[ObjectRef]) -> None:
        """Mark the objects that name Secrets, and the hosts that they name them for."""
        stages = self.stages
        for ref in secrets:
            users = stages.secret_dependents.of(ref)
            self.verdicts_to_refresh.update(users)
            claims = (claim for user in users for claim in stages.objects[user].claims)
            stages.tls.mark_dirty(claim.host for claim in claims if secret_ref(claim.secret) == ref)

    def find_classless(self, before: tuple[str, ...]) -> tuple[str, ...]:
        """Return the objects whose class does not exist; `before` where nothing of that changed."""
        new, classless = self.new, self.stages.classless
        known = {ref.name for ref in new.ingress_classes} | self._classes.names
        all_of_them = self.old.ingress_classes is not new.ingress_classes
        for ref in (*self.dirty, *new.ws_routes, *new.ingresses) if all_of_them else self.dirty:
            item = self._record(ref)
            lacks = item is not None and item.class_name is not None and item.class_name not in known
            (classless.add if lacks else classless.discard)(f"{ref.kind.lower()}/{ref.path}")
        after = tuple(sorted(classless))
        return before if after == before else after

    def resolve_host_owners(self) -> None:
        """Take hosts of other namespaces away from routes, where hosts are not shared."""
        stages, changed = self.stages, set(self.dirty)
        if stages.settings.host_ownership:
            hosts: set[str] = set()
            for ref in self.dirty:
                # The hosts that an object claimed before are those of its routes as they were written.
                hosts |= stages.host_owners.replace_object(ref, _routes(stages.objects.get(ref)))
            hosts_with_new_owner, claimants = stages.host_owners.resolve(hosts)
            changed.update(claimants)
            for host in hosts_with_new_owner:
                changed.update(stages.claim_dependents.of(host))
        for ref in changed:
            before = stages.own_routes.pop(ref, ())
            after = _routes(stages.objects.get(ref))
            if stages.settings.host_ownership:
                own = (stages.host_owners.without_foreign_hosts(route) for route in after)
                after = keep_identity(before, tuple(route for route in own if route is not None))
            if after:
                stages.own_routes[ref] = after
            if ref.kind == "Ingress":
                translation = stages.objects.get(ref)
                item = translation.item if translation is not None else None
                stages.expression_hosts.replace(ref, item if isinstance(item, Ingress) else None, after)
        self.objects_to_serve |= changed
        self.verdicts_to_refresh |= changed

    def resolve_paths(self) -> None:
        """Make of the paths of Ingresses what they are on their hosts, which one Ingress decides for all of its namespace."""
        stages = self.stages
        self.objects_to_serve |= stages.expression_hosts.resolve()
        self.verdicts_to_refresh |= self.objects_to_serve
        for ref in self.objects_to_serve:
            before, after = stages.path_routes.pop(ref, ()), stages.own_routes.get(ref, ())
            if stages.path_problems:
                stages.path_problems.pop(ref, None)
            translation = stages.objects.get(ref)
            item = translation.item if translation is not None else None
            if after and isinstance(item, Ingress) and not stages.expression_hosts.leaves(item, after):
                resolved = resolve_paths(item, after, stages.expression_hosts)
                after = keep_identity(before, resolved.routes)
                if resolved.problems:
                    stages.path_problems[ref] = resolved.problems
            if after:
                stages.path_routes[ref] = after
            if before != after:
                stages.conflicts.replace(before, after)

    def resolve_conflicts(self) -> None:
        """Decide which route serves each place; an object that serves none has no say in TLS."""
        contestants = self.stages.conflicts.resolve()
        self.objects_to_serve |= contestants
        self.verdicts_to_refresh |= contestants

    def resolve_tls(self) -> None:
        """Give hosts their Secrets, and mark the Ingresses whose redirects depend on hosts that came or went."""
        stages = self.stages
        for ref in self.objects_to_serve:
            before, after = stages.claims.pop(ref, ()), self._claims(ref)
            if after:
                stages.claims[ref] = after
            if before != after:
                stages.tls.replace(ref, before, after)
        claimants, hosts = stages.tls.resolve(lambda secret: secret_ref(secret) in self.new.secrets)
        self.verdicts_to_refresh |= claimants
        for host in hosts:
            self.objects_to_serve.update(stages.tls_dependents.of(host))

    def _claims(self, ref: ObjectRef) -> tuple[Claim, ...]:
        translation = self.stages.objects.get(ref)
        if translation is None or not translation.claims or (translation.routes and not self.stages.serves_anything(ref)):
            return ()
        if not self.stages.settings.host_ownership:
            return translation.claims
        owners = self.stages.host_owners
        return tuple(claim for claim in translation.claims if owners.foreign_owner(claim.host, ref.namespace) is None)

    def serve_routes(self) -> bool:
        """Put what is served together; return whether anything of it differs."""
        stages, differs = self.stages, False
        for ref in self.objects_to_serve:
            before = stages.served_routes.pop(ref, ())
            after = stages.path_routes.get(ref, ())
            translation = stages.objects.get(ref)
            if translation is not None and isinstance(translation.item, Ingress):
                redirect = translation.item.features.https_redirect
                names = tuple(sorted({claim.host for claim in stages.claims.get(ref, ()) if claim.source == "certificate"}))
                after = keep_identity(before, tuple(with_redirect(route, redirect, stages.tls.listed, names) for route in after))
            if after:
                stages.served_routes[ref] = after
            if len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True)):
                continue
            differs = True
            for route in before:
                del stages.served_by_id[route.id]
            stages.served_by_id.update((route.id, route) for route in after)
        return differs

    def resolve_upstreams(self) -> bool:
        """Make dirty upstreams anew; return whether any differs."""
        users, differs = self.stages.upstreams.resolve()
        self.verdicts_to_refresh |= users
        return differs

    def take_changed_readiness(self) -> dict[ObjectRef, tuple[UnreadyBackend, ...]]:
        """Return the backends without a ready endpoint of each object of which they may have changed."""
        stages, upstreams = self.stages, self.stages.upstreams
        changed, upstreams.readiness_changed = upstreams.readiness_changed, set()
        return {
            ref: upstreams.unready_backends(translation.backends) if (translation := stages.objects.get(ref)) is not None else ()
            for ref in changed
        }


def _routes(translation: ObjectTranslation | None) -> tuple[Route, ...]:
    return translation.routes if translation is not None else ()


def _secrets(translation: ObjectTranslation | None) -> set[ObjectRef]:
    if translation is None:
        return set()
    return {secret_ref(claim.secret) for claim in (*translation.claims, *translation.claims_without_host) if claim.secret}


def _claimed_hosts(translation: ObjectTranslation | None) -> set[str]:
    return {claim.host for claim in translation.claims} if translation is not None else set()


def _tls_names(translation: ObjectTranslation | None) -> set[str]:
    if translation is None or not isinstance(translation.item, Ingress):
        return set()
    return {name for route in translation.routes for host in route.hosts if host for name in names_covering(host)}
