"""What routes ask for as policies: one module per feature, and the table of them, whatever kind of object a route came from."""

from collections.abc import Callable, Mapping

from controller.resources.features import Features
from controller.translate.policies.access import translate_access
from controller.translate.policies.affinity import translate_affinity
from controller.translate.policies.body_size import translate_body_size
from controller.translate.policies.close import translate_close
from controller.translate.policies.header_modifiers import translate_request_headers, translate_response_headers
from controller.translate.policies.hsts import translate_hsts
from controller.translate.policies.https_redirect import translate_https_redirect
from controller.translate.policies.keepalive import translate_keepalive
from controller.translate.policies.limits import translate_limits
from controller.translate.policies.load_balancing import translate_hash_on
from controller.translate.policies.message_limits import translate_message_limits
from controller.translate.policies.pod_target import translate_pod_target
from controller.translate.policies.rebalance import translate_rebalance
from controller.translate.policies.request_limits import translate_request_limits
from controller.translate.policies.rewrite import translate_rewrite
from controller.translate.policies.session_cookie import translate_session_cookie
from controller.translate.policies.timeouts import translate_proxy_timeouts, translate_timeouts
from controller.translate.route_context import RouteContext
from proxy.model.policy import Policy

Translate = Callable[[Features, RouteContext], tuple[Policy, ...]]

POLICIES: Mapping[str, Translate] = {
    "https_redirect": translate_https_redirect,
    "hsts": translate_hsts,
    "timeouts": translate_timeouts,
    "proxy_timeouts": translate_proxy_timeouts,
    "access": translate_access,
    "limits": translate_limits,
    "request_limits": translate_request_limits,
    "body_size": translate_body_size,
    "close": translate_close,
    "keepalive": translate_keepalive,
    "message_limits": translate_message_limits,
    "affinity": translate_affinity,
    "session_cookie": translate_session_cookie,
    "load_balancing": translate_hash_on,
    "pod_target": translate_pod_target,
    "rewrite": translate_rewrite,
    "request_headers": translate_request_headers,
    "response_headers": translate_response_headers,
    "rebalance": translate_rebalance,
}
"""Fields of `Features`, in the order of the policies of a route."""

PATH_DEPENDENT = ("pod_target", "rewrite")
"""Those whose policies differ by the path of the route; `depends_on_path` knows one more. The others are shared by all routes of an
Ingress."""


def depends_on_path(features: Features) -> bool:
    """Tell whether the policies of routes that ask for the same differ by their paths."""
    cookie = features.session_cookie
    return any(getattr(features, name) for name in PATH_DEPENDENT) or (cookie is not None and not cookie.path)


def policies_of(features: Features, context: RouteContext) -> tuple[Policy, ...]:
    """Make the policies of a route."""
    asked_for = [translate for name, translate in POLICIES.items() if getattr(features, name)]
    return tuple(policy for translate in asked_for for policy in translate(features, context))
