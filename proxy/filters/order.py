"""The one ordering table: which policy becomes which filter, and in which order filters see a request."""

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.filters.client_addresses import compile_client_addresses
from proxy.filters.contract import Filter
from proxy.filters.https_redirect import compile_https_redirect
from proxy.filters.origins import compile_origins
from proxy.model.policy import AllowedOrigins, ClientAddresses, HttpsRedirect, Policy


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """What filters need of the proxy's settings."""

    public_https_port: int


# The redirect comes first: nothing else of a request over plain HTTP is worth deciding on a host that is served over https.
# Then who may not come at all, from what costs least.
ORDER: tuple[type, ...] = (HttpsRedirect, ClientAddresses, AllowedOrigins)


def compile_filters(policies: Iterable[Policy], settings: FilterSettings) -> tuple[Filter, ...]:
    """Make a route's filters from its policies, in the order of the table. Policies that no filter carries out are left out.

    Raises ValueError for a policy that cannot be carried out.
    """
    wanted = sorted((policy for policy in policies if type(policy) in ORDER), key=lambda policy: ORDER.index(type(policy)))
    return tuple(_compile(policy, settings) for policy in wanted)


def _compile(policy: Policy, settings: FilterSettings) -> Filter:
    if isinstance(policy, HttpsRedirect):
        return compile_https_redirect(settings.public_https_port)
    if isinstance(policy, ClientAddresses):
        return compile_client_addresses(policy)
    if isinstance(policy, AllowedOrigins):
        return compile_origins(policy)
    raise TypeError(f"{type(policy).__name__} has no filter")
