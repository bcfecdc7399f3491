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
from proxy.model.precedence import route_order
from proxy.routing.hosts import wildcard_of
from proxy.routing.paths import is_plain, readings

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


class Entry(NamedTuple, Generic[T]):
    """A route and what stands for it in the table."""

    route: Route
    payload: T


class BadPatternError(ValueError):
    """A regular expression that the engine refuses; the message is the engine's."""


class Pattern(Protocol):
    """A compiled regular expression."""

    def fullmatch(self, text: str, /) -> object:
        """Match the whole text."""
        ...


def compile_pattern(pattern: str) -> Pattern:
    """Compile a user's regular expression with the linear-time engine; raises `BadPatternError`."""
    options = re2.Options()
    options.log_errors = False
    try:
        compiled: Pattern = re2.compile(pattern, options)
    except re2.error as error:
        raise BadPatternError(str(error)) from None
    return compiled


Found = tuple[tuple[Conditions, T], ...]
"""The entries of one path, in the order in which their conditions are tried."""


_NO_PATHS: Final[dict[str, Any]] = {}


class _Paths(Generic[T]):
    """The paths of one host, for one kind of request."""

    __slots__ = ("exact", "longest", "prefixes", "regexes")

    def __init__(self, ordered: Sequence[Entry[T]]) -> None:
        paths: dict[str, dict[str, list[tuple[Conditions, T]]]] = {"exact": {}, "prefix": {}, "regex": {}}
        for route, payload in ordered:
            paths[route.path.kind].setdefault(_key(route.path), []).append((route.conditions, payload))
        self.exact: dict[str, Found[T]] = _fixed(paths["exact"])
        self.prefixes: dict[str, Found[T]] = _fixed(paths["prefix"])
        self.longest = max(map(len, self.prefixes), default=0)
        """Characters of the longest prefix. To look up longer beginnings of a path too takes time that grows with its square."""
        self.regexes: tuple[tuple[Pattern, Found[T]], ...] = tuple(
            [
                (compile_pattern(pattern), tuple(found))
                for pattern, found in sorted(paths["regex"].items(), key=lambda item: (-len(item[0]), item[0]))
            ]
        )

    def find(self, path: str, subject: Subject) -> T | None:
        """Find the first entry whose path and conditions hold: Exact, then the longest Prefix, then Regex by length."""
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


_NOTHING: Final[_Paths[Any]] = _Paths(())


def _key(path: Path) -> str:
    return path.value.rstrip("/") if path.kind == "prefix" else path.value


def _first(found: Found[T], subject: Subject) -> T | None:
    for conditions, payload in found:
        if conditions is _NONE or not conditions.count or _hold(conditions, subject):
            return payload
    return None


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

    def __init__(self, entries: list[Entry[T]]) -> None:
        self.routes = tuple(entries)
        self.http, self.upgrades = _by_kind([entry for entry in entries if not entry.route.fallback])
        self.fallback_http, self.fallback_upgrades = _by_kind([entry for entry in entries if entry.route.fallback])


def _by_kind(entries: list[Entry[T]]) -> tuple[_Paths[T], _Paths[T]]:
    """Return the paths for requests, and those for upgrades."""
    if not entries:
        return _NOTHING, _NOTHING
    http = [e for e in entries if e.route.http is not None or e.route.fault]
    http.sort(key=lambda entry: route_order(entry.route, upgrade=False))
    upgrades = [e for e in entries if e.route.websocket is not None or e.route.fault]
    upgrades.sort(key=lambda entry: route_order(entry.route, upgrade=True))
    paths = _Paths(http)
    # Where all routes serve both, and in the same order, one look-up serves both too.
    return paths, paths if _same(http, upgrades) else _Paths(upgrades)


def _same(first: Sequence[Entry[T]], second: Sequence[Entry[T]]) -> bool:
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))


class Table(Generic[T]):
    """All hosts. Begins as `empty_table`; `with_changes` makes the next one."""

    __slots__ = ("_hosts",)

    def __init__(self, hosts: Mapping[str, _Host[T]]) -> None:
        self._hosts = hosts

    def match(self, host: str, path: str, upgrade: bool, subject: Subject) -> T | NoMatch:  # noqa: FBT001  hot path
        """Find what serves a request. `host` is normalised; `path` is the client's own."""
        if is_plain(path):
            return self._match(host, path, upgrade, subject)
        variants = readings(path)
        if variants is None:
            return NoMatch.BAD_PATH
        result = self._match(host, variants[0], upgrade, subject)
        for variant in variants[1:]:
            if self._match(host, variant, upgrade, subject) is not result:
                return NoMatch.BAD_PATH
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
                hosts[host] = _Host(found)
            else:
                hosts.pop(host, None)
        return Table(hosts)


def empty_table() -> "Table[T]":
    """Return a table that serves nothing."""
    return Table({})
