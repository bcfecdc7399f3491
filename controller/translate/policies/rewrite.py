"""Paths that the backend sees."""

from controller.resources.features.load_balancing import Balance
from proxy.model.config import Path
from proxy.model.policy import Rewrite


def translate_rewrite(balance: Balance, path: Path, *, pod: bool) -> Rewrite | None:
    """Make the policy; None: the backend sees the client's path. `pod`: a segment behind the prefix names a pod."""
    if balance.rewrite is None:
        return None
    return Rewrite(balance.rewrite.rstrip("/"), path.value.rstrip("/") if path.kind == "prefix" else None, pod)
