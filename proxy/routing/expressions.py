"""The path expressions of one host: which of them is the first to match, and what its groups are.

All are tried at once where RE2 can do that without its automaton growing with every path, one by one otherwise. What is compiled
belongs to a worker's `Automata`, which bounds what all of it takes, and is made when it is first needed. A match says that it
could not be made, as a request must never go to the route of an expression that was not tried.
"""

import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import re2

from proxy.model.expression import MOST_BYTES, NO_SPAN, compile_expression, expression_options, match_groups

# See `proxy.model.expression`.
_RE2: Any = re2._re2.RE2  # noqa: SLF001
_BOTH: Final = _RE2.Anchor.ANCHOR_BOTH

MOST_MEMORY: Final = 64 * 1024 * 1024
"""Bytes that all compiled expressions of a worker may take, with the states that paths make their automata cache."""
_SINGLE_BYTES: Final = 1 << 14
_PATTERN_BYTES: Final = (1 << 16, 1 << 20, 1 << 23)
_LEAST_SET_BYTES: Final = 1 << 16
_MOST_SET_BYTES: Final = 1 << 22
_BYTES_FOR_CHARACTER: Final = 128
"""A character is an instruction or two of 16 bytes; the rest is for states, of which a small part is ever seen."""
_SET_CHARACTERS: Final = 8192
"""Of the expressions that are tried at once; what a host has beyond that is the next set."""

# A repetition with more behind it may end at many places of a path, and every combination of those over several expressions is a
# state of its own; but for that of a class up to the next slash, as `[^/]+/`.
_FLOATING = re.compile(r"(?:[.)][*+]|(?:\]|\\[A-Za-z])[*+](?!\)*\(?/))(?![)$?*+]*$)")
_GROUP = re.compile(r"\([^()]*\)")
_LITERAL = re.compile(r"[^\\.\[\](){}*+?|^$]*")
_MOST_FLOATING = 4
"""Floating expressions that may be tried at once where a path that begins as one does may be the others', too."""


class MatchFailedError(Exception):
    """RE2 had no memory to match with; whether the path matches is not known."""


def order_expressions(texts: Iterable[str]) -> list[str]:
    """Return expressions in the order in which they are tried: the longest in bytes first, then the greater (ingress-nginx)."""
    return sorted(texts, key=lambda text: (len(text.encode()), text), reverse=True)


class Automata:
    """What a worker has compiled of expressions. Makes room by dropping what was not used lately, which is compiled again."""

    __slots__ = ("_live", "_patterns", "_sets", "_singles", "most", "spent")

    def __init__(self, most: int = MOST_MEMORY) -> None:
        self.most = most
        self.spent = 0
        """Bytes that what is compiled may take at most."""
        self._live: dict[weakref.ref[_Automaton], int] = {}
        self._sets: weakref.WeakValueDictionary[tuple[str, ...], ExpressionSet] = weakref.WeakValueDictionary()
        self._singles: weakref.WeakValueDictionary[str, Expression] = weakref.WeakValueDictionary()
        self._patterns: weakref.WeakValueDictionary[str, Pattern] = weakref.WeakValueDictionary()

    def expression(self, text: str) -> "Expression":
        """Return the one of a text, compiled or not."""
        found = self._singles.get(text)
        if found is None:
            found = self._singles[text] = Expression(self, text)
        return found

    def expression_set(self, texts: tuple[str, ...]) -> "ExpressionSet":
        """Return the set of texts, compiled or not: one that another table has, too, stays as it is."""
        found = self._sets.get(texts)
        if found is None:
            found = self._sets[texts] = ExpressionSet(self, texts)
        return found

    def pattern(self, text: str) -> "Pattern":
        """Return the one of a text, compiled or not."""
        found = self._patterns.get(text)
        if found is None:
            found = self._patterns[text] = Pattern(self, text)
        return found

    def admit(self, one: "_Automaton", size: int) -> None:
        """Make room for what takes `size` bytes at most, and let it have them."""
        live = self._live
        self.release(one)
        # An automaton that was used since the last time gets another round; after one round none was.
        while live and self.spent + size > self.most:
            reference = next(iter(live))
            oldest, taken = reference(), live.pop(reference)
            if oldest is not None and oldest.used:
                oldest.used = False
                live[reference] = taken
                continue
            self.spent -= taken
            if oldest is not None:
                oldest.drop()
        live[weakref.ref(one, self._forget)] = size
        self.spent += size

    def release(self, one: "_Automaton") -> None:
        """Take back what was admitted, if it was."""
        self._forget(weakref.ref(one))

    def _forget(self, reference: "weakref.ref[_Automaton]") -> None:
        self.spent -= self._live.pop(reference, 0)


