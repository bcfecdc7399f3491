"""The open sockets of one worker as rows of `sluice sockets`. Pure."""

from proxy.http.addresses import host_and_port
from proxy.model.sockets import SocketRow
from proxy.websocket.tunnel import Tunnel


def describe(tunnel: Tunnel, now: float) -> SocketRow:
    """Describe one socket at a loop time."""
    info = tunnel.stats.info
    client, backend = tunnel.client.scanner, tunnel.backend.scanner
    entry = tunnel.entry
    scheduled = entry.scheduled if entry is not None else None
    last = max(tunnel.client.last_heard, tunnel.backend.last_heard)
    pinger = tunnel.client.pinger or tunnel.backend.pinger
    return SocketRow(
        info.request.id,
        info.stats.route_id,
        info.service,
        host_and_port(info.endpoint.address, info.endpoint.port),
        info.request.address,
        round(now - tunnel.opened, 1),
        round(max(0.0, now - last), 1),
        client.messages,
        backend.messages,
        client.payload_bytes,
        backend.payload_bytes,
        scheduled.close_reason.cause if scheduled is not None else "",
        round(max(0.0, scheduled.at - now), 1) if scheduled is not None else 0.0,
        round(pinger.rtt, 6) if pinger is not None and pinger.rtt else None,
    )
