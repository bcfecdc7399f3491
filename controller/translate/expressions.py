"""Stage of the translation: on which hosts the paths of a namespace's Ingresses are regular expressions, and what becomes of them.

As ingress-nginx has it, one Ingress with `use-regex` or `rewrite-target` makes expressions of all paths of its host; here, of those
of its own namespace, as those of others would open what they do not say.
"""

import functools
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from controller.resources import Ingress
from controller.resources.annotations.families.expressions import REWRITE_TARGET
from controller.resources.features.expressions import RewriteTarget
from controller.resources.features.rewrite import RewriteSpec
from controller.resources.kinds.ingress import IngressPath
from controller.resources.reading.fields import PATH_HINT, shown
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from controller.translate.dependencies import Dependents
from proxy.model.config import Path, Route
from proxy.model.expression import (
    MOST_BYTES,
    BadExpressionError,
    check_expression,
    compile_expression,
    count_groups,
    match_groups,
)
from proxy.model.policy import (
    GUARDS,
    ExpressionRedirect,
    ExpressionRewrite,
    Policy,
    Rewrite,
)

HostScope = tuple[str, str]
"""A host and a namespace: where paths mean the same."""
_NO_SCOPES: frozenset[HostScope] = frozenset()
_LITERAL = re.compile(r"[^\\.\[\](){}*+?|^$]*")
CLOSED = "Until then all paths that begin as it does answer 500, as this Ingress has a guard."


class ExpressionHosts:
    """Stage of the translation: which Ingress, if any, makes expressions of the paths of each host and namespace."""

    __slots__ = ("_asked_by", "_asking", "_dirty", "_for_any_host", "_ingresses_of", "_scopes")

    def __init__(self, ingresses_of: Dependents[str]) -> None:
        """Make the stage. `ingresses_of`: host to the Ingresses with a path under it, which may be more."""
        self._ingresses_of = ingresses_of
        self._for_any_host: set[ObjectRef] = set()
        """Ingresses with a path for hosts that nobody names."""
        self._asking = Dependents[HostScope]()
        self._scopes: dict[ObjectRef, frozenset[HostScope]] = {}
        """Where each Ingress asks for expressions."""
        self._asked_by: dict[HostScope, ObjectRef] = {}
        self._dirty: set[HostScope] = set()

    def replace(self, ref: ObjectRef, item: Ingress | None, routes: Iterable[Route]) -> None:
        """Let an Ingress have `routes`, with the hosts that it may have, and no others."""
        spec = item.features.expressions if item is not None else None
        asking = _NO_SCOPES
        if spec is not None and item is not None:
            asked = [route for route in routes if not route.fallback and spec.applies_to(item.paths[route.index].path)]
            asking = frozenset([(route.hosts[0], ref.namespace) for route in asked])
        before = self._scopes.pop(ref, _NO_SCOPES)
        if asking:
            self._scopes[ref] = asking
        if asking != before:
            self._asking.replace(ref, before - asking, asking - before)
            self._dirty |= before ^ asking
        self._for_any_host.discard(ref)
        for route in routes:
            if not route.hosts[0]:
                self._for_any_host.add(ref)

    def resolve(self) -> set[ObjectRef]:
        """Decide dirty scopes anew; return the Ingresses whose paths may mean something else."""
        dependents: set[ObjectRef] = set()
        for scope in self._dirty:
            before, after = self._asked_by.pop(scope, None), min(self._asking.of(scope), default=None)
            if after is not None:
                self._asked_by[scope] = after
            if before != after:
                host, namespace = scope
                ingresses = self._ingresses_of.of(host) if host else self._for_any_host
                dependents.update(ref for ref in ingresses if ref.namespace == namespace)
        self._dirty.clear()
        return dependents

    def leaves(self, item: Ingress, routes: Iterable[Route]) -> bool:
        """Tell whether the paths of an Ingress are literal, and none of them has to be left out."""
        if item.features.expressions is not None:
            return False
        for path in item.paths:
            if not path.literal:
                return False
        asked_by = self._asked_by
        return not asked_by or not any((route.hosts[0], route.namespace) in asked_by for route in routes)

    def asked_by(self, host: str, namespace: str) -> ObjectRef | None:
        """Return an Ingress that makes expressions of the paths of a host and namespace; None: they are literal."""
        return self._asked_by.get((host, namespace))


@dataclass(frozen=True, slots=True)
class ResolvedPaths:
    """The routes of an Ingress with what their paths are, and what is wrong with those that are missing."""

    routes: tuple[Route, ...]
    problems: tuple[Problem, ...] = ()


