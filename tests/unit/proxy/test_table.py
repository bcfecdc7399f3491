"""Matching, held to a naive oracle written from the spec's six rules."""

import itertools
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.model.config import Conditions, Origin, Pair, Path, PathKind, Route, Share, Target
from proxy.routing.hosts import normalise_host
from proxy.routing.paths import is_plain, path_problem, readings
from proxy.routing.table import Entry, NoMatch, Table, empty_table

TARGET = Target((Share("a/b:1"),))


class Subject(NamedTuple):
    headers: dict[str, str]
    query: str = ""

    def values(self, name: str) -> Sequence[str]:
        return [self.headers[name]] if name in self.headers else []

    def subprotocols(self) -> Sequence[str]:
        return []


PLAIN = Subject({})


def make_route(
    host: str,
    path: str,
    number: int = 0,
    *,
    kind: PathKind = "prefix",
    origin: Origin = "wsroute",
    websocket: bool = True,
    http: bool = True,
    headers: tuple[Pair, ...] = (),
    fallback: bool = False,
) -> Route:
    return Route(
        id=f"{origin}/n/r{number}",
        origin=origin,
        namespace="n",
        name=f"r{number:03}",
        created="",
        index=0,
        hosts=(host,),
        path=Path(kind, path),
        conditions=Conditions(headers=headers),
        websocket=TARGET if websocket else None,
        http=TARGET if http else None,
        fallback=fallback,
    )


def table_of(*routes: Route) -> Table[str]:
    hosts: dict[str, list[Entry[str]]] = {}
    for route in routes:
        for host in route.hosts:
            hosts.setdefault(host, []).append(Entry(route, route.id))
    empty: Table[str] = empty_table()
    return empty.with_changes(hosts, hosts)


def covers(pattern: str, host: str) -> int:
    if pattern == host:
        return 2
    return 1 if pattern.startswith("*.") and host.partition(".")[2] == pattern[2:] and host.partition(".")[0] else 0


def path_rank(path: Path, text: str) -> tuple[int, int] | None:
    if path.kind == "exact":
        return (2, 0) if path.value == text else None
    if path.kind == "prefix":
        prefix = path.value.rstrip("/")
        return (1, len(prefix)) if text == prefix or text.startswith(prefix + "/") else None
    return (0, len(path.value)) if re2.fullmatch(path.value, text) else None


def oracle(routes: list[Route], host: str, text: str, *, upgrade: bool, subject: Subject) -> str | NoMatch:
    """Look at every route, as the spec's text says."""
    level = max((covers(route.hosts[0], host) if route.hosts[0] else 0 for route in routes), default=0)
    here = [route for route in routes if (covers(route.hosts[0], host) == level if level else route.hosts[0] == "")]

    owned = [route for route in here if not route.fallback]

    def best(candidates: list[Route], *, kind: bool) -> Route | None:
        found = []
        for route in candidates:
            rank = path_rank(route.path, text)
            target = route.websocket if kind else route.http
            if rank and target and all(subject.headers.get(pair.name) == pair.value for pair in route.conditions.headers):
                beaten = kind and route.origin == "ingress"
                value = route.path.value if route.path.kind == "regex" else ""
                found.append(((-rank[0], -rank[1], value, -route.conditions.count, beaten, route.name), route))
        return min(found, key=lambda pair: pair[0])[1] if found else None

    winner = best(owned, kind=upgrade)
    if winner is None and not upgrade and best(owned, kind=True) is not None:
        return NoMatch.UPGRADE_REQUIRED
    winner = winner or best([route for route in here if route.fallback], kind=upgrade)
    return winner.id if winner else NoMatch.NOT_FOUND


