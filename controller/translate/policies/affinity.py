"""Requests of one client go to the endpoint that served it before: by a cookie of ours, or by the session id of Engine.IO."""

from controller.resources.features.load_balancing import Balance
from controller.resources.reading.object_ref import ObjectRef
from proxy.model.policy import CookieAffinity, EngineIoAffinity


def translate_affinity(balance: Balance, owner: ObjectRef, uid: str) -> tuple[CookieAffinity | EngineIoAffinity, ...]:
    """Make the policies that were asked for.

    The uid of the object keys the cookie's digests: all pods of the proxy know it, and clients do not. In a folder, where objects
    have none, the name stands for it: there addresses are nobody's secret.
    """
    found: list[CookieAffinity | EngineIoAffinity] = []
    if balance.engine_io:
        found.append(EngineIoAffinity(owner.namespace))
    cookie = balance.cookie
    if cookie is not None:
        age = max(1, round(cookie.max_age)) if cookie.max_age else 0
        found.append(CookieAffinity(uid or str(owner), cookie.name, age, cookie.same_site))
    return tuple(found)
