"""Clients of listed networks are served, or refused with 403. A client whose address cannot be read is refused."""

from proxy.filters.contract import Filter
from proxy.http.addresses import Networks, packed
from proxy.http.local_replies import ADDRESS_REFUSED
from proxy.http.message import Answer, Request
from proxy.model.policy import ClientAddresses


def compile_client_addresses(policy: ClientAddresses) -> Filter:
    """Make the filter; raises ValueError for what is no CIDR."""
    allowed = Networks(policy.allow) if policy.allow else None
    denied = Networks(policy.deny)

    def judge(request: Request) -> Answer | None:
        address = packed(request.address)
        if address is None or denied.covers(address) or (allowed is not None and not allowed.covers(address)):
            return ADDRESS_REFUSED
        return None

    return judge
