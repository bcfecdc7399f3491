"""Redirects from plain HTTP to https."""

from collections.abc import Collection

import msgspec

from controller.resources.annotations.read import IngressPolicy
from controller.translate.certificates import covered
from proxy.model.config import Route
from proxy.model.policy import HttpsRedirect


def with_redirect(route: Route, policy: IngressPolicy, tls_hosts: Collection[str], names: tuple[str, ...]) -> Route:
    """Give an Ingress path its redirect: wanted where its host has a certificate, or in any case where that is forced.

    `names`: hosts of the certificate that a path for any host has.
    """
    if policy.force_ssl_redirect or (policy.ssl_redirect and any(covered(host, tls_hosts) for host in route.hosts if host)):
        redirect = HttpsRedirect()
    elif policy.ssl_redirect and names and "" in route.hosts:
        redirect = HttpsRedirect(names)
    else:
        return route
    return msgspec.structs.replace(route, policies=(redirect, *route.policies))
