"""The cookie that ingress-nginx's annotations ask for: it keeps a client with its endpoint. A WsRoute says `affinity.cookie`."""

from dataclasses import dataclass
from typing import Literal

DEFAULT_NAME = "INGRESSCOOKIE"


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """The cookie, its attributes, and how sessions move when endpoints come."""

    mode: Literal["balanced", "persistent"] = "balanced"
    """`balanced`: an endpoint that comes takes its share of the sessions; `persistent`: none."""
    name: str = DEFAULT_NAME
    path: str = ""
    """Empty: that of the route."""
    domain: str = ""
    expires: int = 0
    """Seconds, as a date; 0: until the browser ends."""
    max_age: int = 0
    same_site: Literal["Lax", "Strict", "None", ""] = ""
    same_site_by_browser: bool = False
    """`SameSite=None` for browsers alone that understand it."""
    secure: bool | None = None
    """None: over https."""
    partitioned: bool = False
