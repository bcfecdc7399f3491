"""Time limits."""

from dataclasses import asdict

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import Timeouts


def translate_timeouts(features: Features, _context: RouteContext) -> tuple[Timeouts, ...]:
    """Make the policy of the timeouts that were written, unless all are the defaults."""
    if features.timeouts is None:
        return ()
    policy = Timeouts(**{name: seconds for name, seconds in asdict(features.timeouts).items() if seconds is not None})
    return () if policy == Timeouts() else (policy,)
