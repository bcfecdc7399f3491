"""Path expressions: held to `re` by ingress-nginx's documented order, and bounded in memory whatever paths come."""

import gc
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path as File

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.model.config import Conditions, Origin, Path, PathKind, Route, Share, Target
from proxy.model.expression import MOST_INSTRUCTIONS, BadExpressionError, check_expression, expression_options
from proxy.routing import expressions
from proxy.routing.expressions import Automata, Expressions, MatchFailedError, order_expressions
from proxy.routing.table import Entry, NoMatch, Table, empty_table

MIB = 1024 * 1024
PARTS = ("/", "a", "B", "ab", ".", "[ab]", "[^/]+", ".*", "(a|b)", "(/|$)", "(.*)", "a?", "\\.", "b{1,2}", "é", "$", "(a(b)?)")
TEXTS = st.lists(st.sampled_from(PARTS), max_size=6).map(lambda parts: "/" + "".join(parts))
PATHS = st.lists(st.sampled_from(("/", "a", "b", "A", "ab", ".", "c", "\xc3\xa9", "é", "K")), max_size=8).map(
    lambda parts: "/" + "".join(parts)
)


def compiles(text: str) -> bool:
    try:
        re.compile(text.encode())
    except re.error:
        return False
    return True


def matched_by_re(text: str, path: str) -> "re.Match[bytes] | None":
    """As PCRE without UTF matches in nginx: bytes, letters of ASCII in either case, anchored in front, `$` at the end alone."""
    return re.compile(text.encode().replace(b"$", rb"\Z"), re.IGNORECASE).match(path.encode("latin-1"))


def first_by_re(texts: Sequence[str], path: str) -> str | None:
    """Sort as ingress-nginx does, by text and then by length, each stable; the first that matches."""
    ordered = sorted(sorted(texts, key=lambda text: text.encode(), reverse=True), key=lambda text: len(text.encode()), reverse=True)
    return next((text for text in ordered if matched_by_re(text, path)), None)


@given(st.lists(TEXTS.filter(compiles), min_size=1, max_size=12, unique=True), st.lists(PATHS, min_size=1, max_size=6))
@settings(deadline=None)
def test_first_expression_that_matches_is_the_one_of_the_oracle(texts: list[str], paths: list[str]) -> None:
    ordered = order_expressions(texts)
    found = Expressions(ordered, Automata())

    for path in paths:
        assert ([*ordered, None][found.first(path)], [ordered[number] for number in found.matching(path)]) == (
            first_by_re(texts, path),
            [text for text in ordered if matched_by_re(text, path)],
        )


@given(TEXTS.filter(compiles), PATHS)
@settings(deadline=None)
def test_groups_by_the_private_match_are_those_of_the_public_one(text: str, path: str) -> None:
    data = path.encode("latin-1")
    public = re2.compile(text.encode(), expression_options(MIB)).match(data)
    found = Automata().expression(text).groups(data)

    expected = None if public is None else [public.span(number) for number in range(public.re.groups + 1)]
    assert found == expected
    oracle = matched_by_re(text, path)
    assert (found is None) == (oracle is None)
    # Where a repetition may be empty, PCRE and RE2 differ in what its group matched last; the patterns here have none.
    if found is not None and oracle is not None:
        assert found == [oracle.span(number) for number in range(len(found))]


def make_route(number: int, kind: PathKind, value: str, namespace: str, origin: Origin) -> Route:
    target = Target((Share("a/b:1"),))
    return Route(
        id=f"{origin}/{namespace}/r{number}/0",
        origin=origin,
        namespace=namespace,
        name=f"r{number:03}",
        created="",
        index=0,
        hosts=("a.test",),
        path=Path(kind, value),
        conditions=Conditions(),
        websocket=target,
        http=target,
    )


def table_of(routes: Sequence[Route], automata: Automata | None = None) -> Table[str]:
    empty: Table[str] = empty_table(automata)
    return empty.with_changes(["a.test"], {"a.test": [Entry(route, route.id) for route in routes]})


class Plain:
    query = ""

    def values(self, _name: str) -> Sequence[str]:
        return ()

    def subprotocols(self) -> Sequence[str]:
        return ()


def literal_rank(path: Path, text: str) -> tuple[int, int] | None:
    """How a path that is no expression ranks among its like; None: it does not match."""
    if path.kind == "exact":
        return (0, 0) if path.value == text else None
    if path.kind == "prefix":
        prefix = path.value.rstrip("/")
        return (1, -len(prefix)) if text == prefix or text.startswith(prefix + "/") else None
    return (2, -len(path.value)) if re.fullmatch(path.value, text) else None


