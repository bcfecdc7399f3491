"""Origins of pages that may open WebSockets."""

from controller.resources.features.access import Guards
from proxy.model.policy import AllowedOrigins


def translate_origins(guards: Guards) -> AllowedOrigins | None:
    """Make the policy of the origins that were listed, in order, so that lists that say the same are the same; None: none was."""
    return AllowedOrigins(tuple(sorted(guards.origins))) if guards.origins else None
