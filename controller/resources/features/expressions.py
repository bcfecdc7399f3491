"""Paths as regular expressions, and the path that the backend sees of them: `use-regex` and `rewrite-target` of ingress-nginx.

Whether an expression compiles is not judged here: whether a path is one depends on what other Ingresses of its host ask for.
"""

import re
from dataclasses import dataclass

from controller.resources.reading.fields import is_host, is_literal_path

_WRITTEN = re.compile(r"[-._~a-zA-Z0-9/:$]+")
_URL = re.compile(r"(https?://([^/:]+)(?::([0-9]{1,5}))?)(/.*)?")
_GROUP = re.compile(r"\$([1-9])")
_UNCHANGED = ("$request_uri", "$uri")
"""Variables of nginx that are the client's path."""
TARGET_HINT = (
    "so no path is rewritten; a path of letters, digits, -._~: and /, with $1 to $9 for groups of the rule's path, or a URL that "
    "has them behind its host alone, would be accepted."
)


@dataclass(frozen=True, slots=True)
class RewriteTarget:
    """What takes the place of a whole path."""

    text: str
    """As it was written: a path that is equal to it is not rewritten."""
    path: tuple[str | int, ...]
    """Texts and numbers of groups; empty: the client's path stays as it is."""
    origin: str = ""
    """Scheme, host and port of a redirect; empty: it is for the backend."""


@dataclass(frozen=True, slots=True)
class ExpressionSpec:
    """What an Ingress asks for of its paths; it decides for its hosts and namespace (`translate/expressions.py`)."""

    use_regex: bool = False
    target: RewriteTarget | None = None

    def applies_to(self, path: str) -> bool:
        """Tell whether this makes a path an expression, and with it those of its host and namespace."""
        return self.use_regex or self.rewrites(path) is not None

    def rewrites(self, path: str) -> RewriteTarget | None:
        """Return what takes the place of a path; None: nothing does."""
        return self.target if self.target is not None and self.target.text != path else None


def parse_rewrite_target(value: str) -> RewriteTarget | None:
    """Parse a target; None: it is none. Nothing of a request becomes a host."""
    text = value.strip()
    if text in _UNCHANGED:
        return RewriteTarget(text, ())
    if _WRITTEN.fullmatch(text) is None:
        return None
    origin, path = "", text
    if "://" in text:
        url = _URL.fullmatch(text)
        if url is None or not is_host(url[2].lower()) or url[2].startswith("*") or not 0 < int(url[3] or 80) < 65536:
            return None
        origin, path = url[1], url[4] or "/"
    path = "/" + re.sub("//+", "/", path).removeprefix("/")
    if not is_literal_path(_GROUP.sub("x", path)) or "$" in _GROUP.sub("", path):
        return None
    parts = _GROUP.split(path)
    found = tuple(int(part) if number % 2 else part for number, part in enumerate(parts))
    return RewriteTarget(text, tuple(part for part in found if part != ""), origin)
