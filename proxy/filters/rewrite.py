"""The backend sees another path than the client asked for: a prefix in place of the one that the route matched.

As in the Gateway API (ReplacePrefixMatch): /ws to / makes / of /ws and of /ws/, /a of /ws/a; the query stays. A path that has
several readings comes here only if each of them lies under the matched prefix (routing/table.py); it is passed on only if each lies
under the new one too: dots must not climb out of it.
"""

from proxy.filters.contract import Filter
from proxy.http.local_replies import AMBIGUOUS_PATH
from proxy.http.message import Answer, Request
from proxy.routing.paths import is_plain, lies_under, readings


def compile_rewrite(prefix: str, matched: str | None, *, pod: bool) -> Filter:
    """Make the filter: `prefix` takes the place of `matched`, of the whole path where that is None.

    Both are without their trailing slash. `pod`: of upgrades, the segment behind `matched` goes too.
    """

    def rewrite(request: Request) -> Answer | None:
        path = request.path
        if matched is None:
            rest = ""
        else:
            rest = path[len(matched) :]
            if pod and request.upgrade:
                _, slash, behind = rest[1:].partition("/")
                rest = slash + behind
        sent = prefix + rest or "/"
        if matched is not None and not is_plain(path) and not all(lies_under(reading, prefix) for reading in readings(sent) or ()):
            return AMBIGUOUS_PATH
        request.sent_target = sent + request.target[len(path) :]
        return None

    return rewrite
