"""Messages of the admin socket: the open sockets of a pod, and the order to drain some of them."""

import msgspec

MAX_REASON_BYTES = 123
"""Room for a reason in a close frame, beside the code (RFC 6455, 5.5)."""
MAX_OVER = 24 * 3600.0
"""Seconds over which a drain by command may be spread."""


class SocketRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One open WebSocket."""

    id: str
    """X-Request-ID of its upgrade."""
    route: str
    """Route id; `-`: its route is gone."""
    service: str
    endpoint: str
    """Address and port."""
    client: str
    """The client's address: the peer, or what a trusted proxy says."""
    age: float
    """Seconds since the 101."""
    idle: float
    """Seconds since a byte of an application came from either side, to a tenth."""
    messages_in: int
    """From the client."""
    messages_out: int
    bytes_in: int
    """Payload."""
    bytes_out: int
    closing: str = ""
    """Why it is going to be closed; empty: it is not."""
    closes_in: float = 0.0
    """Seconds until then."""
    rtt: float | None = None
    """Seconds that the last answer to a ping of the proxy's own took, the client's where both sides are pinged; None: none came."""


class DrainOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Close the sockets of a route (or of the object that it is of), a Service or an endpoint, in all workers of the pod."""

    target: str
    """Route id, object as ids begin, ``NAMESPACE/NAME:PORT``, or an address with or without a port."""
    over: float = 30.0
    """Seconds, 0 for at once."""
    code: int = 1012
    reason: str = "service restart"


class Drained(msgspec.Struct, frozen=True):
    """How many sockets are closed by an order; those that would be closed sooner anyway are not counted."""

    sockets: int


def is_close_code(code: int) -> bool:
    """Tell whether a code may stand in a close frame (RFC 6455, 7.4; the registry's up to 1014)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


def is_close_reason(reason: str) -> bool:
    """Tell whether a text fits into a close frame."""
    try:
        return len(reason.encode()) <= MAX_REASON_BYTES
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can escape
        return False


def order_problem(order: DrainOrder) -> str:
    """Return what is wrong with an order, in a sentence; empty: nothing."""
    if not order.target:
        return "Nothing is named; a route, an object, a Service or an endpoint would be accepted."
    if not 0 <= order.over <= MAX_OVER:
        return f"over is {order.over:g} seconds; 0 to {MAX_OVER:g} would be accepted."
    if not is_close_code(order.code):
        return f"code is {order.code}; 1000 to 1014 other than 1004, 1005 and 1006, or 3000 to 4999, would be accepted."
    if not is_close_reason(order.reason):
        return f"reason is too long or no text; at most {MAX_REASON_BYTES} bytes of UTF-8 would be accepted."
    return ""
