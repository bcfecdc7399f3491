"""How an endpoint is chosen."""

from collections.abc import Mapping

from controller.resources.wsroute import Policy
from proxy.model.config import LoadBalancing

_NAMES: Mapping[Policy, LoadBalancing] = {
    "RoundRobin": "round-robin",
    "LeastConnections": "least-connections",
    "Random2": "random2",
}


def translate_load_balancing(policy: Policy | None, *, websocket: bool) -> LoadBalancing:
    """Return the proxy's word for it. Sockets live long, so they go where fewer are open; requests go round."""
    if policy is not None:
        return _NAMES[policy]
    return "least-connections" if websocket else "round-robin"
