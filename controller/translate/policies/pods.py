"""Upgrades that name the pod they go to."""

from controller.resources.features.load_balancing import Balance
from proxy.model.config import Path
from proxy.model.policy import PodTarget


def translate_pods(balance: Balance, path: Path, *, by_host: bool) -> PodTarget | None:
    """Make the policy; None: upgrades are balanced."""
    return PodTarget(None if by_host else path.value.rstrip("/")) if balance.pods else None
