"""Paths that the backend sees."""

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import Rewrite


def translate_rewrite(features: Features, context: RouteContext) -> tuple[Rewrite, ...]:
    """Make the policy; without it the backend sees the client's path."""
    spec = features.rewrite
    if spec is None:
        return ()
    path = context.path
    pod_in_path = features.pod_target and not context.pods_by_host
    matched = path.value.rstrip("/") if path.kind == "prefix" else None
    answers = (path.value if matched is None else matched) if spec.answers else None
    return (Rewrite(spec.prefix.rstrip("/"), matched, pod_in_path, answers),)
