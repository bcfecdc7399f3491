"""The memo of a translation: what makes the next one cost what changed, not what there is.

A translation is a chain of stages, each with a memory of its own and each told only what was touched before it:

    objects      an Ingress or WsRoute is translated anew when its record, a Service that it looked at, or the Secret of a tls
                 entry without hosts is another value
    owners       hosts and their namespaces, where hosts are not shared; changed owners touch everybody who names the host
    contests     places (host, kind, path, conditions) that several routes want; only touched places are decided anew
    TLS hosts    the Secret of each host, only of touched hosts; a host that comes or goes touches the Ingresses under it
    routes       what is served: hosts of others taken away, redirects added
    upstreams    endpoints, only of Service ports whose users, Service or slices changed
    certificates one for each Secret that a host has
    verdicts     of everybody whom a stage above named

Change is found by identity: the source's store keeps the very same record as long as an object is the same, and gives the very
same mapping as long as nothing of a kind changed. Results keep their identity in turn whenever they come out equal, so that
nobody further on encodes or digests them again. No stage depends on the order in which anything arrived: each is a function of the
set of its inputs, and tests hold the memo to the result of a translation from the start.

An exception in the middle would leave stages that disagree, so a memo that was not brought to its end starts anew.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import msgspec

from controller.resources import Ingress, WsRoute
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from controller.sources.snapshot import SourceSnapshot
from controller.translate.certificates import (
    Claim,
    TlsHosts,
    check_default,
    check_names,
    check_secret,
    names_covering,
    secret_ref,
    translate_certificate,
)
from controller.translate.conflicts import Contests, Owners, conflict_problems, foreign_host
from controller.translate.dependencies import Users, changed_refs
from controller.translate.ingress_class import Classes, find_classes
from controller.translate.per_object import Translated, keep_identity, translate_object
from controller.translate.policies.https_redirect import with_redirect
from controller.translate.settings import TranslateSettings
from controller.translate.upstreams import UpstreamRules, Upstreams
from controller.translate.verdicts import KEPT, SHUT, USED, Verdict, make_verdict, with_end
from proxy.model.config import EMPTY, Certificate, ProxyConfig, Route

_ROUTING = ("Ingress", "WsRoute")


class _State:
    """Everything that is remembered under one setting."""

    def __init__(self, settings: TranslateSettings) -> None:
        self.settings = settings
        self.rules = UpstreamRules(settings.allow_external_name, settings.allow_loopback, settings.own_addresses)
        self.snapshot = SourceSnapshot()
        self.classes: Classes | None = None
        self.objects: dict[ObjectRef, Translated] = {}
        self.kept: dict[ObjectRef, tuple[Route, ...]] = {}
        """Routes of each object, without the hosts of other namespaces."""
        self.claims: dict[ObjectRef, tuple[Claim, ...]] = {}
        """TLS claims that count: of objects that are served, for hosts that are not another namespace's."""
        self.faults: dict[ObjectRef, str] = {}
        """Why the last good version of an object answers 500."""
        self.final: dict[ObjectRef, tuple[Route, ...]] = {}
        self.service_users = Users[ObjectRef]()
        self.secret_users = Users[ObjectRef]()
        self.tls_users = Users[str]()
        """TLS host to the Ingresses with a path whose redirect depends on it."""
        self.claim_users = Users[str]()
        """Host to the objects that name it in a tls section."""
        self.owners = Owners()
        self.contests = Contests()
        self.tls = TlsHosts()
        self.upstreams = Upstreams(self.rules)
        self.routes: dict[str, Route] = {}
        self.verdicts: dict[ObjectRef, Verdict] = {}
        self.certificates: dict[str, tuple[object, Certificate]] = {}
        self.classless: set[str] = set()
        """Objects whose class does not exist, as ids of their routes begin."""


