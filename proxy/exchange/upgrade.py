# Compiled by mypyc: see setup.py.
"""A valid 101: both connections leave HTTP and become a tunnel's."""

from proxy.exchange.contract import DownstreamCodec, UpstreamCodec
from proxy.http.message import Request, ResponseHead
from proxy.http1.fields import split_fields
from proxy.runtime.routes import ActiveRoute
from proxy.runtime.state import Runtime
from proxy.upstream.affinity import Selection
from proxy.upstream.pool import EndpointPool, LiveUpstream
from proxy.websocket.handshake import check_switch, extension_names
from proxy.websocket.tunnel import Tunnel


def refuse_switch(request: Request, lines: list[bytes]) -> str | None:
    """Name why a 101 with these lines does not answer a request, as in causes.py; None: the connection is a WebSocket now."""
    if not request.upgrade:
        return "unexpected_switch"
    return check_switch(split_fields(request.lines), split_fields(lines))


def open_tunnel(
    runtime: Runtime,
    request: Request,
    route: ActiveRoute,
    upstream: LiveUpstream,
    pool: EndpointPool,
    selection: Selection | None,
    began: float,
    sides: tuple[DownstreamCodec, UpstreamCodec],
    head: ResponseHead,
    lines: list[bytes],
    rest: bytes,
) -> None:
    """Make a tunnel of an exchange that began at loop time `began`. `rest`: what the backend sent behind its 101."""
    downstream, codec = sides
    now = runtime.loop.time()
    stats = route.stats
    stats.end_request()
    if now >= pool.outlier_detection.successes_from:
        pool.record_status(101, request.address)
    stats.ws_handshake(101, now - began)
    stats.first_byte(upstream.key, now - began)
    pool.in_flight -= 1
    added = selection.answer_fields(101, head.encoded, pool) if selection is not None else b""
    request.fields = b""  # sent, and the request stays as long as its socket, which may be days
    backend = codec.detach()
    client, first, early = downstream.detach(head, added)
    listener, service_stats, reservation = request.client.listener, upstream.stats, request.reservation

    def ended() -> None:
        if reservation is not None:
            reservation.release()
        runtime.stats.connection_closed(listener)
        service_stats.connections -= 1

    tunnel = Tunnel(
        runtime,
        request=request,
        stats=stats,
        service=upstream.key,
        endpoint=pool,
        idle=route.timeouts.idle,
        opened=now,
        transports=(client, backend),
        extensions=bool(extension_names(split_fields(lines))),
        ended=ended,
    )
    if route.message_limits is not None:
        tunnel.limit(route.message_limits)
    if route.keepalive is not None:
        tunnel.keep_alive(route.keepalive, stats)
    tunnel.start(first, early, rest)
    runtime.closer.opened(tunnel, route)
