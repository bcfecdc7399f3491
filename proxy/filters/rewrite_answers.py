"""Paths in answers get the prefix back that a rewrite took: of Location, Content-Location and of cookies.

As nginx's `proxy_redirect` and `proxy_cookie_path` do it, and Apache's ProxyPassReverse. Only what names a path of the request's
own host is changed, and of that only what the backend's prefix begins. An application that knows where it is served writes the
outer path itself: where the inner prefix begins that too, it stays.
"""

from proxy.filters.contract import AnswerFilter
from proxy.http.answer_head import AnswerHead
from proxy.http.message import Request
from proxy.model.policy import Rewrite

_LOCATIONS = (b"location", b"content-location")


class _Inner:
    """The path that the backend sees in place of the client's."""

    __slots__ = ("path", "whole")

    def __init__(self, path: bytes, *, whole: bool) -> None:
        self.path = path
        """Without its trailing slash."""
        self.whole = whole
        """Nothing below it is the route's."""

    def restored(self, path: bytes, outer: bytes) -> bytes:
        """Put `outer` back in a path without query and fragment, if it begins with the inner one."""
        if path != self.path and (self.whole or not path.startswith(self.path + b"/")):
            return path
        if len(outer) > len(self.path) and (path == outer or path.startswith(outer + b"/")):
            return path
        return outer + path[len(self.path) :] or b"/"


def compile_rewrite_answers(policy: Rewrite) -> AnswerFilter | None:
    """Make the filter; None: answers stay as they are."""
    public = policy.answers
    if public is None:
        return None
    whole, pod, encoded = policy.matched is None, policy.pod, public.encode("latin-1")
    inner = _Inner((policy.prefix or ("/" if whole else "")).encode("latin-1"), whole=whole)

    def restore(request: Request, head: AnswerHead) -> None:
        outer = encoded + _pod(request, public) if pod and request.upgrade else encoded
        fields = head.fields
        for number, (name, value) in enumerate(fields):
            lowered = name.lower()
            if lowered in _LOCATIONS:
                fields[number] = name, _location(value, inner, outer, request.host.encode("latin-1"))
            elif lowered == b"set-cookie":
                fields[number] = name, _cookie(value, inner, outer)

    return restore


def _pod(request: Request, public: str) -> bytes:
    """Return the segment that names a pod, with the slash before it."""
    return b"/" + request.path[len(public) + 1 :].partition("/")[0].encode("latin-1")


def _location(value: bytes, inner: _Inner, outer: bytes, host: bytes) -> bytes:
    """Restore a reference (RFC 9110, 10.2.2) that names a path of this host; one that is relative to the request's leads there."""
    scheme, colon, rest = value.partition(b"://")
    begin = 0
    if colon and scheme.lower() in (b"http", b"https"):
        begin = len(scheme) + 3
    elif value.startswith(b"//"):
        begin, rest = 2, value[2:]
    elif not value.startswith(b"/"):
        return value
    if begin:
        size = _until(rest, b"/?#")
        if _host_of(rest[:size]) != host:
            return value
        begin += size
    end = begin + _until(value[begin:], b"?#")
    return value[:begin] + inner.restored(value[begin:end], outer) + value[end:]


def _until(text: bytes, marks: bytes) -> int:
    found = [place for mark in marks if (place := text.find(mark)) >= 0]
    return min(found, default=len(text))


def _host_of(authority: bytes) -> bytes:
    """Return the host of an authority as requests have theirs: in lower case, without port and trailing dot."""
    host, _, port = authority.lower().rpartition(b":")
    return (host if host and port.isdigit() else authority.lower()).removesuffix(b".")


def _cookie(value: bytes, inner: _Inner, outer: bytes) -> bytes:
    """Restore the path of a cookie (RFC 6265, 5.2.4); one without has that of the request, which the client knows."""
    parts = value.split(b";")
    for number, part in enumerate(parts):
        name, equals, path = part.partition(b"=")
        path = path.strip(b" \t")
        if number and path and equals and name.strip(b" \t").lower() == b"path":
            # `/` is all of the application: `/outer` is, `/outer/` would leave out `/outer` itself.
            restored = outer or b"/" if path == b"/" and not inner.path else inner.restored(path, outer)
            parts[number] = name + b"=" + restored
    return b";".join(parts)