class _Automaton:
    """Something compiled, or yet to be."""

    __slots__ = ("__weakref__", "_automata", "_compiled", "used")

    def __init__(self, automata: Automata) -> None:
        self._automata = automata
        self._compiled: Any = None
        self.used = False
        """Since room was last made."""

    def drop(self) -> None:
        """Drop the compiled automaton; the next match compiles it again."""
        self._compiled = None

    def _compile(self, sizes: Iterable[int], compile_with: Callable[[int], Any]) -> Any:
        """Compile with the first size that is enough; None: none is."""
        for size in sizes:
            self._automata.admit(self, size)
            compiled = compile_with(size)
            if compiled is not None:
                self._compiled = compiled
                return compiled
        self._automata.release(self)
        return None


class Expression(_Automaton):
    """One expression, and where its groups lie."""

    __slots__ = ("_text",)

    def __init__(self, automata: Automata, text: str) -> None:
        super().__init__(automata)
        self._text = text

    def groups(self, path: bytes) -> "list[tuple[int, int]] | None":
        """See `match_groups`. RE2 falls back to what needs no memory for states. Raises `MatchFailedError`."""
        compiled = self._compiled
        if compiled is None:
            compiled = self._compile((_SINGLE_BYTES, MOST_BYTES), self._compile_with)
            if compiled is None:
                raise MatchFailedError
        self.used = True
        return match_groups(compiled, path)

    def _compile_with(self, size: int) -> Any:
        compiled = compile_expression(self._text, size)
        return compiled if compiled.ok() else None


class Pattern(_Automaton):
    """The pattern of a WsRoute: it matches a whole path, in its case, as characters."""

    __slots__ = ("_text",)

    def __init__(self, automata: Automata, text: str) -> None:
        super().__init__(automata)
        self._text = text.encode()

    def fullmatch(self, path: str) -> bool:
        """Match a whole path. Raises `MatchFailedError`."""
        compiled = self._compiled
        if compiled is None:
            compiled = self._compile(_PATTERN_BYTES, self._compile_with)
            if compiled is None:
                raise MatchFailedError
        self.used = True
        data = path.encode()
        return bool(compiled.Match(_BOTH, data, 0, len(data))[0] != NO_SPAN)

    def _compile_with(self, size: int) -> Any:
        options = re2.Options()
        options.log_errors = False
        options.max_mem = size
        compiled = _RE2(self._text, options)
        return compiled if compiled.ok() else None


class ExpressionSet(_Automaton):
    """Expressions that are tried at once. One that fits into no memory tries them one by one."""

    __slots__ = ("_one_by_one", "_texts")

    def __init__(self, automata: Automata, texts: tuple[str, ...]) -> None:
        super().__init__(automata)
        self._texts = texts
        self._one_by_one: tuple[Expression, ...] = ()

    def matching(self, path: bytes) -> Sequence[int]:
        """Return the numbers of those that match, in no order; the number of all is among them. Raises `MatchFailedError`."""
        compiled = self._compiled
        if compiled is None:
            if not self._one_by_one:
                texts = self._texts
                least = max(_LEAST_SET_BYTES, 1 << (_BYTES_FOR_CHARACTER * sum(map(len, texts))).bit_length())
                sizes = [size for size in (least, 2 * least, 4 * least) if size <= _MOST_SET_BYTES]
                compiled = self._compile(sizes, self._compile_with)
            if compiled is None:
                return self._try_each(path)
        self.used = True
        # The last one matches everything: where not even that does, RE2 had no memory for another state, and tells nobody.
        found: list[int] | None = compiled.Match(path)
        if not found:
            raise MatchFailedError
        return found

    def _compile_with(self, size: int) -> Any:
        compiled = re2.Set.MatchSet(expression_options(size))
        for text in self._texts:
            compiled.Add(text.encode())
        compiled.Add(b"")
        try:
            compiled.Compile()
        except re2.error:
            return None
        return compiled

    def _try_each(self, path: bytes) -> Sequence[int]:
        if not self._one_by_one:
            self._one_by_one = tuple(self._automata.expression(text) for text in self._texts)
        return [*(number for number, one in enumerate(self._one_by_one) if one.groups(path) is not None), len(self._texts)]


