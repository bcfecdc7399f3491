"""Networks of clients that are served, and that are not."""

from controller.resources.features.access import Guards
from proxy.model.policy import ClientAddresses


def translate_client_addresses(guards: Guards) -> ClientAddresses | None:
    """Make the policy of the networks that were listed, in order, so that lists that say the same are the same; None: none was."""
    if not guards.allow and not guards.deny:
        return None
    return ClientAddresses(tuple(sorted(guards.allow)), tuple(sorted(guards.deny)))
