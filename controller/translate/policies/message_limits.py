"""Limits on the messages of a socket."""

from controller.resources.features.message_limits import MessageLimitsSpec
from proxy.model.policy import MessageLimits


def translate_message_limits(spec: MessageLimitsSpec | None) -> MessageLimits | None:
    """Make the policy; None: messages are not limited."""
    return None if spec is None else MessageLimits(spec.size, spec.rate / spec.per, spec.burst)
