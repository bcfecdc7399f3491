"""Requests of one client go to the endpoint that served it before: by a cookie of ours, or by the session id of Engine.IO."""

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import CookieAffinity, EngineIoAffinity


def translate_affinity(features: Features, context: RouteContext) -> tuple[CookieAffinity | EngineIoAffinity, ...]:
    """Make the policies that were asked for."""
    affinity = features.affinity
    if affinity is None:
        return ()
    by_id = (EngineIoAffinity(context.owner.namespace),) if affinity.engine_io else ()
    cookie = affinity.cookie
    if cookie is None:
        return by_id
    age = max(1, round(cookie.max_age)) if cookie.max_age else 0
    return (*by_id, CookieAffinity(context.cookie_key, cookie.name, age, cookie.same_site))
