# Compiled by mypyc: see setup.py.
"""The routing table: host, then path, then conditions (docs/wsroute.md, 'What is matched, and who wins').

Pure and immutable. Every look-up is by dictionary, so that ten thousand hosts cost what ten do; a table that is compiled with
its predecessor shares the parts of hosts that did not change.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import re2

from proxy.model.config import Conditions, Path, Route
from proxy.model.route_order import route_order
from proxy.routing.expressions import Automata, Expressions, MatchFailedError, Pattern, order_expressions
from proxy.routing.hosts import wildcard_of
from proxy.routing.paths import decode_unwritable, decoded_path, is_plain, readings

T = TypeVar("T")


class Subject(Protocol):
    """A request, as far as conditions look at it."""

    query: str

    def values(self, name: str) -> Sequence[str]:
        """Return the values of a field by its lower-case name."""
        ...

    def subprotocols(self) -> Sequence[str]:
        """Return the subprotocols offered."""
        ...


class NoMatch(enum.Enum):
    """Why no route serves a request."""

    NOT_FOUND = 404
    UPGRADE_REQUIRED = 426
    """An ordinary request where only a WebSocket is served."""
    BAD_PATH = 400
    """The path's readings lead to different routes."""
    FAILED = 503
    """There was no memory to match an expression with, so that nobody knows whose the request is."""


class Entry(NamedTuple, Generic[T]):
    """A route and what stands for it in the table."""

    route: Route
    payload: T


class BadPatternError(ValueError):
    """A regular expression that the engine refuses; the message is the engine's."""


