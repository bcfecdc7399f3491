"""How an endpoint is chosen."""

from collections.abc import Mapping

from controller.resources.features import Features
from controller.resources.features.load_balancing import LoadBalancingSpec, Policy
from controller.translate.route_context import RouteContext
from proxy.model.config import LoadBalancing
from proxy.model.policy import HashOn, HashPart

_NAMES: Mapping[Policy, LoadBalancing] = {
    "RoundRobin": "round-robin",
    "LeastConnections": "least-connections",
    "Random2": "random2",
    "Hash": "hash",
    "EWMA": "ewma",
}


def translate_load_balancing(spec: LoadBalancingSpec | None, *, websocket: bool) -> LoadBalancing:
    """Return the proxy's word for it. Sockets live long, so they go where fewer are open, with EWMA too; requests go round."""
    if spec is not None and not (websocket and spec.policy == "EWMA"):
        return _NAMES[spec.policy]
    return "least-connections" if websocket else "round-robin"


def translate_hash_on(features: Features, _context: RouteContext) -> tuple[HashOn, ...]:
    """Make the policy that says what is hashed."""
    spec = features.load_balancing
    if spec is not None and spec.hash_text:
        return (HashOn("text", parts=tuple(HashPart(*part) for part in spec.hash_text)),)
    return () if spec is None or spec.hash_on is None else (HashOn(*spec.hash_on),)
