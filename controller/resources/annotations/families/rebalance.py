"""Endpoints that shed sockets after a scale-up."""

from controller.resources.annotations.annotation import Family, ours
from controller.resources.annotations.values import field_text
from controller.resources.features.rebalance import ABOVE_HINT

_DOCS = "[as for a WsRoute](wsroute.md#which-endpoint-a-request-goes-to)"

FAMILY = Family(
    "Rebalancing",
    (
        ours(
            "rebalance.above",
            field_text("rebalance.above", ABOVE_HINT),
            'a number above 1, such as `"1.3"`',
            f"pods with so many times the mean of sockets shed some, {_DOCS}",
            needs="rebalance.rate",
        ),
        ours(
            "rebalance.rate",
            field_text("rebalance.rate", "a rate such as 5/s or 30/m would be accepted."),
            "a rate, such as `5/s`",
            "so many sockets are shed at most",
            needs="rebalance.above",
        ),
    ),
    "rebalance",
)