def served_by(routes: Sequence[Route], text: str, *, upgrade: bool) -> str | NoMatch:
    """Look at every route, as docs/ingress.md says."""

    def age(route: Route) -> tuple[bool, str, str, bool]:
        ingress = route.origin == "ingress"
        return (upgrade and ingress, route.namespace, route.name, ingress)

    literal = [route for route in routes if route.path.kind != "expression" and literal_rank(route.path, text) is not None]
    literal.sort(key=lambda route: (literal_rank(route.path, text), route.path.value, age(route)))
    best = literal[0] if literal else None
    found = [route for route in routes if route.path.kind == "expression" and matched_by_re(route.path.value, text)]
    found.sort(key=age)
    found.sort(key=lambda route: route.path.value.encode(), reverse=True)
    found.sort(key=lambda route: len(route.path.value.encode()), reverse=True)
    for route in found:
        if best is not None and (best.path.kind == "exact" or len(best.path.value) >= len(route.path.value.encode())):
            break
        if not any(
            other.namespace != route.namespace and other.path.kind in ("exact", "prefix") and other.path.value != "/"
            for other in literal
        ):
            return route.id
    return best.id if best is not None else NoMatch.NOT_FOUND


WHAT = st.one_of(
    st.tuples(st.just("expression"), st.sampled_from(["/", "/a", "/a.*", "/a/b", "/[ab]", "/a/(b|c)$", "/B"]), st.just("ingress")),
    st.tuples(
        st.sampled_from(["prefix", "exact"]), st.sampled_from(["/", "/a", "/a/b", "/ab"]), st.sampled_from(["ingress", "wsroute"])
    ),
    st.tuples(st.just("regex"), st.sampled_from(["/a.*", "/[ab]+", "/a/b/c"]), st.just("wsroute")),
)


