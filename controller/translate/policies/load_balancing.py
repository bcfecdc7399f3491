"""How an endpoint is chosen."""

from collections.abc import Mapping

from controller.resources.features.load_balancing import Balance, Policy
from proxy.model.config import LoadBalancing
from proxy.model.policy import HashOn

_NAMES: Mapping[Policy, LoadBalancing] = {
    "RoundRobin": "round-robin",
    "LeastConnections": "least-connections",
    "Random2": "random2",
    "Hash": "hash",
    "EWMA": "ewma",
}


def translate_load_balancing(policy: Policy | None, *, websocket: bool) -> LoadBalancing:
    """Return the proxy's word for it. Sockets live long, so they go where fewer are open, with EWMA too; requests go round."""
    if policy is not None and not (websocket and policy == "EWMA"):
        return _NAMES[policy]
    return "least-connections" if websocket else "round-robin"


def translate_hash_on(balance: Balance) -> HashOn | None:
    """Make the policy that says what is hashed; None: nothing is."""
    return None if balance.hash_on is None else HashOn(*balance.hash_on)
