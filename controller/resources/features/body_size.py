"""How large the body of a request may be, as ingress-nginx's annotation says it. A WsRoute has no field for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BodySizeSpec:
    """A limit."""

    most: int
    """Bytes."""
