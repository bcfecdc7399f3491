"""What routes ask for as policies: one module per feature, and the table of them, whatever kind of object a route came from."""

from collections.abc import Callable, Mapping

from controller.resources.features import NO_FEATURES, Features
from controller.translate.policies.access import translate_access
from controller.translate.policies.affinity import translate_affinity
from controller.translate.policies.close import translate_close
from controller.translate.policies.https_redirect import translate_https_redirect
from controller.translate.policies.keepalive import translate_keepalive
from controller.translate.policies.limits import translate_limits
from controller.translate.policies.load_balancing import translate_hash_on
from controller.translate.policies.message_limits import translate_message_limits
from controller.translate.policies.pod_target import translate_pod_target
from controller.translate.policies.rebalance import translate_rebalance
from controller.translate.policies.request_limits import translate_request_limits
from controller.translate.policies.rewrite import translate_rewrite
from controller.translate.policies.timeouts import translate_timeouts
from controller.translate.route_context import RouteContext
from proxy.model.policy import Policy

Translate = Callable[[Features, RouteContext], tuple[Policy, ...]]

POLICIES: Mapping[str, Translate] = {
    "https_redirect": translate_https_redirect,
    "timeouts": translate_timeouts,
    "access": translate_access,
    "limits": translate_limits,
    "request_limits": translate_request_limits,
    "close": translate_close,
    "keepalive": translate_keepalive,
    "message_limits": translate_message_limits,
    "affinity": translate_affinity,
    "load_balancing": translate_hash_on,
    "pod_target": translate_pod_target,
    "rewrite": translate_rewrite,
    "rebalance": translate_rebalance,
}
"""Fields of `Features`, in the order of the policies of a route."""


def policies_of(features: Features, context: RouteContext) -> tuple[Policy, ...]:
    """Make the policies of a route."""
    if features is NO_FEATURES:
        return ()
    return tuple(policy for translate in POLICIES.values() for policy in translate(features, context))
