"""The two ordering tables: which policy becomes which filter, and in which order filters see a request, and an answer."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.filters.answer_paths import compile_answer_paths
from proxy.filters.client_addresses import compile_client_addresses
from proxy.filters.connections import compile_connections, compile_pod_connections
from proxy.filters.contract import AnswerFilter, Filter
from proxy.filters.expression_rewrite import compile_expression_redirect, compile_expression_rewrite
from proxy.filters.header_modifiers import compile_request_header_modifier, compile_response_header_modifier
from proxy.filters.hsts import compile_hsts
from proxy.filters.https_redirect import compile_https_redirect
from proxy.filters.origins import compile_origins
from proxy.filters.pod_target import compile_pod_target
from proxy.filters.rates import compile_rate
from proxy.filters.rewrite import compile_rewrite
from proxy.model.policy import (
    AllowedOrigins,
    ClientAddresses,
    Connections,
    ExpressionRedirect,
    ExpressionRewrite,
    Hsts,
    HttpsRedirect,
    PodTarget,
    Policy,
    Rate,
    RequestHeaderModifier,
    ResponseHeaderModifier,
    Rewrite,
)
from proxy.routing.expressions import Automata
from proxy.shared_memory.counters import Counters


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """The settings and shared state that filters need."""

    public_https_port: int
    counters: Counters
    max_connections: int = 0
    max_connections_per_client: int = 0
    automata: Automata = field(default_factory=Automata)
    """What the worker compiles of expressions."""


# A path that is elsewhere redirects before all else, as in ingress-nginx; then the redirect to https: nothing else of a request
# over plain HTTP is worth deciding on a host that is served over https.
# Then clients that are refused altogether, cheapest check first; then those that are too fast. A refused client must not learn
# which pods there are. Sockets are counted last: only of clients that nothing else refuses.
ORDER: tuple[type, ...] = (
    ExpressionRedirect,
    HttpsRedirect,
    ClientAddresses,
    AllowedOrigins,
    Rate,
    PodTarget,
    Rewrite,
    ExpressionRewrite,
    RequestHeaderModifier,
    Connections,
)


def compile_filters(policies: Iterable[Policy], settings: FilterSettings, route_id: str = "") -> tuple[Filter, ...]:
    """Make a route's filters from its policies, in the order of the table. Policies that no filter carries out are left out.

    Raises ValueError for a policy that cannot be carried out.
    """
    wanted = sorted((policy for policy in policies if type(policy) in ORDER), key=lambda policy: ORDER.index(type(policy)))
    filters = [_compile(policy, settings, route_id) for policy in wanted]
    filters.append(compile_pod_connections(settings.max_connections, settings.max_connections_per_client, settings.counters))
    return tuple(compiled for compiled in filters if compiled is not None)


# An answer goes through them from the first to the last: what undoes what a request filter did to the request comes first, then
# what the route's owner adds to what the application said, last what holds whatever was said before.
ANSWER_ORDER: tuple[type, ...] = (Rewrite, ResponseHeaderModifier, Hsts)


def compile_answer_filters(policies: Iterable[Policy]) -> tuple[AnswerFilter, ...]:
    """Make a route's answer filters from its policies, in the order of their table. Raises ValueError as `compile_filters`."""
    wanted = sorted(
        (policy for policy in policies if type(policy) in ANSWER_ORDER), key=lambda policy: ANSWER_ORDER.index(type(policy))
    )
    return tuple(compiled for policy in wanted if (compiled := _compile_answer(policy)) is not None)


def _compile_answer(policy: Policy) -> AnswerFilter | None:
    if isinstance(policy, Rewrite):
        return compile_answer_paths(policy)
    if isinstance(policy, ResponseHeaderModifier):
        return compile_response_header_modifier(policy)
    if isinstance(policy, Hsts):
        return compile_hsts(policy)
    raise TypeError(f"{type(policy).__name__} has no answer filter")


def _compile(policy: Policy, settings: FilterSettings, route_id: str) -> Filter | None:
    if isinstance(policy, HttpsRedirect):
        return compile_https_redirect(settings.public_https_port, policy.hosts)
    if isinstance(policy, PodTarget):
        return compile_pod_target(policy.after)
    if isinstance(policy, Rewrite):
        return compile_rewrite(policy.prefix, policy.matched, pod=policy.pod)
    if isinstance(policy, RequestHeaderModifier):
        return compile_request_header_modifier(policy)
    if isinstance(policy, ExpressionRewrite):
        return compile_expression_rewrite(policy, settings.automata)
    if isinstance(policy, ExpressionRedirect):
        return compile_expression_redirect(policy, settings.automata)
    if isinstance(policy, ClientAddresses):
        return compile_client_addresses(policy)
    if isinstance(policy, AllowedOrigins):
        return compile_origins(policy)
    if isinstance(policy, Rate):
        return compile_rate(policy, route_id, settings.counters)
    if isinstance(policy, Connections):
        return compile_connections(policy, route_id, settings.counters)
    raise TypeError(f"{type(policy).__name__} has no filter")