HOSTS = ["a.test", "b.test", "x.a.test", "*.test", "*.a.test", ""]
PATHS = ["/", "/a", "/a/b", "/ab", "/a/b/c"]
ROUTES = st.lists(
    st.tuples(
        st.sampled_from(HOSTS),
        st.one_of(
            st.tuples(st.sampled_from(["prefix", "exact"]), st.sampled_from(PATHS)),
            st.tuples(st.just("regex"), st.sampled_from(["/a.*", "/[ab]", "/a/b/.+"])),
        ),
        st.sampled_from(["wsroute", "ingress"]),
        st.sampled_from([(True, True), (True, False), (False, True)]),
        st.sampled_from([(), (Pair("x", "1"),), (Pair("x", "1"), Pair("y", "2"))]),
        st.booleans(),
    ),
    max_size=8,
)


@given(
    ROUTES,
    st.sampled_from(["a.test", "b.test", "x.a.test", "y.a.test", "test", "q.w.test", "other"]),
    st.sampled_from([*PATHS, "/a/", "/abc", "/a/b/c/d", "/z"]),
    st.booleans(),
    st.sampled_from([{}, {"x": "1"}, {"x": "1", "y": "2"}]),
)
def test_match_agrees_with_the_oracle(rows: list, host: str, path: str, upgrade: bool, headers: dict[str, str]) -> None:  # type: ignore[type-arg]
    routes = [
        make_route(
            where,
            text,
            number,
            kind=kind,
            origin=origin,
            websocket=ws,
            http=http,
            headers=pairs,
            fallback=fallback,
        )
        for number, (where, (kind, text), origin, (ws, http), pairs, fallback) in enumerate(rows)
    ]
    subject = Subject(headers)

    assert table_of(*routes).match(host, path, upgrade, subject) == oracle(routes, host, path, upgrade=upgrade, subject=subject)


@pytest.mark.slow
def test_same_verdicts_with_ten_and_ten_thousand_hosts() -> None:
    few = [make_route(f"h{n}.test", "/a", n) for n in range(10)]
    many = few + [make_route(f"h{n}.test", "/a", n) for n in range(10, 10_000)]
    for host in ("h3.test", "h9.test", "none.example"):
        for path in ("/a", "/a/b", "/ab", "/a%2fb", "/%61", "/b/../a"):
            assert table_of(*few).match(host, path, False, PLAIN) == table_of(*many).match(host, path, False, PLAIN)


def test_changed_host_leaves_the_others_shared() -> None:
    first = table_of(make_route("a.test", "/", 1), make_route("b.test", "/", 2))
    changed = make_route("b.test", "/new", 2)

    second = first.with_changes(["b.test"], {"b.test": [Entry(changed, changed.id)]})

    assert second._hosts["a.test"] is first._hosts["a.test"]
    assert second.match("b.test", "/", False, PLAIN) is NoMatch.NOT_FOUND
    assert first.match("b.test", "/", False, PLAIN) == "wsroute/n/r2"


@pytest.mark.parametrize(
    "path",
    ["/public/../admin", "/public/%2e%2e/admin", "//admin", "/./admin", "/admin;x=1", "/%61dmin/../admin", "/public/..;/admin"],
)
def test_path_that_another_reading_sends_to_another_route_is_refused_or_agrees(path: str) -> None:
    table = table_of(make_route("a.test", "/", 1), make_route("a.test", "/admin", 2), make_route("a.test", "/public", 3))
    found = table.match("a.test", path, False, PLAIN)

    assert found in (NoMatch.BAD_PATH, "wsroute/n/r2")
    assert not is_plain(path)


@given(st.text(alphabet="/.%25ef;\\a", max_size=12) | st.text(alphabet="cef80159a%", max_size=18))
def test_readings_never_fail_and_begin_with_a_slash(text: str) -> None:
    found = readings("/" + text)

    assert found is None or all(reading.startswith("/") for reading in found)
    assert (found is None) == bool(path_problem("/" + text))


TOKENS = (
    *("/", "//", "public", "admin", "a", "..", ".", ";x", "%2e", "%2E%2e", "%2f", "%5c", "%3b", "%25"),
    *("%252e", "%252f", "%255c", "%253b", "%c0%ae", "%c0%af", "%c1%9c", "%25c0%25ae", "%e0%80%af", "%C3%A9", "%61dmin"),
)


