"""Upgrades of a route that leads to pods name one: in the path, behind the route's prefix, or as the first label of the host."""

import re

from proxy.filters.contract import Filter
from proxy.http.local_replies import AMBIGUOUS_PATH, UNNAMED
from proxy.http.message import Answer, Request
from proxy.routing.paths import is_plain, lies_under, readings

_NAME = re.compile(r"[0-9A-Za-z][-.:0-9A-Za-z]{0,252}|::[:0-9A-Fa-f]{0,37}")
"""Names of pods and IP addresses; nothing that needs decoding."""


def compile_pod_target(after: str | None) -> Filter:
    """Make the filter: it finds the name of the pod behind the prefix `after`, or in the host where that is None."""

    def from_host(request: Request) -> Answer | None:
        request.pod = request.host.partition(".")[0]
        return None

    if after is None:
        return from_host
    start = after + "/"

    def from_path(request: Request) -> Answer | None:
        if not request.upgrade:
            return None
        path = request.path
        name = path[len(start) :].partition("/")[0] if path.startswith(start) else ""
        if _NAME.fullmatch(name) is None:
            return UNNAMED
        if not is_plain(path):
            whole = start + name
            if not all(lies_under(reading, whole) for reading in readings(path) or ()):
                return AMBIGUOUS_PATH
        request.pod = name.lower()
        return None

    return from_path
