"""Endpoints that shed sockets after a scale-up."""

from controller.resources.features.load_balancing import Balance
from proxy.model.policy import Rebalance


def translate_rebalance(balance: Balance) -> Rebalance | None:
    """Make the policy; None: sockets stay where they are."""
    return None if balance.rebalance is None else Rebalance(*balance.rebalance)
