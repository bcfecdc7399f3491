"""The two ordering tables: which policy becomes which filter, and in which order filters see a request, and an answer."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from proxy.filters.body_size import compile_body_size
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
from proxy.filters.rewrite_answers import compile_rewrite_answers
from proxy.model.policy import (
    AllowedOrigins,
    BodySize,
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


AnyPolicy = TypeVar("AnyPolicy", bound=Policy)
Compile = Callable[[AnyPolicy, FilterSettings, str], Filter | None]
"""Makes a filter of a policy of the route with an id; None: nothing is to be done. Raises ValueError where it cannot."""
CompileAnswer = Callable[[AnyPolicy], AnswerFilter | None]
"""The same of an answer filter."""


def _row(policy: type[AnyPolicy], compile_policy: Compile[AnyPolicy]) -> tuple[type, Compile[Any]]:
    """Have the type checker see that both are about the same policy."""
    return policy, compile_policy


def _answer_row(policy: type[AnyPolicy], compile_policy: CompileAnswer[AnyPolicy]) -> tuple[type, CompileAnswer[Any]]:
    return policy, compile_policy


# A path that is elsewhere redirects before all else, as in ingress-nginx; then the redirect to https: nothing else of a request
# over plain HTTP is worth deciding on a host that is served over https.
# Then clients that are refused altogether, cheapest check first; then bodies that are too large, and clients that are too fast. A
# refused client must not learn which pods there are. Sockets are counted last: only of clients that nothing else refuses.
ORDER: Mapping[type, Compile[Any]] = dict(
    (
        _row(ExpressionRedirect, lambda policy, settings, _: compile_expression_redirect(policy, settings.automata)),
        _row(HttpsRedirect, lambda policy, settings, _: compile_https_redirect(settings.public_https_port, policy.hosts)),
        _row(ClientAddresses, lambda policy, _settings, _: compile_client_addresses(policy)),
        _row(AllowedOrigins, lambda policy, _settings, _: compile_origins(policy)),
        _row(BodySize, lambda policy, _settings, _: compile_body_size(policy)),
        _row(Rate, lambda policy, settings, route_id: compile_rate(policy, route_id, settings.counters)),
        _row(PodTarget, lambda policy, _settings, _: compile_pod_target(policy.after)),
        _row(Rewrite, lambda policy, _settings, _: compile_rewrite(policy.prefix, policy.matched, pod=policy.pod)),
        _row(ExpressionRewrite, lambda policy, settings, _: compile_expression_rewrite(policy, settings.automata)),
        _row(RequestHeaderModifier, lambda policy, _settings, _: compile_request_header_modifier(policy)),
        _row(Connections, lambda policy, settings, route_id: compile_connections(policy, route_id, settings.counters)),
    )
)

# An answer goes through them from the first to the last: what undoes what a request filter did to the request comes first, then
# what the route's owner adds to what the application said, last what holds whatever was said before.
ANSWER_ORDER: Mapping[type, CompileAnswer[Any]] = dict(
    (
        _answer_row(Rewrite, compile_rewrite_answers),
        _answer_row(ResponseHeaderModifier, compile_response_header_modifier),
        _answer_row(Hsts, compile_hsts),
    )
)


_RANKS: Mapping[type, int] = {policy: rank for rank, policy in enumerate(ORDER)}
_ANSWER_RANKS: Mapping[type, int] = {policy: rank for rank, policy in enumerate(ANSWER_ORDER)}


def _in_order(policies: Iterable[Policy], ranks: Mapping[type, int]) -> list[Policy]:
    return sorted((policy for policy in policies if type(policy) in ranks), key=lambda policy: ranks[type(policy)])


def compile_filters(policies: Iterable[Policy], settings: FilterSettings, route_id: str = "") -> tuple[Filter, ...]:
    """Make a route's filters from its policies, in the order of the table. Policies that no filter carries out are left out.

    Raises ValueError for a policy that cannot be carried out.
    """
    filters = [ORDER[type(policy)](policy, settings, route_id) for policy in _in_order(policies, _RANKS)]
    filters.append(compile_pod_connections(settings.max_connections, settings.max_connections_per_client, settings.counters))
    return tuple(compiled for compiled in filters if compiled is not None)


def compile_answer_filters(policies: Iterable[Policy]) -> tuple[AnswerFilter, ...]:
    """Make a route's answer filters from its policies, in the order of their table. Raises ValueError as `compile_filters`."""
    filters = (ANSWER_ORDER[type(policy)](policy) for policy in _in_order(policies, _ANSWER_RANKS))
    return tuple(compiled for compiled in filters if compiled is not None)