def check_pattern(pattern: str) -> None:
    """Compile a WsRoute's regular expression with the linear-time engine; raises `BadPatternError`."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        raise BadPatternError(str(error)) from None


Found = tuple[tuple[Conditions, T], ...]
"""The entries of one path, in the order in which their conditions are tried."""


_NO_PATHS: Final[dict[str, Any]] = {}


class _Paths(Generic[T]):
    """The paths of one host, for one kind of request."""

    __slots__ = ("exact", "longest", "mixed", "prefixes", "regexes")

    def __init__(self, ordered: Sequence[Entry[T]], automata: Automata) -> None:
        paths: dict[str, dict[str, list[tuple[Conditions, T]]]] = {"exact": {}, "prefix": {}, "regex": {}, "expression": {}}
        for route, payload in ordered:
            for key in _keys(route.path):
                paths[route.path.kind].setdefault(key, []).append((route.conditions, payload))
        self.exact: dict[str, Found[T]] = _fixed(paths["exact"])
        self.prefixes: dict[str, Found[T]] = _fixed(paths["prefix"])
        self.longest = max(map(len, self.prefixes), default=0)
        """Characters of the longest prefix. To look up longer beginnings of a path too takes time that grows with its square."""
        for pattern in paths["regex"]:
            check_pattern(pattern)
        self.regexes: tuple[tuple[Pattern, Found[T]], ...] = tuple(
            [
                (automata.pattern(pattern), tuple(found))
                for pattern, found in sorted(paths["regex"].items(), key=lambda item: (-len(item[0]), item[0]))
            ]
        )
        self.mixed: _MixedPaths[T] | None = _MixedPaths(ordered, automata) if paths["expression"] else None

    def find(self, path: str, subject: Subject) -> T | None:
        """Find the first entry whose path and conditions hold: Exact, then the longest Prefix, then Regex by length."""
        if self.mixed is not None:
            return self.mixed.find(path, subject)
        found = self.exact.get(path)
        if found is not None and (payload := _first(found, subject)) is not None:
            return payload
        prefixes = self.prefixes
        if prefixes:
            prefix = path if len(path) <= self.longest else path[: path.rfind("/", 0, self.longest + 1)]
            while True:
                found = prefixes.get(prefix)
                if found is not None and (payload := _first(found, subject)) is not None:
                    return payload
                if not prefix:
                    break
                prefix = prefix[: prefix.rfind("/")]
        for pattern, found in self.regexes:
            if pattern.fullmatch(path) and (payload := _first(found, subject)) is not None:
                return payload
        return None


def _fixed(paths: Mapping[str, list[tuple[Conditions, T]]]) -> dict[str, Found[T]]:
    """Return paths as they are looked up. Nearly all hosts have no exact path, so that those share one that is empty."""
    return {path: tuple(found) for path, found in paths.items()} if paths else _NO_PATHS


_NOTHING: Final[_Paths[Any]] = _Paths((), Automata(0))


def _keys(path: Path) -> Sequence[str]:
    """Return what a path is looked up by: as it is written, and decoded where that cannot be written, as of `/caf%C3%A9`."""
    key = path.value.rstrip("/") if path.kind == "prefix" else path.value
    if "%" in key and path.kind in ("exact", "prefix"):
        decoded = decode_unwritable(key)
        return (key, decoded_path(decoded)) if decoded != key else (key,)
    return (key,)


class _Candidate(Generic[T]):
    """A route of a host with expressions, under one of its paths."""

    __slots__ = ("conditions", "length", "namespace", "payload", "reserved")

    def __init__(self, route: Route, payload: T) -> None:
        self.conditions = route.conditions
        self.namespace = route.namespace
        self.payload = payload
        self.length = len(route.path.value.encode()) if route.path.kind != "exact" else _EXACT
        self.reserved = route.path.kind in ("exact", "prefix") and route.path.value != "/"
        """Expressions of other namespaces take nothing from it."""


_EXACT: Final = 1 << 30
"""Longer than any path: what is exact goes first."""


class _MixedPaths(Generic[T]):
    """The paths of one host of which some are expressions.

    Others keep their order among themselves: Exact, the longest Prefix, then Regex. The first of them that matches serves a request
    unless an expression is longer; one of another namespace takes nothing from an Exact or a Prefix but `/`.
    """

    __slots__ = ("_candidates", "_exact", "_expressions", "_longest", "_others", "_prefixes", "_regexes")

    def __init__(self, ordered: Sequence[Entry[T]], automata: Automata) -> None:
        kinds: dict[str, dict[str, list[_Candidate[T]]]] = {"exact": {}, "prefix": {}, "regex": {}, "expression": {}}
        for route, payload in ordered:
            candidate = _Candidate(route, payload)
            for key in _keys(route.path):
                kinds[route.path.kind].setdefault(key, []).append(candidate)
        self._exact = kinds["exact"]
        self._prefixes = kinds["prefix"]
        self._longest = max(map(len, self._prefixes), default=0)
        self._regexes = [
            (automata.pattern(pattern), found)
            for pattern, found in sorted(kinds["regex"].items(), key=lambda item: (-len(item[0]), item[0]))
        ]
        self._others = bool(self._exact or self._prefixes or self._regexes)
        texts = order_expressions(kinds["expression"])
        self._expressions = Expressions(texts, automata)
        self._candidates = [kinds["expression"][text] for text in texts]

    def find(self, path: str, subject: Subject) -> T | None:
        """Find who serves a path. Raises `MatchFailedError`."""
        # What requests must encode is matched decoded in every reading, as in nginx: no expression could have it otherwise.
        decoded = decode_unwritable(path)
        others = self._find_others(path, subject) if self._others else []
        if others and others[0].length == _EXACT:
            return others[0].payload
        if not others:
            number = self._expressions.first(decoded)
            if number == self._expressions.count:
                return None
            for candidate in self._candidates[number]:
                if _holds(candidate.conditions, subject):
                    return candidate.payload
        return self._find_expression(decoded, others, subject)

    def _find_expression(self, path: str, others: Sequence[_Candidate[T]], subject: Subject) -> T | None:
        """Find the first expression that may have a path beside `others`, which are in their order; else the first of those."""
        for number in self._expressions.matching(path):
            for candidate in self._candidates[number]:
                if others and others[0].length >= candidate.length:
                    return others[0].payload
                if _holds(candidate.conditions, subject) and not _is_reserved(others, candidate.namespace):
                    return candidate.payload
        return others[0].payload if others else None

    def _find_others(self, path: str, subject: Subject) -> list[_Candidate[T]]:
        """Find all that are no expressions, the first that holds first."""
        found = list(self._exact.get(path, ()))
        if self._prefixes:
            prefix = path if len(path) <= self._longest else path[: path.rfind("/", 0, self._longest + 1)]
            while True:
                found += self._prefixes.get(prefix, ())
                if not prefix:
                    break
                prefix = prefix[: prefix.rfind("/")]
        for pattern, candidates in self._regexes:
            if pattern.fullmatch(path):
                found += candidates
        return [candidate for candidate in found if _holds(candidate.conditions, subject)]


def _is_reserved(others: Sequence[_Candidate[Any]], namespace: str) -> bool:
    """Tell whether an object of another namespace matches by a path of which expressions of `namespace` take nothing."""
    return any(candidate.reserved and candidate.namespace != namespace for candidate in others)


def _first(found: Found[T], subject: Subject) -> T | None:
    for conditions, payload in found:
        if conditions is _NONE or not conditions.count or _hold(conditions, subject):
            return payload
    return None


def _holds(conditions: Conditions, subject: Subject) -> bool:
    return conditions is _NONE or not conditions.count or _hold(conditions, subject)


_NONE: Final = Conditions()


def _hold(conditions: Conditions, subject: Subject) -> bool:
    for header in conditions.headers:
        if header.value not in subject.values(header.name):
            return False
    if conditions.query:
        pairs = subject.query.split("&")
        if any(f"{wanted.name}={wanted.value}" not in pairs for wanted in conditions.query):
            return False
    return not conditions.subprotocols or not set(conditions.subprotocols).isdisjoint(subject.subprotocols())


class _Host(Generic[T]):
    """Everything that one host name serves."""

    __slots__ = ("fallback_http", "fallback_upgrades", "http", "routes", "upgrades")

    def __init__(self, entries: list[Entry[T]], automata: Automata) -> None:
        self.routes = tuple(entries)
        fallbacks = [entry for entry in entries if entry.route.fallback]
        self.http, self.upgrades = _by_kind([entry for entry in entries if not entry.route.fallback], automata)
        self.fallback_http, self.fallback_upgrades = _by_kind(fallbacks, automata)


def _by_kind(entries: list[Entry[T]], automata: Automata) -> tuple[_Paths[T], _Paths[T]]:
    """Return the paths for requests, and those for upgrades."""
    if not entries:
        return _NOTHING, _NOTHING
    http = [e for e in entries if e.route.http is not None or e.route.fault]
    http.sort(key=lambda entry: route_order(entry.route, upgrade=False))
    upgrades = [e for e in entries if e.route.websocket is not None or e.route.fault]
    upgrades.sort(key=lambda entry: route_order(entry.route, upgrade=True))
    paths = _Paths(http, automata)
    # Where all routes serve both, and in the same order, one look-up serves both too.
    return paths, paths if _same(http, upgrades) else _Paths(upgrades, automata)


def _same(first: Sequence[Entry[T]], second: Sequence[Entry[T]]) -> bool:
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))


class Table(Generic[T]):
    """All hosts. Begins as `empty_table`; `with_changes` makes the next one."""

    __slots__ = ("_automata", "_hosts")

    def __init__(self, hosts: Mapping[str, _Host[T]], automata: Automata) -> None:
        self._hosts = hosts
        self._automata = automata

    def match(self, host: str, path: str, upgrade: bool, subject: Subject) -> T | NoMatch:  # noqa: FBT001  hot path
        """Find what serves a request. `host` is normalised; `path` is the client's own."""
        try:
            if is_plain(path):
                return self._match(host, path, upgrade, subject)
            variants = readings(path)
            if variants is None:
                return NoMatch.BAD_PATH
            result = self._match(host, variants[0], upgrade, subject)
            for variant in variants[1:]:
                if self._match(host, variant, upgrade, subject) is not result:
                    return NoMatch.BAD_PATH
        except MatchFailedError:
            return NoMatch.FAILED
        return result

    def _match(self, host: str, path: str, upgrade: bool, subject: Subject) -> T | NoMatch:  # noqa: FBT001  hot path
        hosts = self._hosts
        # Rule 4: the most specific host that is known owns the name.
        found = hosts.get(host) or hosts.get(wildcard_of(host)) or hosts.get("")
        if found is None:
            return NoMatch.NOT_FOUND
        payload = (found.upgrades if upgrade else found.http).find(path, subject)
        if payload is not None:
            return payload
        if not upgrade and found.upgrades.find(path, subject) is not None:
            return NoMatch.UPGRADE_REQUIRED
        payload = (found.fallback_upgrades if upgrade else found.fallback_http).find(path, subject)
        return NoMatch.NOT_FOUND if payload is None else payload

    def routes(self, host: str) -> Sequence[Entry[T]]:
        """Return everything that stands under a host."""
        found = self._hosts.get(host)
        return found.routes if found is not None else ()

    def with_changes(self, touched: Iterable[str], entries: Mapping[str, list[Entry[T]]]) -> "Table[T]":
        """Return a table in which the hosts `touched` have what `entries` says; all others are shared.

        Raises `BadPatternError`; nothing is changed then.
        """
        hosts = dict(self._hosts)
        for host in touched:
            found = entries.get(host)
            if found:
                hosts[host] = _Host(found, self._automata)
            else:
                hosts.pop(host, None)
        return Table(hosts, self._automata)


def empty_table(automata: Automata | None = None) -> "Table[T]":
    """Return a table that serves nothing. `automata`: where it and its successors have what they compile of expressions."""
    return Table({}, Automata() if automata is None else automata)
