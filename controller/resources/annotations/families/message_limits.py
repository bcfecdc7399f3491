"""Limits on the messages of a socket."""

from controller.resources.annotations.annotation import Family, Guard, ours
from controller.resources.annotations.values import size, timeout, whole_number
from controller.resources.features.message_limits import MOST_MESSAGES

FAMILY = Family(
    "Messages",
    (
        ours(
            "limits.messageBytes",
            size,
            "size, as in `64Ki`; `0`: any",
            "a larger message closes the socket, with 1009 to its sender",
            guard=Guard.TEXT,
        ),
        ours(
            "limits.messages.rate",
            whole_number(1, MOST_MESSAGES),
            "whole number; absent: any",
            "messages of the client in each `limits-messages-per`; one too many closes the socket with 1008",
            guard=Guard.TEXT,
        ),
        ours(
            "limits.messages.per",
            timeout,
            "duration, `1s` by default",
            "the time for them",
            guard=Guard.TEXT,
            needs="limits.messages.rate",
        ),
        ours(
            "limits.messages.burst",
            whole_number(1, MOST_MESSAGES),
            "whole number, the rate by default",
            "messages that may come at once",
            guard=Guard.TEXT,
            needs="limits.messages.rate",
        ),
    ),
    "message_limits",
)