def resolve_paths(item: Ingress, routes: tuple[Route, ...], hosts: ExpressionHosts) -> ResolvedPaths:
    """Make expressions of the paths of an Ingress where they are some, and leave out what is no path."""
    made: list[Route] = []
    problems: list[Problem] = []
    for route in routes:
        if route.fallback:
            made.append(_resolve_fallback(item, route))
            continue
        path = item.paths[route.index]
        by = hosts.asked_by(path.host, item.ref.namespace)
        resolved = _resolve_literal(item, route, path) if by is None else _resolve_expression(item, route, path, by)
        if isinstance(resolved, Route):
            made.append(resolved)
            target = _target(item, path.path) if by is not None else None
            doubled = _doubled_slash(item.ref, path.path, target) if target is not None else None
            problems += [doubled] if doubled is not None else []
        elif by is not None and (route.fault or any(isinstance(policy, GUARDS) for policy in route.policies)):
            # What it matches is not known: all that it may match is closed, so that nothing of it is served less guarded.
            closed = Path("expression", _beginning(path.path))
            made.append(msgspec.structs.replace(route, path=closed, fault="the expression of its path is not served"))
            problems.append(replace(resolved, message=f"{resolved.message} {CLOSED}"))
        else:
            problems.append(resolved)
    return ResolvedPaths(tuple(made), tuple(problems))


def _resolve_literal(item: Ingress, route: Route, path: IngressPath) -> Route | Problem:
    if path.literal:
        return route
    field = f"{path.field}.path"
    return Problem(item.ref, Reason.INVALID_SPEC, field, f"{field}: {shown(path.path)} was found, {PATH_HINT}")


def _resolve_expression(item: Ingress, route: Route, path: IngressPath, by: ObjectRef) -> Route | Problem:
    try:
        check_expression(path.path)
    except BadExpressionError as error:
        field = f"{path.field}.path"
        why = "" if by == item.ref else f' (paths of this host are regular expressions here because of Ingress "{by.path}")'
        message = f"{field}: {shown(path.path)} was found{why}, which {error}"
        return Problem(item.ref, Reason.INVALID_SPEC, field, message)
    policies = _rewritten(route.policies, path.path, _target(item, path.path), item.features.rewrite)
    return msgspec.structs.replace(route, path=Path("expression", path.path), policies=policies)


def _target(item: Ingress, path: str) -> RewriteTarget | None:
    return item.features.expressions.rewrites(path) if item.features.expressions is not None else None


def _doubled_slash(ref: ObjectRef, path: str, target: RewriteTarget) -> Problem | None:
    """Say that a rewrite makes an empty segment, which is refused, of a group that begins with a slash behind one of its own."""
    behind = [part for before, part in itertools.pairwise(target.path) if isinstance(part, int) and str(before)[1:].endswith("/")]
    sample = _beginning(path).rstrip("/") + "/x"
    spans = match_groups(compile_expression(path, MOST_BYTES), sample.encode()) if behind else None
    if spans is None:
        return None
    groups = [sample[slice(*span)] for span in spans]
    doubled = [part for part in behind if isinstance(part, int) and part < len(groups) and groups[part].startswith("/")]
    if not doubled:
        return None
    made = "".join(part if isinstance(part, str) else "".join(groups[part : part + 1]) for part in target.path)
    better = functools.reduce(lambda text, part: text.replace(f"/${part}", f"${part}"), doubled, target.text)
    field = f"metadata.annotations[{REWRITE_TARGET}]"
    message = (
        f"{field}: {shown(made)} is made of {shown(sample)}, and // in a path is answered 400; {shown(better)} would be accepted."
    )
    return Problem(ref, Reason.UNSUPPORTED_VALUE, field, message)


def _beginning(path: str) -> str:
    """Return what everything begins with that an expression matches, as one that compiles."""
    literal = _LITERAL.match(path)
    end = 0 if literal is None or "|" in path else literal.end()
    if path[end : end + 1] in ("*", "+", "?", "{"):
        end -= 1
    return path[: max(end, 1)]


def _resolve_fallback(item: Ingress, route: Route) -> Route:
    """Rewrite for a default backend beside rules, which stands for the path / of their hosts."""
    target = _target(item, "/")
    if target is None or item.features.rewrite is not None or not (item.paths or item.bare_hosts):
        return route
    return msgspec.structs.replace(route, policies=_rewritten(route.policies, "/", target, None))


def _rewritten(
    policies: tuple[Policy, ...], expression: str, target: RewriteTarget | None, ours: RewriteSpec | None
) -> tuple[Policy, ...]:
    """Put the policies of an expression in place of those of a literal path. Ours wins where both are set."""
    others = tuple(policy for policy in policies if not isinstance(policy, Rewrite))
    if ours is not None:
        matched = expression.rstrip("/")
        rest = count_groups(matched) + 1
        return (*others, ExpressionRewrite(f"(?:{matched})((?s:.*))", (ours.prefix.rstrip("/"), rest)))
    if target is None or not target.path:
        return others
    if target.origin:
        return (*others, ExpressionRedirect(expression, target.origin, target.path))
    return (*others, ExpressionRewrite(expression, target.path))