class Memo:
    """What the last translation found out. Give it to the next one; one memo belongs to one chain of translations."""

    def __init__(self) -> None:
        self._state: _State | None = None
        self.config: ProxyConfig = EMPTY
        self.verdicts: Mapping[ObjectRef, Verdict] = MappingProxyType({})
        self.told: Collection[ObjectRef] = ()
        """Objects whose verdict the last update made, changed, or took back."""
        self.problems: tuple[Problem, ...] = ()
        self.notes: tuple[Problem, ...] = ()
        self.classless: tuple[str, ...] = ()

    def update(self, snapshot: SourceSnapshot, settings: TranslateSettings) -> None:
        """Bring everything up to date."""
        state, self._state = self._state, None
        self.told = ()
        if state is None or state.settings != settings:
            state = _State(settings)
        elif state.snapshot is snapshot:
            self._state = state
            return
        change = _Change(state, snapshot)
        change.translate_objects()
        self.classless = change.find_classless(self.classless)
        change.settle_owners()
        change.settle_contests()
        change.settle_tls()
        routes_differ = change.finish_routes()
        told, upstreams_differ = state.upstreams.settle()
        change.told.update(told)
        self.told = change.make_verdicts()
        verdicts_differ = bool(self.told)
        self.config = _config(self.config, state, snapshot, routes_differ=routes_differ, upstreams_differ=upstreams_differ)
        if verdicts_differ:
            self.verdicts = MappingProxyType(dict(state.verdicts))
        if verdicts_differ or change.extra_differs:
            self.problems, self.notes = _all_problems(state, snapshot)
        state.snapshot = snapshot
        self._state = state


