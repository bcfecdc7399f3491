"""Redirects from plain HTTP to https."""

from collections.abc import Collection

from controller.resources.annotations import IngressPolicy
from proxy.model.policy import HttpsRedirect


def covered(host: str, tls_hosts: Collection[str]) -> bool:
    """Tell whether a host is among TLS hosts, by name or by a wildcard for its first label."""
    return host in tls_hosts or (not host.startswith("*.") and "*." + host.partition(".")[2] in tls_hosts)


def translate_redirect(policy: IngressPolicy, host: str, tls_hosts: Collection[str]) -> HttpsRedirect | None:
    """Make the policy of an Ingress path: wanted where its host has a certificate, or in any case where that is forced."""
    if policy.force_ssl_redirect or (policy.ssl_redirect and host and covered(host, tls_hosts)):
        return HttpsRedirect()
    return None
