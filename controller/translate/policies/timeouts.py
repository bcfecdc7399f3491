"""Time limits."""

from collections.abc import Iterable

from proxy.model.policy import Timeouts


def translate_timeouts(written: Iterable[tuple[str, float]]) -> Timeouts | None:
    """Make the policy of the timeouts that were written; None: all are the defaults."""
    policy = Timeouts(**dict(written))
    return None if policy == Timeouts() else policy
