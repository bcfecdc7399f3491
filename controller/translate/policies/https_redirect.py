"""Redirects from plain HTTP to https."""

from collections.abc import Collection

import msgspec

from controller.resources.features import Features
from controller.resources.features.https_redirect import HttpsRedirectSpec
from controller.translate.certificates import covered
from controller.translate.route_context import RouteContext
from proxy.model.config import Route
from proxy.model.policy import HttpsRedirect


def translate_https_redirect(features: Features, _context: RouteContext) -> tuple[HttpsRedirect, ...]:
    """Make the redirect that depends on nothing."""
    return (HttpsRedirect(),) if features.https_redirect is not None and features.https_redirect.always else ()


def with_redirect(route: Route, spec: HttpsRedirectSpec | None, tls_hosts: Collection[str], names: tuple[str, ...]) -> Route:
    """Give a route the redirect that depends on what all objects say of TLS: its host has a certificate.

    `names`: hosts of the certificate that a route for any host has.
    """
    if spec is None or spec.always or not spec.where_tls:
        return route
    if any(covered(host, tls_hosts) for host in route.hosts if host):
        redirect = HttpsRedirect()
    elif names and "" in route.hosts:
        redirect = HttpsRedirect(names)
    else:
        return route
    return msgspec.structs.replace(route, policies=(redirect, *route.policies))
