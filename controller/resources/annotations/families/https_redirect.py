"""Redirects from plain HTTP to https."""

from collections.abc import Mapping

from controller.resources.annotations.annotation import NGINX, OURS, Annotation, Family
from controller.resources.annotations.values import flag
from controller.resources.features.https_redirect import HttpsRedirectSpec


def build(values: Mapping[str, bool]) -> HttpsRedirectSpec:
    """Make the redirect. Ours takes back what ingress-nginx's force."""
    ours = values.get("ours")
    return HttpsRedirectSpec(
        always=ours is not False and values.get("force", False), where_tls=values.get("theirs", True) if ours is None else ours
    )


FAMILY = Family(
    "Redirects to https",
    (
        Annotation(
            OURS + "ssl-redirect",
            parse=flag,
            attribute="ours",
            values='`"true"` (default), `"false"`',
            says='redirect to https where the host stands under `tls`; `"false"` also takes back `force-ssl-redirect`',
        ),
        Annotation(
            NGINX + "ssl-redirect",
            parse=flag,
            attribute="theirs",
            values="the same",
            says="the same; ours wins where both are set",
        ),
        Annotation(
            NGINX + "force-ssl-redirect",
            parse=flag,
            attribute="force",
            values='`"true"`, `"false"` (default)',
            says="redirect to https in any case, as behind a load balancer that ends TLS",
        ),
    ),
    "https_redirect",
    build,
)
