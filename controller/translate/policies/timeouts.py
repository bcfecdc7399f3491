"""Time limits."""

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import Timeouts


def translate_timeouts(features: Features, _context: RouteContext) -> tuple[Timeouts, ...]:
    """Make the policy of the timeouts that were written, unless all are the defaults."""
    if features.timeouts is None:
        return ()
    written = ((name, getattr(features.timeouts, name)) for name in Timeouts.__struct_fields__)
    policy = Timeouts(**{name: seconds for name, seconds in written if seconds is not None})
    return () if policy == Timeouts() else (policy,)
