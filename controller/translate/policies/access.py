"""Networks of clients, and origins of pages that may open WebSockets.

Lists are in order, so that those that say the same are the same.
"""

from controller.resources.features import Features
from controller.translate.route_context import RouteContext
from proxy.model.policy import AllowedOrigins, ClientAddresses


def translate_access(features: Features, _context: RouteContext) -> tuple[ClientAddresses | AllowedOrigins, ...]:
    """Make the policies of the lists that are there."""
    lists = features.access
    if lists is None:
        return ()
    addresses = (ClientAddresses(tuple(sorted(lists.allow)), tuple(sorted(lists.deny))),) if lists.allow or lists.deny else ()
    origins = (AllowedOrigins(tuple(sorted(lists.origins))),) if lists.origins else ()
    return (*addresses, *origins)
