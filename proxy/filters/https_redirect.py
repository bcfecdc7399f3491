"""Plain HTTP is sent to https with 308, upgrades too, but never an ACME challenge (RFC 8555, 8.3)."""

from proxy.exchange import Answer, Request
from proxy.filters.contract import Filter

CHALLENGE = "/.well-known/acme-challenge/"


def compile_https_redirect(port: int) -> Filter:
    """Make the filter; `port` is the https port that clients see."""
    suffix = "" if port == 443 else f":{port}"

    def redirect(request: Request) -> Answer | None:
        if request.client.secure or request.path.startswith(CHALLENGE) or not request.host:
            return None
        if request.client.trusted and request.values("x-forwarded-proto")[-1:] == ["https"]:
            return None
        location = f"https://{request.host}{suffix}{request.target}"
        return Answer(308, "This host is served over https.", (("Location", location),))

    return redirect
