"""The dialect of path expressions: the same for the controller, which checks them, and the proxy, which matches by them.

RE2 over bytes: `.` and a class take one byte, and letters of ASCII match in either case, as PCRE without UTF does in nginx.
"""

import re
from functools import lru_cache
from typing import Any, Final

import re2

# The public compile keeps what it makes, each with the memory of its states, unbounded, and its match makes a generator
# and an object for each path. `tests/unit/proxy/test_expressions.py` holds what is used of the private class to them.
_RE2: Any = re2._re2.RE2  # noqa: SLF001
_START: Final = _RE2.Anchor.ANCHOR_START
NO_SPAN: Final = (-1, -1)
"""Where a group lies that took no part in a match."""
MOST_INSTRUCTIONS: Final = 1000
"""Size of a compiled expression, in RE2's instructions: about one for each character, times what counted repetition makes of it."""
MOST_BYTES: Final = 1 << 18
"""Memory for an expression of that size: a quarter of two thirds of it is for the program, 16 bytes for each instruction."""


_TAKEN: Final = (
    "a regular expression without lookaround, back-references, atomic groups and possessive repetition, as RE2 takes them, "
    "would be accepted."
)
_PLAIN: Final = re.compile(rf"[^\\\[\](){{}}*+?|^$]{{0,{MOST_INSTRUCTIONS * 4 // 5}}}", re.ASCII)
"""What surely compiles: most paths of a host whose paths are expressions."""


class BadExpressionError(ValueError):
    """An expression that is not served; the message is what follows "which": why, and what would be accepted."""


@lru_cache(maxsize=32)
def expression_options(memory: int) -> Any:
    """Return RE2's options for expressions that may take `memory` bytes with everything that matching caches."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = memory
    return options


def compile_expression(text: str, memory: int) -> Any:
    """Compile an expression; `ok()` of the result says whether RE2 took it, `error()` why not."""
    return _RE2(text.encode(), expression_options(memory))


def match_groups(compiled: Any, path: bytes) -> "list[tuple[int, int]] | None":
    """Match the beginning of a path; return where the match and each group lies, `NO_SPAN` for one that took no part."""
    spans: list[tuple[int, int]] = compiled.Match(_START, path, 0, len(path))
    return spans if spans[0] != NO_SPAN else None


def check_expression(text: str) -> None:
    """Compile an expression, if only by a look at it; raises `BadExpressionError`."""
    if text.isascii() and _PLAIN.fullmatch(text) is not None:
        return
    compiled = compile_expression(text, MOST_BYTES)
    if not compiled.ok():
        said = compiled.error().decode("utf-8", "replace")
        if said.startswith("pattern too large"):
            raise BadExpressionError(_too_large(f"more than {MOST_INSTRUCTIONS}"))
        raise BadExpressionError(f"RE2 does not take ({said}); {_TAKEN}")
    if compiled.ProgramSize() > MOST_INSTRUCTIONS:
        raise BadExpressionError(_too_large(str(compiled.ProgramSize())))


def count_groups(text: str) -> int:
    """Return how many groups an expression that compiles has."""
    groups: int = compile_expression(text, MOST_BYTES).NumberOfCapturingGroups()
    return groups


def _too_large(size: str) -> str:
    return f"compiles to {size} instructions of RE2; a regular expression of at most {MOST_INSTRUCTIONS} would be accepted."
