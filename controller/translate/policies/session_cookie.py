"""The cookie of ingress-nginx's annotations, unless an annotation of ours names one."""

import re

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.config import Path
from proxy.model.policy import CookieAffinity

_COOKIE_PATH = re.compile("/[A-Za-z0-9._~!&',/:=@-]*")
"""What `Path` of a cookie takes (RFC 6265, 4.1.1), without what browsers percent-encode and what means something in expressions."""


def translate_session_cookie(features: Features, context: RouteContext) -> tuple[CookieAffinity, ...]:
    """Make the policy. As there, an unknown value is replaced where sessions never move, and a key where they do."""
    cookie = features.session_cookie
    if cookie is None or (features.affinity is not None and features.affinity.cookie is not None):
        return ()
    return (
        CookieAffinity(
            context.cookie_key,
            cookie.name,
            max_age=cookie.max_age,
            same_site=cookie.same_site,
            same_site_by_browser=cookie.same_site_by_browser,
            path=cookie.path or _path_of(context.path),
            domain=cookie.domain,
            secure=cookie.secure,
            partitioned=cookie.partitioned,
            expires=cookie.expires,
            replaces_others=cookie.mode == "persistent",
            balanced=cookie.mode == "balanced",
        ),
    )


def _path_of(path: Path) -> str:
    """Return the path for which browsers send the cookie again: the route's, or all where no path can say it."""
    return path.value if _COOKIE_PATH.fullmatch(path.value) else "/"