class _Change:
    """One translation under way: what was touched so far."""

    def __init__(self, state: _State, snapshot: SourceSnapshot) -> None:
        self.state = state
        self.old, self.new = state.snapshot, snapshot
        self.touched: set[ObjectRef] = set()
        """Objects that came, went, or were translated anew."""
        self.moved: set[ObjectRef] = set()
        """Objects whose claims or redirects have to be looked at again."""
        self.told: set[ObjectRef] = set()
        """Objects whose verdict has to be made again."""
        before = state.snapshot
        self.extra_differs = (
            state.classes is None
            or state.settings.note_endpoints
            or snapshot.malformed is not before.malformed
            or snapshot.ingress_classes is not before.ingress_classes
        )

    def _record(self, ref: ObjectRef) -> Ingress | WsRoute | None:
        return self.new.ws_routes.get(ref) if ref.kind == "WsRoute" else self.new.ingresses.get(ref)

    def _item(self, ref: ObjectRef) -> Ingress | WsRoute | None:
        item = self._record(ref)
        return item if item is not None and self._classes.serves(item) else None

    def translate_objects(self) -> None:
        """Translate what changed, what refers to Services that changed, and everything if our classes changed."""
        state, old, new = self.state, self.old, self.new
        classes, touched = state.classes, self.touched
        if classes is None or old.ingress_classes is not new.ingress_classes:
            classes = find_classes(new.ingress_classes, state.settings.controller_name, implicit=state.settings.implicit_class)
        self._classes = classes
        if classes != state.classes:
            state.classes = classes
            for known in (old, new):
                touched.update(known.ws_routes, known.ingresses)
                self.told.update(ref for ref in known.malformed if ref.kind in _ROUTING)
        touched.update(changed_refs(old.ws_routes, new.ws_routes), changed_refs(old.ingresses, new.ingresses))
        for ref in changed_refs(old.services, new.services):
            touched.update(state.service_users.of(ref))
        for ref in changed_refs(old.secrets, new.secrets):
            touched.update(user for user in state.secret_users.of(ref) if state.objects[user].open_claims)
        for ref in changed_refs(old.endpoint_slices, new.endpoint_slices):
            state.upstreams.replace_slice(old.endpoint_slices.get(ref), new.endpoint_slices.get(ref))
        for ref in changed_refs(old.malformed, new.malformed):
            if ref in state.objects and state.faults.get(ref, "") != self._fault(ref):
                touched.add(ref)
        for ref in touched:
            self._translate(ref)
        self.told |= touched
        self._note_secrets()

    def _translate(self, ref: ObjectRef) -> None:
        state, item = self.state, self._item(ref)
        before = state.objects.pop(ref, None)
        after = None if item is None else translate_object(item, self.new.services, self.new.secrets, state.rules, before)
        state.faults.pop(ref, None)
        if after is not None:
            if fault := self._fault(ref):
                state.faults[ref] = fault
                shut = tuple(msgspec.structs.replace(route, fault=fault) for route in after.routes)
                after = replace(after, routes=keep_identity(before.routes if before else (), shut))
            state.objects[ref] = after
        state.service_users.replace(ref, before.services if before else (), after.services if after else ())
        state.secret_users.replace(ref, _secrets(before), _secrets(after))
        state.claim_users.replace(ref, _claimed(before), _claimed(after))
        state.tls_users.replace(ref, _tls_names(before), _tls_names(after))
        state.upstreams.replace(ref, before.backends if before else (), after.backends if after else ())

    def _fault(self, ref: ObjectRef) -> str:
        """Say why what is held of an object answers 500: its newest version asks for a guard that cannot be carried out."""
        bad = self.new.malformed.get(ref)
        return bad.fault if bad is not None and self._classes.serves(bad) else ""

    def find_classless(self, before: tuple[str, ...]) -> tuple[str, ...]:
        """Return the objects whose class does not exist; `before` where nothing of that changed."""
        new, found = self.new, self.state.classless
        known = {ref.name for ref in new.ingress_classes} | self._classes.names
        whole = self.old.ingress_classes is not new.ingress_classes
        for ref in (*self.touched, *new.ws_routes, *new.ingresses) if whole else self.touched:
            item = self._record(ref)
            lacks = item is not None and item.class_name is not None and item.class_name not in known
            (found.add if lacks else found.discard)(f"{ref.kind.lower()}/{ref.path}")
        after = tuple(sorted(found))
        return before if after == before else after

    def _note_secrets(self) -> None:
        old, new, state = self.old, self.new, self.state
        bad = changed_refs(old.malformed, new.malformed)
        self.told.update(ref for ref in bad if ref.kind in _ROUTING)
        secrets = changed_refs(old.secrets, new.secrets)
        self.extra_differs |= any(ref.path == state.settings.default_certificate for ref in secrets)
        for ref in (*secrets, *(ref for ref in bad if ref.kind == "Secret")):
            users = state.secret_users.of(ref)
            self.told.update(users)
            state.tls.touch(claim.host for user in users for claim in state.objects[user].claims if secret_ref(claim.secret) == ref)

    def settle_owners(self) -> None:
        """Take hosts of other namespaces away from routes, where hosts are not shared."""
        state, changed = self.state, set(self.touched)
        if state.settings.host_ownership:
            hosts: set[str] = set()
            for ref in self.touched:
                # The hosts that an object claimed before are those of its routes as they were written.
                hosts |= state.owners.replace_object(ref, _routes(state.objects.get(ref)))
            moved, told = state.owners.settle(hosts)
            changed.update(told)
            for host in moved:
                changed.update(state.claim_users.of(host))
        for ref in changed:
            before = state.kept.pop(ref, ())
            after = _routes(state.objects.get(ref))
            if state.settings.host_ownership:
                after = keep_identity(before, tuple(kept for route in after if (kept := state.owners.keep(route)) is not None))
            if after:
                state.kept[ref] = after
            if before != after:
                state.contests.replace(before, after)
        self.moved |= changed
        self.told |= changed

    def settle_contests(self) -> None:
        """Find out who lost what; whoever is not served at all has no say in TLS."""
        told = self.state.contests.settle()
        self.moved |= told
        self.told |= told

    def settle_tls(self) -> None:
        """Give hosts their Secrets, and find the Ingresses whose redirects depend on hosts that came or went."""
        state = self.state
        for ref in self.moved:
            before, after = state.claims.pop(ref, ()), self._claims(ref)
            if after:
                state.claims[ref] = after
            if before != after:
                state.tls.replace(ref, before, after)
        told, listed = state.tls.settle(lambda secret: secret_ref(secret) in self.new.secrets)
        self.told |= told
        for host in listed:
            self.moved.update(state.tls_users.of(host))

    def _claims(self, ref: ObjectRef) -> tuple[Claim, ...]:
        one = self.state.objects.get(ref)
        if one is None or not one.claims or (one.routes and not self._alive(ref)):
            return ()
        if not self.state.settings.host_ownership:
            return one.claims
        return tuple(claim for claim in one.claims if self.state.owners.foreign(claim.host, ref.namespace) is None)

    def _alive(self, ref: ObjectRef) -> bool:
        """Tell whether an object serves anything: there is a place that none of its routes lost."""
        contests = self.state.contests
        return any(contests.wins(route) for route in self.state.kept.get(ref, ()))

    def finish_routes(self) -> bool:
        """Put what is served together; return whether anything of it differs."""
        state, differs = self.state, False
        for ref in self.moved:
            before = state.final.pop(ref, ())
            after = state.kept.get(ref, ())
            one = state.objects.get(ref)
            if one is not None and isinstance(one.item, Ingress):
                policy = one.item.policy
                names = tuple(sorted({claim.host for claim in state.claims.get(ref, ()) if claim.source == "certificate"}))
                after = keep_identity(before, tuple(with_redirect(route, policy, state.tls.listed, names) for route in after))
            if after:
                state.final[ref] = after
            if len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True)):
                continue
            differs = True
            for route in before:
                del state.routes[route.id]
            state.routes.update((route.id, route) for route in after)
        return differs

    def make_verdicts(self) -> list[ObjectRef]:
        """Make the verdicts of whoever has to be told; return those that differ."""
        verdicts = self.state.verdicts
        differ: list[ObjectRef] = []
        for ref in self.told:
            before, after = verdicts.get(ref), self._verdict(ref)
            if after is None:
                if verdicts.pop(ref, None) is not None:
                    differ.append(ref)
            elif after != before:
                verdicts[ref] = after
                differ.append(ref)
        return differ

    def _verdict(self, ref: ObjectRef) -> Verdict | None:
        state, bad = self.state, self.new.malformed.get(ref)
        one = state.objects.get(ref)
        if bad is not None and not self._classes.serves(bad):
            bad = None
        if one is None:
            return None if bad is None else make_verdict(bad.problems, served=False)
        problems = list(one.problems)
        problems += state.upstreams.problems(ref, one.backends)
        for claim in (*one.claims, *one.open_claims):
            if (wrong := check_secret(claim, self.new.secrets, self.new.malformed)) is not None:
                problems.append(wrong)
        claims = state.claims.get(ref, ())
        problems += state.tls.problems(claims)
        for claim in claims:
            if claim.secret and state.tls.secrets.get(claim.host) == claim.secret:
                wrong = check_names(claim, self.new.secrets[secret_ref(claim.secret)])
                problems += [] if wrong is None else [wrong]
        if state.settings.host_ownership:
            problems += _foreign_hosts(one, state.owners)
        lost = [(route, places) for route in state.kept.get(ref, ()) if (places := state.contests.lost(route))]
        if lost:
            fields = one.fields()
            problems += [problem for route, places in lost for problem in conflict_problems(route, places, fields)]
        if bad is not None:
            until = SHUT if ref in state.faults else KEPT if one.routes else ""
            return make_verdict((*problems, *with_end(bad.problems, until)), served=False)
        if not problems:
            return make_verdict((), served=True)
        withheld = isinstance(one.item, Ingress) and one.item.policy.canary
        if one.routes:
            withheld = all(route.fault for route in one.routes)
        return make_verdict(problems, served=not withheld and (not one.routes or self._alive(ref)))


