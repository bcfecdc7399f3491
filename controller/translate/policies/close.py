"""What becomes of open sockets when what they were opened with goes away."""

from collections.abc import Mapping

from controller.resources.features.close import Closing, Mode
from proxy.model.policy import Close, CloseMode, Drain

_MODES: Mapping[Mode, CloseMode] = {"Keep": "keep", "Drain": "drain", "Now": "now"}


def translate_close(written: Closing) -> Close | None:
    """Make the policy of what was written; None: it is the default."""
    policy = Close(
        _MODES[written.on_route_removed],
        _MODES[written.on_endpoint_terminating],
        _MODES[written.on_policy_changed],
        Drain(written.over, written.code, written.reason),
    )
    return None if policy == Close() else policy
