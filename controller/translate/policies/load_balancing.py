"""How an endpoint is chosen."""

from collections.abc import Mapping

from controller.resources.balance import Balance, Policy
from proxy.model.config import LoadBalancing
from proxy.model.policy import HashOn

_NAMES: Mapping[Policy, LoadBalancing] = {
    "RoundRobin": "round-robin",
    "LeastConnections": "least-connections",
    "Random2": "random2",
    "Hash": "hash",
}


def translate_load_balancing(policy: Policy | None, *, websocket: bool) -> LoadBalancing:
    """Return the proxy's word for it. Sockets live long, so they go where fewer are open; requests go round."""
    if policy is not None:
        return _NAMES[policy]
    return "least-connections" if websocket else "round-robin"


def translate_hash_on(balance: Balance) -> HashOn | None:
    """Make the policy that says what is hashed; None: nothing is."""
    return None if balance.hash_on is None else HashOn(*balance.hash_on)
