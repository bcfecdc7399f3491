"""Plain HTTP is sent to https with 308, upgrades too, but never an ACME challenge (RFC 8555, 8.3)."""

from collections.abc import Collection

from proxy.filters.contract import Filter
from proxy.http.local_replies import https_redirect
from proxy.http.message import Answer, Request

CHALLENGE = "/.well-known/acme-challenge/"


def compile_https_redirect(port: int, hosts: Collection[str] = ()) -> Filter:
    """Make the filter; `port`: the https port that clients see; `hosts` (exact or `*.suffix`): the ones that are redirected."""
    suffix = "" if port == 443 else f":{port}"
    only = frozenset(hosts)

    def redirect(request: Request) -> Answer | None:
        if request.secure or request.path.startswith(CHALLENGE) or not request.host:
            return None
        if only and request.host not in only and "*." + request.host.partition(".")[2] not in only:
            return None
        return https_redirect(f"https://{request.host}{suffix}{request.target}")

    return redirect
