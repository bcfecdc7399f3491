"""No client comes faster than it may: a bucket of tokens for each client, of which each request takes one."""

from proxy.filters.contract import Filter
from proxy.http.addresses import Networks, limit_key, packed
from proxy.http.local_replies import rate_exceeded
from proxy.http.message import Answer, Request
from proxy.model.policy import Rate
from proxy.shared_memory.counters import SECOND, Counters, whole_seconds


def compile_rate(policy: Rate, route_id: str, counters: Counters) -> Filter:
    """Make the filter; raises ValueError for a rate that lets nobody in."""
    if policy.rate <= 0 or policy.burst < 1:
        raise ValueError(f"a rate of {policy.rate:g} per second in bursts of {policy.burst} lets nobody in")
    scope = (policy.scope or route_id).encode()
    kind = policy.kind.encode()
    interval = max(1, round(SECOND / policy.rate))
    burst, upgrades_only, status = policy.burst, policy.upgrades_only, policy.status
    exempt = Networks(policy.exempt)

    def take_token(request: Request) -> Answer | None:
        if upgrades_only and not request.upgrade:
            return None
        address = packed(request.address)
        if address is not None and exempt.covers(address):
            return None
        missing = counters.take_token(counters.key(b"rate", kind, scope, limit_key(request.address)), interval, burst)
        if not missing:
            return None
        return rate_exceeded(status, whole_seconds(missing), upgrades_only=upgrades_only)

    return take_token
