"""The cookie of ingress-nginx that keeps a client with its endpoint."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from controller.resources.annotations.annotation import (
    NGINX,
    Annotation,
    Family,
    Parse,
    Refused,
    Status,
    read_go_bool,
    unread,
)
from controller.resources.features.session_cookie import SessionCookie

_AFFINITY = NGINX + "affinity"
_MOST_DIGITS = 10
"""Of seconds: centuries, and a date in four digits of a year."""
_SAME_SITE = {"lax": "Lax", "strict": "Strict", "none": "None"}


def build(values: Mapping[str, Any]) -> SessionCookie | None:
    """Make the cookie; None: there is none."""
    return SessionCookie(**{name: value for name, value in values.items() if name != "kind"}) if "kind" in values else None


def _unless_empty(parse: Parse) -> Parse:
    """Make a reader for which, as in ingress-nginx, an empty value is as good as none."""
    return lambda text: parse(text) if text else None


def _word(*words: str) -> Parse:
    hint = f"{' or '.join(words)} would be accepted."
    return _unless_empty(lambda text: text if text in words else Refused(hint))


def _matching(pattern: str, hint: str) -> Parse:
    matches = re.compile(pattern).fullmatch
    return _unless_empty(lambda text: text if matches(text) else Refused(hint))


def _seconds(text: str) -> int | Refused:
    """Read an age. One of 0 ends the cookie at once, as any below it."""
    if not re.fullmatch(rf"-?[0-9]{{1,{_MOST_DIGITS}}}", text):
        return Refused(f"a whole number of seconds, of at most {_MOST_DIGITS} digits, would be accepted.")
    return int(text) or -1


def _same_site(text: str) -> str | Refused:
    return _SAME_SITE.get(text.strip().lower()) or Refused("Lax, Strict or None would be accepted.")


def _flag(text: str) -> bool | Refused:
    is_set = read_go_bool(text)
    return Refused("true or false would be accepted.") if is_set is None else is_set


def _attribute(name: str, attribute: str, parse: Callable[[str], Any], values: str, means: str) -> Annotation:
    return Annotation(NGINX + name, says=means, values=values, parse=parse, attribute=attribute, needs=_AFFINITY)


FAMILY = Family(
    "Session cookie of ingress-nginx",
    (
        Annotation(
            _AFFINITY,
            says="a cookie keeps a client with its endpoint, with what follows, unless a key under `sluice.dev/affinity-cookie` is "
            "there. If that endpoint fails or goes, another one serves the session, and a new cookie names it",
            values="`cookie`",
            parse=_word("cookie"),
            attribute="kind",
        ),
        _attribute(
            "affinity-mode",
            "mode",
            _word("balanced", "persistent"),
            "`balanced` (default), `persistent`",
            "`balanced`: an endpoint that comes takes its share of the sessions from the others, and a value that is not ours is "
            "hashed and left alone; `persistent`: no session moves, and such a value is replaced",
        ),
        _attribute(
            "session-cookie-name",
            "name",
            _matching("[A-Za-z0-9._~:/-]{1,256}", "a name of at most 256 letters, digits and ._~:/- would be accepted."),
            "a name, `INGRESSCOOKIE` by default",
            "its name",
        ),
        _attribute(
            "session-cookie-path",
            "path",
            _matching("/[A-Za-z0-9._~:/?&=-]*", "a path that begins with /, of letters, digits and ._~:/?&=- would be accepted."),
            "a path; absent: that of the rule, or `/` where it is a regular expression",
            "its Path attribute",
        ),
        _attribute(
            "session-cookie-domain",
            "domain",
            _matching(r"[A-Za-z0-9.-]{1,253}", "a domain, such as example.com, would be accepted."),
            "a domain; absent: the host alone",
            "its Domain attribute",
        ),
        _attribute(
            "session-cookie-expires",
            "expires",
            _unless_empty(_seconds),
            "seconds; absent: until the browser ends",
            "its Expires attribute, so long from now",
        ),
        _attribute(
            "session-cookie-max-age",
            "max_age",
            _unless_empty(_seconds),
            "seconds; absent: as `session-cookie-expires` says",
            "its Max-Age attribute",
        ),
        _attribute(
            "session-cookie-samesite",
            "same_site",
            _unless_empty(_same_site),
            "`Lax`, `Strict`, `None`; absent: none",
            "its SameSite attribute",
        ),
        _attribute(
            "session-cookie-conditional-samesite-none",
            "same_site_by_browser",
            _unless_empty(_flag),
            '`"true"`, `"false"` (default)',
            "`SameSite=None` is left out for old browsers that refuse such cookies",
        ),
        _attribute(
            "session-cookie-secure",
            "secure",
            _unless_empty(_flag),
            '`"true"`, `"false"`; absent: over https',
            "its Secure attribute, whatever the client speaks",
        ),
        _attribute(
            "session-cookie-partitioned",
            "partitioned",
            _unless_empty(_flag),
            '`"true"`, `"false"` (default)',
            "its Partitioned attribute",
        ),
        *unread(
            Status.HARMLESS,
            "{name} changes nothing: a session whose endpoint fails always gets another one and a new cookie. Remove it.",
            "session-cookie-change-on-failure",
        ),
    ),
    "session_cookie",
    build,
)
