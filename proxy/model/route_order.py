"""Which of two routes is more specific, and which is older and wins."""

from proxy.model.config import Route


def route_order(route: Route, *, upgrade: bool) -> tuple[int, bool, str, str, str, bool, int]:
    """Sort key among routes of equal host and path, for one kind of request: the first one wins.

    More conditions first; for upgrades a WsRoute before an Ingress; then the oldest object, then by namespace and name, a WsRoute
    before an Ingress of the same name, then the first listed (docs/wsroute.md, 'What is matched, and who wins').
    """
    beaten = upgrade and route.origin != "wsroute"
    return (
        *(-route.conditions.count, beaten),
        *(route.created, route.namespace, route.name, route.origin != "wsroute"),
        route.index,
    )
