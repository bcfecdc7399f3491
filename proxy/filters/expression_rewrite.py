"""The backend sees a path that is made of what an expression matched, or the client is sent to one.

What groups matched is of the decoded path: the result is a path again, encoded anew, and nothing else. It begins with one slash;
an empty segment or one of dots in it is refused. As with a prefix that takes another's place, a path that has several readings is
passed on only if each of them lies under what the rewrite itself says.
"""

import re
from collections.abc import Callable, Sequence

from proxy.filters.contract import Filter
from proxy.http.local_replies import AMBIGUOUS_PATH, EXPRESSIONS_FAILED, REWRITTEN_PATH, expression_redirect
from proxy.http.message import Answer, Request
from proxy.model.expression import check_expression
from proxy.model.policy import ExpressionRedirect, ExpressionRewrite
from proxy.routing.expressions import Automata, MatchFailedError
from proxy.routing.paths import decoded_path, is_plain, lies_under, readings

_NO_PATH = re.compile(r"//|/\.{1,2}(?:[/;]|$)")
# As nginx encodes a path (NGX_ESCAPE_URI): what is left of a decoded one needs no other.
_ENCODED = re.compile('[\x00-\x20"#%<>?\\\\^`{|}\x7f-\xff]')

_Make = Callable[[Request], "str | Answer"]
"""Makes the path, or says why there is none."""


def compile_expression_rewrite(policy: ExpressionRewrite, automata: Automata) -> Filter:
    """Make the filter. Raises `BadExpressionError`, which is a ValueError."""
    make = _compile_path(policy.expression, policy.path, automata)

    def rewrite(request: Request) -> Answer | None:
        made = make(request)
        if isinstance(made, Answer):
            return made
        request.sent_target = made + request.target[len(request.path) :]
        return None

    return rewrite


def compile_expression_redirect(policy: ExpressionRedirect, automata: Automata) -> Filter:
    """Make the filter. Neither host nor query of the answer is made of what an expression matched. Raises as the other."""
    make = _compile_path(policy.expression, policy.path, automata)
    origin = policy.origin

    def redirect(request: Request) -> Answer | None:
        made = make(request)
        if isinstance(made, Answer):
            return made
        location = origin + made + request.target[len(request.path) :]
        return expression_redirect(location)

    return redirect


def _compile_path(expression: str, parts: Sequence[str | int], automata: Automata) -> _Make:
    if all(isinstance(part, str) for part in parts):
        fixed = "/" + "".join(map(str, parts)).lstrip("/")
        return lambda _: fixed
    check_expression(expression)
    compiled = automata.expression(expression)
    wanted = tuple(parts)
    directory = _directory(wanted)

    def make(request: Request) -> str | Answer:
        path = request.path
        plain = is_plain(path)
        matched = path if plain else decoded_path(path)
        try:
            spans = compiled.groups(matched.encode("latin-1"))
        except MatchFailedError:
            spans = None
        if spans is None:
            # The table found that it matches: that is no answer to rely on.
            return EXPRESSIONS_FAILED
        made = ""
        for part in wanted:
            if isinstance(part, str):
                made += part
            elif part < len(spans):
                begin, end = spans[part]
                # A group that took no part lies at (-1, -1).
                made += matched[begin:end] if begin >= 0 else ""
        if not made.startswith("/") or made.startswith("//"):
            made = "/" + made.lstrip("/")
        if not is_plain(made) and _NO_PATH.search(made.replace("\\", "/")) is not None:
            return REWRITTEN_PATH
        sent = _ENCODED.sub(_encode, made)
        if plain or not directory:
            return sent
        variants = readings(sent)
        if variants is None or not all(lies_under(variant, directory) for variant in variants):
            return AMBIGUOUS_PATH
        return sent

    return make


def _encode(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"


def _directory(parts: Sequence[str | int]) -> str:
    """Return what the path lies under whatever the groups are, without its trailing slash."""
    first = parts[0]
    directory = first[: first.rfind("/")].strip("/") if isinstance(first, str) and "/" in first else ""
    return "/" + directory if directory else ""