class Expressions:
    """The expressions of a host in the order in which they are tried, as `order_expressions` gives it."""

    __slots__ = ("_alone", "_sets", "count")

    def __init__(self, texts: Sequence[str], automata: Automata) -> None:
        self.count = len(texts)
        alone = _find_floating(texts)
        self._alone = tuple((number, automata.expression(texts[number])) for number in sorted(alone))
        self._sets = tuple(
            (numbers, automata.expression_set(tuple(texts[number] for number in numbers)))
            for numbers in _split([number for number in range(len(texts)) if number not in alone], texts)
        )

    def first(self, path: str) -> int:
        """Return the number of the first one that matches the beginning of a path; `count`: none does. Raises `MatchFailedError`.

        Each character of the path is a byte.
        """
        data = path.encode("latin-1")
        found = self.count
        for numbers, one in self._sets:
            number = min(one.matching(data))
            if number < len(numbers):
                found = numbers[number]
                break
        for number, single in self._alone:
            if number > found:
                break
            if single.groups(data) is not None:
                return number
        return found

    def matching(self, path: str) -> list[int]:
        """Return the numbers of all that match, in order: for a path that the first one may not have."""
        data = path.encode("latin-1")
        found = [number for number, single in self._alone if single.groups(data) is not None]
        for numbers, one in self._sets:
            found += [numbers[number] for number in one.matching(data) if number < len(numbers)]
        return sorted(found)


def _find_floating(texts: Sequence[str]) -> set[int]:
    """Return the numbers of those that would make a set's automaton grow with every path."""
    alone: set[int] = set()
    beginnings: dict[int, str] = {}
    for number, text in enumerate(texts):
        if _FLOATING.search(text) is not None:
            if "{" in text:
                alone.add(number)
            else:
                beginnings[number] = _beginning(text)
    while beginnings:
        same = Counter(beginnings.values())
        in_the_way: set[str] = set()
        for beginning in same:
            leading = [end for end in range(len(beginning) + 1) if beginning[:end] in same]
            if sum(same[beginning[:end]] for end in leading) > _MOST_FLOATING:
                in_the_way.add(beginning[: leading[0]])
        if not in_the_way:
            break
        alone.update(number for number, beginning in beginnings.items() if beginning in in_the_way)
        beginnings = {number: beginning for number, beginning in beginnings.items() if beginning not in in_the_way}
    return alone


def _beginning(text: str) -> str:
    """Return what every path that an expression matches begins with, as far as that is easily told."""
    outside, before = text, ""
    while outside != before:
        outside, before = _GROUP.sub("", outside), outside
    if "|" in outside:
        return ""
    literal = _LITERAL.match(text)
    end = 0 if literal is None else literal.end()
    if text[end : end + 1] in ("*", "+", "?", "{"):
        end -= 1
    return text[: max(end, 0)].lower()


def _split(numbers: Sequence[int], texts: Sequence[str]) -> Iterable[tuple[int, ...]]:
    """Split into sets of a size that compiles."""
    part: list[int] = []
    size = 0
    for number in numbers:
        if part and size + len(texts[number]) > _SET_CHARACTERS:
            yield tuple(part)
            part, size = [], 0
        part.append(number)
        size += len(texts[number])
    if part:
        yield tuple(part)
