"""The table of annotations: every key that means something, ours and all of ingress-nginx 1.15.1.

What is read, what is said of the others, which of them protect, and the tables of the docs follow from it.
"""

from collections.abc import Mapping

from controller.resources.annotations.annotation import NGINX, OURS, Annotation, Family, Guard
from controller.resources.annotations.families import (
    access,
    affinity,
    backend_protocol,
    body_size,
    canary,
    classes,
    close,
    expressions,
    https_redirect,
    keepalive,
    limits,
    load_balancing,
    message_limits,
    rebalance,
    request_limits,
    rewrite,
    service_upstream,
    session_cookie,
    timeouts,
    unsupported,
)
from controller.resources.annotations.unknown_keys import KnownKeys

FAMILIES: tuple[Family, ...] = (
    classes.FAMILY,
    https_redirect.FAMILY,
    canary.FAMILY,
    access.FAMILY,
    limits.FAMILY,
    request_limits.FAMILY,
    body_size.FAMILY,
    backend_protocol.FAMILY,
    message_limits.FAMILY,
    timeouts.FAMILY,
    timeouts.PROXY_FAMILY,
    close.FAMILY,
    keepalive.FAMILY,
    load_balancing.FAMILY,
    affinity.FAMILY,
    session_cookie.FAMILY,
    service_upstream.FAMILY,
    rewrite.FAMILY,
    expressions.FAMILY,
    rebalance.FAMILY,
    *unsupported.FAMILIES,
)

ANNOTATIONS: Mapping[str, Annotation] = {annotation.key: annotation for family in FAMILIES for annotation in family.annotations}
"""By key, in the order in which they are read: of several that set the same the first counts."""

ORDER: Mapping[str, int] = {key: number for number, key in enumerate(ANNOTATIONS)}
FAMILY_OF: Mapping[str, Family] = {annotation.key: family for family in FAMILIES for annotation in family.annotations}


def _guards(*, understood: bool) -> dict[str, bool]:
    return {
        key: annotation.guard is not Guard.NONE
        for key, annotation in ANNOTATIONS.items()
        if annotation.understood is understood and key.startswith((OURS, NGINX))
    }


KNOWN = KnownKeys(_guards(understood=True), _guards(understood=False))
