"""Upgrades that name the pod they go to."""

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import PodTarget


def translate_pod_target(features: Features, context: RouteContext) -> tuple[PodTarget, ...]:
    """Make the policy; without it upgrades are balanced."""
    return (PodTarget(None if context.pods_by_host else context.path.value.rstrip("/")),) if features.pod_target else ()