def _routes(one: Translated | None) -> tuple[Route, ...]:
    return one.routes if one is not None else ()


def _secrets(one: Translated | None) -> set[ObjectRef]:
    return {secret_ref(claim.secret) for claim in (*one.claims, *one.open_claims) if claim.secret} if one is not None else set()


def _claimed(one: Translated | None) -> set[str]:
    return {claim.host for claim in one.claims} if one is not None else set()


def _tls_names(one: Translated | None) -> set[str]:
    if one is None or not isinstance(one.item, Ingress):
        return set()
    return {name for route in one.routes for host in route.hosts if host for name in names_covering(host)}


def _foreign_hosts(one: Translated, owners: Owners) -> Iterable[Problem]:
    ref = one.item.ref
    fields = {host: one.host_field(host) for route in one.routes for host in route.hosts if host}
    fields = {**{claim.host: claim.field for claim in one.claims if claim.source == "listed"}, **fields}
    for host, field in fields.items():
        owner = owners.foreign(host, ref.namespace)
        if owner is not None:
            yield foreign_host(ref, field, host, owner)


def _config(
    before: ProxyConfig, state: _State, snapshot: SourceSnapshot, *, routes_differ: bool, upstreams_differ: bool
) -> ProxyConfig:
    """Put the configuration together; parts that did not change are those of `before`, and so is the whole."""
    default = state.settings.default_certificate or None
    if default is not None and secret_ref(default) not in snapshot.secrets:
        default = None
    wanted = set(state.tls.secrets.values()) | ({default} if default is not None else set())
    found: dict[str, tuple[object, Certificate]] = {}
    for key in wanted:
        secret = snapshot.secrets[secret_ref(key)]
        known = state.certificates.get(key)
        found[key] = known if known is not None and known[0] is secret else (secret, translate_certificate(secret))
    state.certificates = found
    config = ProxyConfig(
        routes=dict(state.routes) if routes_differ else before.routes,
        upstreams=dict(state.upstreams.values) if upstreams_differ else before.upstreams,
        certificates={key: certificate for key, (_, certificate) in found.items()},
        tls_hosts=dict(state.tls.secrets),
        default_certificate=default,
    )
    same = (
        config.routes is before.routes
        and config.upstreams is before.upstreams
        and config.certificates == before.certificates
        and config.tls_hosts == before.tls_hosts
        and config.default_certificate == before.default_certificate
    )
    return before if same else config


