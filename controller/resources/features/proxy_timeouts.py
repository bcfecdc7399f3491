"""Time limits as ingress-nginx's annotations give them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProxyTimeouts:
    """Those that were written, in seconds; None: nothing is said."""

    connect: int | None = None
    """Of one attempt to connect."""
    read: int | None = None
    """Between two reads from the backend, the first byte of its answer among them."""
    send: int | None = None
    """Between two writes to the backend."""