def percent_decoded(path: bytes) -> bytes:
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes.fromhex(match[1].decode()), path)


def carelessly_decoded(path: bytes) -> bytes:
    """UTF-8 as who looks at lengths only reads it, where the result is ASCII."""
    for length, lead in ((2, 0xC0), (3, 0xE0), (4, 0xF0)):
        for at in range(len(path) - length, -1, -1):
            sequence = path[at : at + length]
            bits = {2: 0xE0, 3: 0xF0, 4: 0xF8}[length]
            if sequence[0] & bits == lead and all(byte & 0xC0 == 0x80 for byte in sequence[1:]):
                code = sequence[0] & ~bits & 0xFF
                for byte in sequence[1:]:
                    code = code << 6 | byte & 0x3F
                if code < 128:
                    path = path[:at] + bytes([code]) + path[at + length :]
    return path


STEPS = {
    "percent": percent_decoded,
    "careless": lambda path: carelessly_decoded(percent_decoded(path)),
    "twice": lambda path: percent_decoded(percent_decoded(path)),
    "careless twice": lambda path: carelessly_decoded(percent_decoded(carelessly_decoded(percent_decoded(path)))),
}


def first_segment(path: bytes, *, merged: bool, windows: bool, servlet: bool) -> bytes:
    """What a backend takes for the first segment."""
    if windows:
        path = path.replace(b"\\", b"/")
    if servlet:
        path = re.sub(rb";[^/]*", b"", path)
    if merged:
        path = re.sub(rb"/+", b"/", path)
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            kept = kept[:-1]
        elif segment != b".":
            kept.append(segment)
    return kept[0] if kept else b""


@pytest.mark.slow
@given(st.lists(st.sampled_from(TOKENS), max_size=9).map(lambda tokens: "/" + "".join(tokens)))
@settings(max_examples=1000, deadline=None)
def test_route_that_is_chosen_is_that_of_every_backend_that_reads_the_path_in_its_own_way(path: str) -> None:
    table = table_of(make_route("a.test", "/", 1), make_route("a.test", "/admin", 2), make_route("a.test", "/public", 3))
    chosen = table.match("a.test", path, False, PLAIN)
    if chosen is NoMatch.BAD_PATH:
        return
    wanted = {b"admin": "wsroute/n/r2", b"public": "wsroute/n/r3"}
    for name, decode in STEPS.items():
        for merged, windows, servlet in itertools.product((False, True), repeat=3):
            first = first_segment(decode(path.encode("latin-1")), merged=merged, windows=windows, servlet=servlet)
            assert wanted.get(first, "wsroute/n/r1") == chosen, (name, merged, windows, servlet, first)


LONGEST = 15_000


@pytest.mark.parametrize(
    "path",
    ["/a" * (LONGEST // 2), "/%2e;b//c/%2541/." + "/a" * (LONGEST // 2), "/a;" * (LONGEST // 3) + "/.%2e", "/%2f" * (LONGEST // 4)],
    ids=["many segments", "many segments, many readings", "parameters", "encoded slashes"],
)
def test_look_up_of_a_path_takes_time_that_grows_with_its_length(path: str) -> None:
    """Not with the square of it, in each of its readings: 16 such requests at once held a worker for 10 s."""
    table = table_of(make_route("a.test", "/none"))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        table.match("a.test", path, upgrade=False, subject=PLAIN)
        seconds.append(time.perf_counter() - start)

    assert min(seconds) < 0.04


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("a.test", "a.test"),
        ("A.Test.:8080", "a.test"),
        ("a.test:", "a.test"),
        ("[::1]:80", "[::1]"),
        ("[0:0::1]", "[::1]"),
        ("127.0.0.1:1", "127.0.0.1"),
        ("a..b", None),
        ("a b", None),
        ("a:b:c", None),
        ("u@a", None),
        ("", None),
        ("a:65536", None),
        ("[::1", None),
        (".a", None),
    ],
)
def test_hosts_are_normalised_or_refused(authority: str, host: str | None) -> None:
    assert normalise_host(authority) == host
