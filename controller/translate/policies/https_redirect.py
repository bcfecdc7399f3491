"""Redirects from plain HTTP to https."""

from collections.abc import Collection

import msgspec

from controller.resources.annotations import IngressPolicy
from proxy.model.config import Route
from proxy.model.policy import HttpsRedirect


def names_covering(host: str) -> tuple[str, ...]:
    """Return the TLS hosts that cover a host: its own name, and a wildcard for its first label."""
    first, dot, parent = host.partition(".")
    return (host, f"*.{parent}") if dot and first != "*" else (host,)


def covered(host: str, tls_hosts: Collection[str]) -> bool:
    """Tell whether a host is among TLS hosts, by name or by a wildcard for its first label."""
    return any(name in tls_hosts for name in names_covering(host))


def with_redirect(route: Route, policy: IngressPolicy, tls_hosts: Collection[str]) -> Route:
    """Give an Ingress path its redirect: wanted where its host has a certificate, or in any case where that is forced."""
    wanted = policy.force_ssl_redirect or (policy.ssl_redirect and any(covered(host, tls_hosts) for host in route.hosts if host))
    return msgspec.structs.replace(route, policies=(HttpsRedirect(), *route.policies)) if wanted else route
