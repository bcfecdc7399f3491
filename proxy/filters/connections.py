"""No more open sockets than there may be: of a route, of a client on it, of the pod, of a client on the pod.

A request is counted before it goes on, so that a handshake under way counts too, until the upgrade fails or the socket is gone.
"""

from collections.abc import Iterable

from proxy.filters.contract import Filter
from proxy.http.addresses import Networks, limit_key, packed
from proxy.http.local_replies import POD_CLIENT_FULL, POD_FULL, ROUTE_FULL, client_full
from proxy.http.message import Answer, Request
from proxy.model.policy import Connections
from proxy.shared_memory.counters import Counters, Reservation


def compile_connections(policy: Connections, route_id: str, counters: Counters) -> Filter | None:
    """Make the filter of a route's own limits; None: it has none that a filter carries out."""
    scope = (policy.scope or route_id).encode()
    return _compile(policy, scope, counters, ROUTE_FULL, client_full(policy.status))


def compile_pod_connections(total: int, per_client: int, counters: Counters) -> Filter | None:
    """Make the filter of the limits that hold for all routes together; None: there are none."""
    return _compile(Connections(total, per_client), b"", counters, POD_FULL, POD_CLIENT_FULL)


def count_open_sockets(policy: Connections, route_id: str, counters: Counters, sockets: Iterable[Request]) -> None:
    """Count sockets that were opened before their route had these limits, or others than now, by the requests that opened them."""
    scope = (policy.scope or route_id).encode()
    exempt = Networks(policy.exempt)
    total = [counters.key(b"sockets", scope)] if policy.total else []
    for request in sockets:
        if request.reservation is not None:
            client = _client_key(request, scope, counters, exempt) if policy.per_client else None
            counters.count_open(request.reservation, total if client is None else [*total, client])


def _client_key(request: Request, scope: bytes, counters: Counters, exempt: Networks) -> bytes | None:
    """Return what a request's client is counted under; None: it is exempt."""
    address = packed(request.address)
    if address is not None and exempt.covers(address):
        return None
    return counters.key(b"client", scope, limit_key(request.address))


def _compile(policy: Connections, scope: bytes, counters: Counters, full: Answer, full_of_client: Answer) -> Filter | None:
    exempt = Networks(policy.exempt)
    total: list[tuple[bytes, int]] = [(counters.key(b"sockets", scope), policy.total)] if policy.total else []
    per_client, requests = policy.per_client, policy.requests
    if not total and not per_client:
        return None

    def take(request: Request) -> Answer | None:
        if not request.upgrade and not requests:
            return None
        wanted = total
        if per_client:
            client = _client_key(request, scope, counters, exempt)
            if client is not None:
                wanted = [*total, (client, per_client)]
        reservation = request.reservation
        if reservation is None:
            reservation = request.reservation = Reservation(counters)
        exceeded = counters.claim(reservation, wanted)
        if exceeded < 0:
            return None
        return full if exceeded < len(total) else full_of_client

    return take