def _all_problems(state: _State, snapshot: SourceSnapshot) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Return what is wrong, and the notes: of Secrets that no object of ours names, and of backends without endpoints."""
    found = {ref: verdict.problems for ref, verdict in state.verdicts.items() if verdict.problems}
    unnamed: dict[ObjectRef, tuple[Problem, ...]] = {}
    for ref, bad in snapshot.malformed.items():
        if ref.kind not in _ROUTING:
            named = ref.kind != "Secret" or ref.path == state.settings.default_certificate or state.secret_users.of(ref)
            (found if named else unnamed)[ref] = with_end(sorted(set(bad.problems)), USED if _held(snapshot, ref) else "")
    for ref, one in snapshot.ingress_classes.items():
        if one.problems and one.controller == state.settings.controller_name:
            found[ref] = (*found.get(ref, ()), *one.problems)
    said = [problem for ref in sorted(found, key=_order) for problem in found[ref]]
    noted = [problem for ref in sorted(unnamed, key=_order) for problem in unnamed[ref]]
    notes = (*noted, *_without_endpoints(state, snapshot.services)) if state.settings.note_endpoints else tuple(noted)
    wrong = check_default(state.settings.default_certificate, snapshot.secrets, snapshot.malformed)
    return tuple(said if wrong is None else (*said, wrong)), notes


def _held(snapshot: SourceSnapshot, ref: ObjectRef) -> bool:
    """Tell whether an earlier version of an object that is not a route is known."""
    known = (snapshot.services, snapshot.endpoint_slices, snapshot.secrets, snapshot.ingress_classes)
    return any(ref in kind for kind in known)


def _without_endpoints(state: _State, services: Collection[ObjectRef]) -> Iterable[Problem]:
    """Say of each object which of its backends have no endpoint that is ready."""
    empty = state.upstreams.empty(services)
    for ref in sorted(state.objects, key=_order) if empty else ():
        for backend in state.objects[ref].backends:
            if (why := empty.get(backend.key)) is not None:
                yield Problem(ref, Reason.BACKEND_NOT_FOUND, backend.field, f"{backend.field}: {why}")


def _order(ref: ObjectRef) -> tuple[str, str, str]:
    return (ref.kind, ref.namespace, ref.name)
