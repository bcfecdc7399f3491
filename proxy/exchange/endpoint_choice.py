# Compiled by mypyc: see setup.py.
"""Which endpoint serves a request: by affinity, hashing or a pod's name where its route has any, else by load balancing."""

from proxy.exchange.accounting import record_no_endpoint
from proxy.exchange.contract import DownstreamCodec
from proxy.exchange.forwarder import Exchange
from proxy.http.local_replies import UNRESOLVED
from proxy.http.message import Answer, Failure, Request
from proxy.runtime.routes import ActiveRoute
from proxy.runtime.state import Runtime
from proxy.shared_memory.counters import Reservation
from proxy.transport.timer_wheel import Deadline
from proxy.upstream.affinity import Affinity
from proxy.upstream.pool import LiveUpstream


class Refusal:
    """An answer of ours in place of an exchange."""

    __slots__ = ("answer", "failure")

    def __init__(self, answer: Answer, failure: Failure | None = None) -> None:
        self.answer = answer
        self.failure = failure
        """What of the backend is to blame; None: nothing."""


def begin_exchange(
    downstream: DownstreamCodec,
    runtime: Runtime,
    deadline: Deadline,
    request: Request,
    route: ActiveRoute,
    connection_auth: bool,  # noqa: FBT001  keywords cost the hot path
) -> Exchange | Refusal:
    """Choose an endpoint and begin an exchange with it; the parameters are `Exchange`'s."""
    target = route.websocket if request.upgrade else route.http
    if target is None:
        return Refusal(UNRESOLVED)
    if target.affinity is not None:
        return _begin_by_affinity(target.affinity, downstream, runtime, deadline, request, route, connection_auth)
    upstream = target.pick()
    if upstream is None:
        return Refusal(UNRESOLVED)
    load_balancing = target.load_balancing
    if request.upgrade:
        pool = upstream.reserve(load_balancing, route.sockets_per_endpoint, _reservation(request, runtime))
    else:
        pool = upstream.choose(load_balancing)
    if pool is None:
        return _without_endpoint(upstream, request, runtime)
    return Exchange(downstream, runtime, deadline, request, route, upstream, pool, load_balancing, None, connection_auth)


def _begin_by_affinity(
    affinity: Affinity,
    downstream: DownstreamCodec,
    runtime: Runtime,
    deadline: Deadline,
    request: Request,
    route: ActiveRoute,
    connection_auth: bool,  # noqa: FBT001
) -> Exchange | Refusal:
    selection = affinity.select(request)
    if selection is None or isinstance(selection, Answer):
        return Refusal(selection or UNRESOLVED)
    upstream = selection.upstream
    pool = selection.reserve(route.sockets_per_endpoint, _reservation(request, runtime)) if request.upgrade else selection.pool
    if pool is None:
        return _without_endpoint(upstream, request, runtime)
    request.fields = affinity.forwarded_fields(request)
    return Exchange(
        downstream,
        runtime,
        deadline,
        request,
        route,
        upstream,
        pool,
        selection.load_balancing,
        selection,
        connection_auth,
    )


def _reservation(request: Request, runtime: Runtime) -> Reservation:
    if request.reservation is None:
        request.reservation = Reservation(runtime.counters)
    return request.reservation


def _without_endpoint(upstream: LiveUpstream, request: Request, runtime: Runtime) -> Refusal:
    answer, failure = record_no_endpoint(upstream, request, runtime)
    return Refusal(answer, failure)
