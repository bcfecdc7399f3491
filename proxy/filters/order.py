"""The one ordering table: which policy becomes which filter, and in which order filters see a request."""

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.filters.contract import Filter
from proxy.filters.https_redirect import compile_https_redirect
from proxy.filters.pod_target import compile_pod_target
from proxy.filters.rewrite import compile_rewrite
from proxy.model.policy import HttpsRedirect, PodTarget, Policy, Rewrite


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """What filters need of the proxy's settings."""

    public_https_port: int


# The redirect comes first: nothing else of a request over plain HTTP is worth deciding on a host that is served over https.
# Names and paths come last: whoever is refused must not learn which pods there are.
ORDER: tuple[type, ...] = (HttpsRedirect, PodTarget, Rewrite)


def compile_filters(policies: Iterable[Policy], settings: FilterSettings) -> tuple[Filter, ...]:
    """Make a route's filters from its policies, in the order of the table. Policies that no filter carries out are left out."""
    wanted = sorted((policy for policy in policies if type(policy) in ORDER), key=lambda policy: ORDER.index(type(policy)))
    return tuple(_compile(policy, settings) for policy in wanted)


def _compile(policy: Policy, settings: FilterSettings) -> Filter:
    if isinstance(policy, HttpsRedirect):
        return compile_https_redirect(settings.public_https_port)
    if isinstance(policy, PodTarget):
        return compile_pod_target(policy.after)
    if isinstance(policy, Rewrite):
        return compile_rewrite(policy.prefix, policy.matched, pod=policy.pod)
    raise TypeError(f"{type(policy).__name__} has no filter")
