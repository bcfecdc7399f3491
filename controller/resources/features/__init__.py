"""What routes ask for, whatever kind of object they came from: one record, of one module for each feature.

A rule of a WsRoute is read into it by `parse_features`; annotations of an Ingress are fields of such a rule, read by the same
functions, or fill a feature themselves (`annotations/read.py`). `translate/policies` makes policies of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.resources.features.access import AccessLists, parse_access
from controller.resources.features.affinity import Affinity, parse_affinity
from controller.resources.features.body_size import BodySizeSpec
from controller.resources.features.close import CloseSpec, parse_close
from controller.resources.features.expressions import ExpressionSpec
from controller.resources.features.header_modifiers import HeaderModifierSpec, parse_request_headers, parse_response_headers
from controller.resources.features.hsts import HstsSpec, parse_hsts
from controller.resources.features.https_redirect import HttpsRedirectSpec
from controller.resources.features.keepalive import KeepaliveSpec, parse_keepalive
from controller.resources.features.limits import Limits, parse_limits
from controller.resources.features.load_balancing import LoadBalancingSpec, parse_load_balancing
from controller.resources.features.message_limits import MessageLimitsSpec, parse_message_limits
from controller.resources.features.pod_target import parse_pod_target
from controller.resources.features.proxy_timeouts import ProxyTimeouts
from controller.resources.features.rebalance import RebalanceSpec, parse_rebalance
from controller.resources.features.request_limits import RequestLimits
from controller.resources.features.rewrite import RewriteSpec, parse_rewrite
from controller.resources.features.session_cookie import SessionCookie
from controller.resources.features.timeouts import TimeoutsSpec, parse_timeouts
from controller.resources.reading.fields import Reader


@dataclass(frozen=True, slots=True)
class Features:
    """What a route asks for; None, or a record of defaults: nothing."""

    https_redirect: HttpsRedirectSpec | None = None
    hsts: HstsSpec | None = None
    timeouts: TimeoutsSpec | None = None
    proxy_timeouts: ProxyTimeouts | None = None
    """What ingress-nginx's annotations say of time. A WsRoute has no field for it."""
    access: AccessLists | None = None
    limits: Limits | None = None
    request_limits: RequestLimits | None = None
    """What ingress-nginx's annotations limit. A WsRoute has no field for it."""
    body_size: BodySizeSpec | None = None
    backend_https: bool = False
    """Backends are spoken to over TLS, whatever the Service's port says."""
    close: CloseSpec | None = None
    keepalive: KeepaliveSpec | None = None
    message_limits: MessageLimitsSpec | None = None
    affinity: Affinity | None = None
    session_cookie: SessionCookie | None = None
    """What ingress-nginx's annotations ask for; the cookie of `affinity` comes first. A WsRoute has no field for it."""
    load_balancing: LoadBalancingSpec | None = None
    service_upstream: bool = False
    """Requests go to the cluster IP of the Service, not to its pods."""
    pod_target: bool = False
    """Upgrades name a pod."""
    rewrite: RewriteSpec | None = None
    request_headers: HeaderModifierSpec | None = None
    response_headers: HeaderModifierSpec | None = None
    expressions: ExpressionSpec | None = None
    """What ingress-nginx's annotations make of paths. A WsRoute has no field for it."""
    rebalance: RebalanceSpec | None = None
    canary: bool = False
    """It is a part of the traffic of another Ingress: nothing of it is served, as such parts are not supported yet."""
    fault: str = ""
    """Not empty: a guard cannot be read or carried out, and the routes answer 500."""


NO_FEATURES = Features()

Parse = Callable[[Reader, str, Mapping[str, Any]], object]
"""Read a feature from a rule that stands at a place. What is wrong is reported to the reader; None: nothing is asked for."""

PARSERS: Mapping[str, Parse] = {
    "timeouts": parse_timeouts,
    "access": parse_access,
    "limits": parse_limits,
    "close": parse_close,
    "keepalive": parse_keepalive,
    "message_limits": parse_message_limits,
    "affinity": parse_affinity,
    "load_balancing": parse_load_balancing,
    "pod_target": parse_pod_target,
    "rewrite": parse_rewrite,
    "request_headers": parse_request_headers,
    "response_headers": parse_response_headers,
    "rebalance": parse_rebalance,
}
"""Fields of `Features` that a rule of a WsRoute has, in the order in which they are read."""

TLS_PARSERS: Mapping[str, Parse] = {"hsts": parse_hsts}
"""Those that `tls` of a WsRoute has, for all its rules; parsers read from there."""


def parse_features(reader: Reader, place: str, rule: Mapping[str, Any], **others: object) -> Features:
    """Read the features of a rule whose values have the schema's shape; `place` is where it stands.

    `others`: fields that come from elsewhere.
    """
    features: dict[str, Any] = {**others, **parse_fields(reader, place, rule, PARSERS)}
    return Features(**features) if features else NO_FEATURES


def parse_fields(reader: Reader, place: str, written: Mapping[str, Any], parsers: Mapping[str, Parse]) -> dict[str, object]:
    """Read fields of `Features` from a part of an object that stands at `place`.

    A feature of which a part is wrong is left out: half of what was asked for would be something else.
    """
    features: dict[str, object] = {}
    for name, parse in parsers.items():
        problems = len(reader.problems)
        feature = parse(reader, place, written)
        if feature and len(reader.problems) == problems:
            features[name] = feature
    return features