@given(
    st.lists(st.tuples(WHAT, st.sampled_from(["x", "y", "z"])), min_size=1, max_size=9),
    st.sampled_from(["/", "/a", "/A", "/ab", "/a/b", "/a/b/c", "/b", "/B/c", "/c"]),
    st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_routes_of_a_host_with_expressions_are_found_in_the_order_of_the_oracle(rows: list, path: str, upgrade: bool) -> None:  # type: ignore[type-arg]
    routes = [make_route(number, kind, value, namespace, origin) for number, ((kind, value, origin), namespace) in enumerate(rows)]

    assert table_of(routes).match("a.test", path, upgrade, Plain()) == served_by(routes, path, upgrade=upgrade)


def test_set_that_does_not_compile_is_tried_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = order_expressions([f"/service{number}(/|$)(.*)" for number in range(50)])
    monkeypatch.setattr(expressions, "_LEAST_SET_BYTES", 1 << 10)
    monkeypatch.setattr(expressions, "_BYTES_FOR_CHARACTER", 1)
    monkeypatch.setattr(expressions, "_MOST_SET_BYTES", 1 << 11)
    automata = Automata()
    found = Expressions(texts, automata)

    paths = ["/service7/x", "/service49", "/service4", "/service", "/service7x"]
    assert [[*texts, None][found.first(path)] for path in paths] == [first_by_re(texts, path) for path in paths]
    # Each has its own now; nothing is charged for the set.
    assert automata.spent == 50 * (1 << 14)


class NoMemory:
    """A set without memory for another state: the binding drops RE2's error, and gives what it gives where nothing matches.

    No memory limit that a set compiles with brings RE2 there; only malloc can.
    """

    def Match(self, _path: bytes) -> None:  # noqa: N802  the binding's name
        return None


def test_match_that_fails_for_memory_is_said_and_is_not_no_match() -> None:
    automata = Automata()
    routes = [make_route(0, "expression", "/admin", "x", "ingress"), make_route(1, "expression", "/", "x", "ingress")]
    table = table_of(routes, automata)
    texts = tuple(order_expressions(["/admin", "/"]))
    automata.expression_set(texts)._compiled = NoMemory()

    with pytest.raises(MatchFailedError):
        Expressions(texts, automata).first("/admin")
    assert table.match("a.test", "/admin", upgrade=False, subject=Plain()) is NoMatch.FAILED
    assert table.match("a.test", "/%61dmin//x", upgrade=True, subject=Plain()) is NoMatch.FAILED


def test_all_automata_of_a_worker_stay_below_their_bound_and_right() -> None:
    automata = Automata(2 * MIB)
    hosts = [
        (texts, Expressions(texts, automata))
        for texts in (order_expressions([f"/host{host}/s{number}(/|$)(.*)" for number in range(40)]) for host in range(60))
    ]
    for _ in range(2):
        for host, (texts, found) in enumerate(hosts):
            path = f"/host{host}/s7/x"

            assert texts[found.first(path)] == f"/host{host}/s7(/|$)(.*)"
            assert automata.expression(f"/host{host}/s7(/|$)(.*)").groups(path.encode()) is not None
            assert automata.spent <= automata.most


def test_what_nobody_holds_any_more_costs_nothing() -> None:
    automata = Automata()
    table = table_of([make_route(number, "expression", f"/a{number}.*", "x", "ingress") for number in range(20)], automata)
    table.match("a.test", "/a1", upgrade=False, subject=Plain())
    held = automata.spent
    same = table.with_changes(["a.test"], {"a.test": list(table.routes("a.test"))})
    same.match("a.test", "/a1", upgrade=False, subject=Plain())
    shared = automata.spent
    del table
    kept = automata.spent
    del same

    assert (held > 0, shared == held, kept == held, automata.spent) == (True, True, True, 0)


def test_expressions_that_would_multiply_each_others_states_are_tried_alone() -> None:
    floating = [f"/.*x{number}.*y" for number in range(10)]
    literal = [f"/service{number}/.*[.]html" for number in range(50)]

    assert expressions._find_floating(floating + literal) == set(range(10))
    assert expressions._find_floating([*literal, "/.*[.](js|css)$", "/.*/edit"]) == set()
    assert expressions._find_floating(["/.*a.{10}b", "/[0-9a-f]{8}/x"]) == {0}


def resident() -> int:
    pages = int(File("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.slow
def test_attacker_with_random_paths_gets_no_more_memory_than_the_bound() -> None:
    """Of expressions whose automata grow with every path, and that would take four times the bound."""
    chooser = random.Random(7)  # noqa: S311  paths, no secrets
    automata = Automata(16 * MIB)
    hosts = [
        Expressions(order_expressions([f"/{host}/[ab]*a[ab]{{12}}{number}" for number in range(150)]), automata)
        for host in range(40)
    ]
    gc.collect()
    before = resident()
    for host, found in enumerate(hosts):
        assert found.first(f"/{host}/" + "".join(chooser.choices("ab", k=190))) == found.count
        assert automata.spent <= automata.most

    assert resident() - before < 24 * MIB


@pytest.mark.parametrize(
    "expressions_of_host", [[f"/service{n}(/|$)(.*)" for n in range(200)], [f"/([^/]+)/s{n}(/.*)?" for n in range(200)]]
)
def test_random_paths_of_200_bytes_take_microseconds(expressions_of_host: list[str]) -> None:
    """A tenth of a millisecond at most; five times that here, as tests run beside others."""
    chooser = random.Random(3)  # noqa: S311  paths, no secrets
    found = Expressions(order_expressions(expressions_of_host), Automata())
    found.first("/")
    paths = ["/" + "".join(chooser.choices("abcdefghijklmnopqrstuvwxyz0123456789/.-", k=199)) for _ in range(500)]
    start = time.process_time()
    for path in paths:
        found.first(path)

    assert (time.process_time() - start) / len(paths) < 0.0005


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/(?!api).*", "RE2 does not take"),
        ("/(?<=a)b", "RE2 does not take"),
        ("/(a)\\1", "RE2 does not take"),
        ("/a++", "RE2 does not take"),
        ("/(a", "RE2 does not take"),
        ("/[a-z]{1,999}", "instructions of RE2; a regular expression of at most 1000"),
        ("/" + "[a-z]{1000}" * 3, "instructions of RE2; a regular expression of at most 1000"),
        ("/a" * 600, "instructions of RE2; a regular expression of at most 1000"),
    ],
)
def test_expression_that_is_not_served_is_told_what_would_be(text: str, said: str) -> None:
    with pytest.raises(BadExpressionError, match=re.escape(said)):
        check_expression(text)


def test_largest_expression_that_is_taken_compiles_alone_and_with_others() -> None:
    large = "/" + "a" * (MOST_INSTRUCTIONS - 10)
    check_expression(large)
    found = Expressions(order_expressions([large, "/b"]), Automata())

    assert (found.first(large), found.first("/b"), found.first("/aa")) == (0, 1, 2)
    assert Automata().expression(large).groups(large.encode()) is not None
