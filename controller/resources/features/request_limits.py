"""What ingress-nginx's annotations limit: all requests of a client to one Ingress, upgrades among them. A guard."""

from dataclasses import dataclass

BURST_MULTIPLIER = 5
"""ingress-nginx's default of limit-burst-multiplier."""
MOST_MULTIPLIER = 1000


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits on the requests of a client; 0: none."""

    connections: int = 0
    """Requests under way; a socket is one while it is open."""
    per_second: int = 0
    per_minute: int = 0
    multiplier: int = BURST_MULTIPLIER
    """So many times the rate may come at once."""
    exempt: tuple[str, ...] = ()
    """CIDRs."""
