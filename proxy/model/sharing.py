"""Equal parts of routes made one: thousands of routes name the same namespace, path, target and policies.

Values that were decoded one by one share nothing. Parts are frozen, so nobody can tell whether two of them are the same object.
"""

import msgspec

from proxy.model.config import Conditions, Path, Route, Target
from proxy.model.policy import Policy
from proxy.model.wire import Entry, RouteEntry, decode_entry


class Sharer:
    """Remembers parts for as long as it lives: for one message."""

    __slots__ = ("_conditions", "_paths", "_policies", "_targets", "_texts")

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._paths: dict[Path, Path] = {}
        self._conditions: dict[Conditions, Conditions] = {}
        self._targets: dict[Target, Target] = {}
        self._policies: dict[tuple[Policy, ...], tuple[Policy, ...]] = {}

    def decode(self, key: str, data: bytes) -> Entry:
        """Decode an entry; raises `WireError` as `decode_entry` does."""
        entry = decode_entry(key, data)
        if isinstance(entry, RouteEntry):
            self.share(entry.value)
        return entry

    def share(self, route: Route) -> None:
        """Replace parts of a route that nobody else has yet by equal ones of earlier routes."""
        text = self._texts.setdefault
        # The value stays equal to itself, so it may be frozen all the same.
        put = msgspec.structs.force_setattr
        put(route, "namespace", text(route.namespace, route.namespace))
        put(route, "created", text(route.created, route.created))
        put(route, "path", self._paths.setdefault(route.path, route.path))
        put(route, "conditions", self._conditions.setdefault(route.conditions, route.conditions))
        put(route, "policies", self._policies.setdefault(route.policies, route.policies))
        for name, target in (("http", route.http), ("websocket", route.websocket)):
            if target is not None:
                put(route, name, self._targets.setdefault(target, target))
