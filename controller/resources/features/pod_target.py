"""Upgrades that name the pod they go to."""

from collections.abc import Mapping
from typing import Any

from controller.resources.reading.fields import Reader


def parse_pod_target(_reader: Reader, _place: str, rule: Mapping[str, Any]) -> bool:
    """Tell whether upgrades of a rule name a pod."""
    return (rule.get("websocket") or {}).get("target") == "Pod"
