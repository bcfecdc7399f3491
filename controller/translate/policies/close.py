"""What becomes of open sockets when what they were opened with goes away."""

from collections.abc import Mapping

from controller.resources.features import Features
from controller.resources.features.close import Mode
from controller.translate.route_context import RouteContext
from proxy.model.policy import Close, CloseMode, Drain

_MODES: Mapping[Mode, CloseMode] = {"Keep": "keep", "Drain": "drain", "Now": "now"}


def translate_close(features: Features, _context: RouteContext) -> tuple[Close, ...]:
    """Make the policy, unless it is the default."""
    spec = features.close
    if spec is None:
        return ()
    policy = Close(
        _MODES[spec.on_route_removed],
        _MODES[spec.on_endpoint_terminating],
        _MODES[spec.on_policy_changed],
        Drain(spec.over, spec.code, spec.reason),
    )
    return () if policy == Close() else (policy,)
