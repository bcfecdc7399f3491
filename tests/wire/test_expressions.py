"""`use-regex` and `rewrite-target` of ingress-nginx: objects in, raw requests, what backend and client see.

What is expected is what ingress-nginx 1.15.1 answered when it was run; where we differ on purpose, the name of the test says so.
"""

import asyncio
import contextlib
import random
import time
from typing import Any

import pytest
from wire.harness import Peer
from wire.ingresses import ingress, serving, ws_route

ANY = "ImplementationSpecific"
REGEX = {"use_regex": "true"}


async def answers(*objects: dict[str, Any], asked: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What each target was answered, and what is expected."""
    async with serving(*objects) as served:
        found = {target: await served.asks(target) for target in asked}
    return found, asked


async def test_one_use_regex_makes_every_path_of_the_host_an_expression_those_of_other_ingresses_too() -> None:
    one = ingress("one", ("/Foo", ANY, "A"), **REGEX)
    two = ingress("two", ("/bar", "Prefix", "B"))
    asked = {
        "/foo": "A /foo",
        "/Foo/x": "A /Foo/x",
        "/FOOx": "A /FOOx",
        "/BAR": "B /BAR",
        "/barbaz": "B /barbaz",
        "/bar/x": "B /bar/x",
        "/x": "404",
        "/x/foo": "404",
    }
    found, expected = await answers(one, two, asked=asked)

    assert found == expected


async def test_rewrite_target_with_groups_gives_the_backend_the_decoded_path_encoded_again() -> None:
    one = ingress("one", ("/app(/|$)(.*)", ANY, "A"), rewrite_target="/$2")
    asked = {
        "/app": "A /",
        "/app?x=1": "A /?x=1",
        "/app/a%20b?x=1": "A /a%20b?x=1",
        "/app//x": "A /x",
        "/APP/x": "A /x",
        "/appx": "404",
        "/app/a%2Fb": "A /a/b",
        "/app/x/../y": "A /y",
        "/app/a%3Fb": "A /a%3Fb",
        "/app/a%23b%25c": "A /a%23b%25c",
        "/app/caf%C3%A9": "A /caf%C3%A9",
        "/app/a+b%2Bc;d=e": "A /a+b+c;d=e",
        "/app/.well-known/x": "A /.well-known/x",
    }
    found, expected = await answers(one, asked=asked)

    assert found == expected


async def test_rewrite_target_without_groups_replaces_the_whole_path_and_turns_on_expressions() -> None:
    one = ingress("one", ("/old", "Prefix", "A"), rewrite_target="/new")
    asked = {
        "/old": "A /new",
        "/old/sub?q=1": "A /new?q=1",
        "/oldest": "A /new",
        "/OLD": "A /new",
        "/x": "404",
    }
    found, expected = await answers(one, asked=asked)

    assert found == expected


async def test_expressions_without_rewrite_leave_the_target_byte_for_byte() -> None:
    one = ingress("one", ("/a", ANY, "A"), ("/b.*", ANY, "A"), **REGEX)
    asked = {target: f"A {target}" for target in ("/a/%2F/x", "/a//x", "/a/x/../y", "/a/%41", "/a%5Cx", "/b;c=d/./e?f=%zz")}
    found, expected = await answers(one, asked=asked)

    assert found == expected


@pytest.mark.parametrize("target", ["/x?y=1", "/x%20y", "/a b", "/$host", "https://$1.test/"])
async def test_rewrite_target_that_cannot_be_read_rewrites_nothing(target: str) -> None:
    one = ingress("one", ("/p", "Prefix", "A"), rewrite_target=target)
    async with serving(one) as served:
        problems = served.applies(one).problems

        assert [await served.asks(path) for path in ("/p/x", "/px")] == ["A /p/x", "404"]
        assert [problem.field for problem in problems] == ["metadata.annotations[nginx.ingress.kubernetes.io/rewrite-target]"]


async def test_expressions_are_tried_by_length_of_text_and_exact_loses_its_meaning() -> None:
    one = ingress("one", ("/foo", ANY, "A"), ("/foo/bar", ANY, "B"), ("/foo/b.*z", ANY, "C"), **REGEX)
    two = ingress("two", ("/api/v1", "Exact", "A"), ("/foo.bar", ANY, "B"))
    asked = {
        "/foo/x": "A /foo/x",
        "/foo/bar": "B /foo/bar",
        "/foo/barz": "C /foo/barz",
        "/foo/barx": "B /foo/barx",
        "/api/v1": "A /api/v1",
        "/api/v1/x": "A /api/v1/x",
        "/api/v1x": "A /api/v1x",
        "/API/v1": "A /API/v1",
        "/fooxbar": "B /fooxbar",
    }
    found, expected = await answers(one, two, asked=asked)

    assert found == expected


async def test_of_expressions_of_equal_length_the_greater_text_goes_first() -> None:
    one = ingress("one", ("/[a-y]x", ANY, "A"), ("/[a-z]x", ANY, "B"), ("/zx[a-b]", ANY, "C"), **REGEX)
    found, expected = await answers(one, asked={"/ax": "B /ax", "/zxa": "C /zxa"})

    assert found == expected


async def test_rewrite_target_equal_to_the_path_is_no_rewrite_and_no_expression() -> None:
    one = ingress("one", ("/", "Prefix", "A"), rewrite_target="/")
    two = ingress("two", ("/b", "Prefix", "B"))
    found, expected = await answers(
        one, two, asked={"/": "A /", "/x//y?z": "A /x//y?z", "/b": "B /b", "/bc": "A /bc", "/B": "A /B"}
    )

    assert found == expected


async def test_rewrite_target_of_the_root_sends_every_other_path_there() -> None:
    one = ingress("one", ("/app", "Prefix", "A"), rewrite_target="/")
    found, expected = await answers(one, asked={"/app": "A /", "/app/x?y": "A /?y", "/appx": "A /"})

    assert found == expected


async def test_rewrite_target_that_is_a_full_url_redirects_with_302_and_keeps_the_query() -> None:
    one = ingress("one", ("/docs/(.*)", ANY, "A"), rewrite_target="https://docs.test/v1/$1", ssl_redirect="false")
    asked = {
        "/docs/a?b=c": "302 https://docs.test/v1/a?b=c",
        "/docs/": "302 https://docs.test/v1/",
        "/docs//evil.test": "302 https://docs.test/v1/evil.test",
        "/docs/a%0D%0AX:y": "302 https://docs.test/v1/a%0D",
        "/docs/a%3Fb": "302 https://docs.test/v1/a%3Fb",
    }
    found, expected = await answers(one, asked=asked)

    assert found == expected


async def test_what_a_redirect_captures_is_never_its_host() -> None:
    one = ingress("one", ("/(.*)", ANY, "A"), rewrite_target="https://docs.test$1", use_regex="true")
    two = ingress("two", ("/(.*)", ANY, "A"), rewrite_target="https://docs.test/$1", host="i.test")
    async with serving(one, two) as served:
        assert await served.asks("/.evil.test/") == "A /.evil.test/"
        assert await served.asks("/@evil.test//x", host="i.test") == "302 https://docs.test/@evil.test/x"


async def test_use_regex_false_beside_a_rewrite_target_with_groups_is_still_an_expression() -> None:
    one = ingress("one", ("/a/(.*)", ANY, "A"), rewrite_target="/b/$1/$3", use_regex="false")
    found, expected = await answers(one, asked={"/A/x": "A /b/x/", "/a": "404"})

    assert found == expected


async def test_a_missing_group_is_empty() -> None:
    one = ingress("one", ("/a(/b)?", ANY, "A"), rewrite_target="/c$1$7")
    found, expected = await answers(one, asked={"/a": "A /c", "/a/b": "A /c/b"})

    assert found == expected


async def test_implementation_specific_without_expressions_is_prefix_by_segment() -> None:
    one = ingress("one", ("/foo", ANY, "A"))
    found, expected = await answers(one, asked={"/foo": "A /foo", "/foo/x": "A /foo/x", "/foobar": "404", "/FOO": "404"})

    assert found == expected


async def test_paths_that_look_like_expressions_are_literal_where_nobody_asks_for_these() -> None:
    one = ingress("one", ("/foo(/|$)(.*)", "Prefix", "A"), ("/foo*", "Prefix", "A"), ("/a{2}", ANY, "B"), ("/a(b", ANY, "B"))
    asked = {
        "/foo": "404",
        "/foo(/|$)(.*)": "A /foo(/|$)(.*)",
        "/foo*/x": "A /foo*/x",
        "/a{2}": "B /a{2}",
        "/aa": "404",
        "/a(b": "B /a(b",
    }
    found, expected = await answers(one, asked=asked)

    assert found == expected


async def test_literal_paths_with_spaces_and_letters_beyond_ascii_are_matched_decoded() -> None:
    one = ingress("one", ("/a b", "Prefix", "A"), ("/café", "Exact", "B"), ("/", "Prefix", "C"))
    asked = {
        "/a%20b": "A /a%20b",
        "/a%20b/x": "A /a%20b/x",
        "/a": "C /a",
        "/caf%C3%A9": "B /caf%C3%A9",
        "/caf%C3%A9/x": "C /caf%C3%A9/x",
    }
    found, expected = await answers(one, asked=asked)

    assert found == expected


async def test_letters_beyond_ascii_match_in_their_case_only() -> None:
    one = ingress("one", ("/caf[é]+$", ANY, "A"), ("/k", ANY, "B"), **REGEX)
    # U+212A, the Kelvin sign, is a k to whoever folds Unicode.
    asked = {"/CAF%C3%A9": "A /CAF%C3%A9", "/caf%C3%89": "404", "/%E2%84%AA": "404", "/K": "B /K"}
    found, expected = await answers(one, asked=asked)

    assert found == expected


async def test_question_marks_braces_and_bars_refuse_no_object() -> None:
    one = ingress("one", ("/ws/?(.*)", ANY, "A"), ("/v[0-9]{1,2}|/z", ANY, "B"), **REGEX)
    two = ingress("two", ("/x?", "Prefix", "A"), ("/y", "Prefix", "B"), host="i.test")
    async with serving(one, two) as served:
        found = [await served.asks(target) for target in ("/ws", "/ws/a", "/v12", "/z", "/x/z")]
        literal = [await served.asks(target, host="i.test") for target in ("/x", "/y")]

    assert found == ["A /ws", "A /ws/a", "B /v12", "B /z", "404"]
    assert literal == ["404", "B /y"]


async def test_expression_that_re2_does_not_take_is_said_and_leaves_the_others_served() -> None:
    one = ingress("one", ("/(?!api).*", ANY, "A"), ("/a/(b)\\1", ANY, "A"), ("/[a-z]{999}", ANY, "A"), ("/ok", ANY, "B"), **REGEX)
    async with serving(one) as served:
        said = served.applies(one).problems

        assert [await served.asks(target) for target in ("/ok/x", "/other")] == ["B /ok/x", "404"]
    assert [problem.field for problem in said] == [f"spec.rules[0].http.paths[{number}].path" for number in range(3)]
    assert ["RE2 does not take" in problem.message for problem in said] == [True, True, False]


async def test_expression_of_a_guarded_ingress_that_cannot_be_served_opens_nothing() -> None:
    guarded = ingress("guarded", ("/admin/(?!public).*", ANY, "A"), use_regex="true", whitelist_source_range="127.0.0.0/8")
    other = ingress("other", ("/", "Prefix", "B"))
    found, expected = await answers(guarded, other, asked={"/admin/x": "500", "/ADMIN/public": "500", "/adminx": "B /adminx"})

    assert found == expected


async def test_expressions_of_one_namespace_leave_paths_of_another_as_they_are_which_differs_on_purpose() -> None:
    mine = ingress("mine", ("/foo", ANY, "A"), ("/bar/.*", ANY, "A"), ("/", "Prefix", "A"), **REGEX)
    theirs = ingress("theirs", ("/bar", "Prefix", "B"), ("/exact", "Exact", "B"), namespace="theirs")
    asked = {
        "/bar": "B /bar",
        "/bar/x": "B /bar/x",
        "/BAR/x": "A /BAR/x",
        "/barbaz": "A /barbaz",
        "/exact": "B /exact",
        "/exact/x": "A /exact/x",
    }
    found, expected = await answers(mine, theirs, asked=asked)

    assert found == expected


async def test_root_of_another_namespace_yields_to_longer_expressions_alone() -> None:
    mine = ingress("mine", ("/f.*", ANY, "A"), ("/", "Prefix", "A"), **REGEX)
    theirs = ingress("theirs", ("/", "Prefix", "B"), namespace="theirs")
    found, expected = await answers(mine, theirs, asked={"/foo": "A /foo", "/x": "B /x"})

    assert found == expected


async def test_paths_of_wsroutes_never_change_and_go_before_expressions_that_are_not_longer() -> None:
    mine = ingress("mine", ("/ws", "Prefix", "A"), ("/ws/long.*", ANY, "A"), ("/ws/exact", ANY, "A"), ("/e.*", ANY, "A"), **REGEX)
    prefix = ws_route("prefix", "/ws", "B")
    exact = ws_route("exact", "/ws/exact", "C", kind="Exact")
    pattern = ws_route("pattern", "/e[a-z]", "C", kind="Regex")
    async with serving(mine, prefix, exact, pattern) as served:
        for ask in (served.asks, served.upgrades):
            found = {
                target: await ask(target)
                for target in ("/ws", "/wsx", "/WS", "/ws/longer", "/ws/exact", "/ws/exact/x", "/ex", "/exx")
            }

            assert found == {
                "/ws": "B /ws",
                "/wsx": "A /wsx",
                "/WS": "A /WS",
                "/ws/longer": "A /ws/longer",
                "/ws/exact": "C /ws/exact",
                "/ws/exact/x": "A /ws/exact/x",
                "/ex": "C /ex",
                "/exx": "A /exx",
            }


async def test_expression_takes_nothing_from_a_wsroute_of_another_namespace() -> None:
    mine = ingress("mine", ("/ws/long.*", ANY, "A"), **REGEX)
    theirs = ws_route("theirs", "/ws", "B", namespace="theirs")
    async with serving(mine, theirs) as served:
        assert [await served.asks("/ws/longer"), await served.upgrades("/ws/longer"), await served.asks("/WS/longer")] == [
            "B /ws/longer",
            "B /ws/longer",
            "A /WS/longer",
        ]


async def test_path_whose_other_readings_lead_to_another_route_is_refused() -> None:
    one = ingress("one", ("/files/[^/]+$", ANY, "A"), ("/admin", ANY, "B"), ("/", ANY, "C"), **REGEX)
    asked = {
        "/files/a": "A /files/a",
        "/files/a%2Fb": "400",
        "/files/a%252Fb": "400",
        "/admin%2F..%2Ffiles": "400",
        "/x/..;/admin": "400",
        "/%61dmin": "400",
    }
    found, expected = await answers(one, asked=asked)

    assert found == expected


async def test_what_a_rewrite_yields_has_one_leading_slash_and_neither_dots_nor_empty_segments() -> None:
    one = ingress("one", ("/a(.*)", ANY, "A"), rewrite_target="/$1")
    two = ingress("two", ("/b(.*)", ANY, "A"), rewrite_target="/api/$1")
    three = ingress("three", ("/c/(.*)", ANY, "A"), rewrite_target="$1")
    asked = {
        "/a/x": "A /x",
        "/a..": "400",
        "/a../x": "400",
        "/a.%5Cx": "400",
        "/b/x": "400",
        "/bx": "A /api/x",
        "/b..": "400",
        "/c/x": "A /x",
    }
    found, expected = await answers(one, two, three, asked=asked)

    assert found == expected


async def test_rewrites_are_for_upgrades_too() -> None:
    one = ingress("one", ("/app(/|$)(.*)", ANY, "A"), rewrite_target="/$2")
    async with serving(one) as served:
        assert [await served.upgrades(target) for target in ("/app/ws?x=1", "/APP", "/x")] == ["A /ws?x=1", "A /", "404"]


async def test_default_backend_beside_rules_is_rewritten_as_the_root_is() -> None:
    one = ingress("one", ("/app/(.*)", ANY, "A"), rewrite_target="/v1/$1", default="B")
    found, expected = await answers(one, asked={"/app/x": "A /v1/x", "/other?q": "B /v1/?q"})

    assert found == expected


async def test_prefix_of_ours_takes_the_place_of_what_the_expression_matched() -> None:
    one = ingress("one", ("/ws(/|$)", ANY, "A"), **REGEX)
    one["metadata"]["annotations"]["sluice.dev/rewrite-prefix"] = "/socket/"
    found, expected = await answers(one, asked={"/ws": "A /socket", "/WS/a%20b?c": "A /socketa%20b?c"})

    assert found == expected


async def test_expressions_come_and_go_with_the_ingress_that_asks_for_them() -> None:
    asking, plain = ingress("asking", ("/foo", ANY, "A"), **REGEX), ingress("plain", ("/bar", "Prefix", "B"))
    async with serving(asking, plain) as served:
        found = [await served.asks("/barbaz")]
        served.applies(ingress("asking", ("/foo", ANY, "A")), plain)
        found += [await served.asks("/barbaz"), await served.asks("/bar/x")]
        served.applies(asking, plain)
        found.append(await served.asks("/barbaz"))

    assert found == ["B /barbaz", "404", "B /bar/x", "B /barbaz"]


async def test_attacker_with_long_random_paths_slows_no_innocent_down() -> None:
    """Of a host with 200 expressions and captures: paths of 8 KiB, each with several readings, as many as the proxy takes."""
    chooser = random.Random(11)  # noqa: S311  paths, no secrets
    many = ingress("many", *((f"/service{number}(/|$)(.*)", ANY, "A") for number in range(200)), rewrite_target="/v1/$2")
    innocent = ingress("innocent", ("/", "Prefix", "B"), host="innocent.test")
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789-_/.%"

    def attack() -> bytes:
        path = "/service" + "".join(chooser.choices(alphabet[:-1], k=8000)) + "%41//./%2e;x"
        return f"GET {path} HTTP/1.1\r\nHost: h.test\r\n\r\n".encode()

    async with serving(many, innocent) as served:
        attackers = [await served.proxy.client() for _ in range(4)]

        async def swallow(peer: Peer) -> None:
            with contextlib.suppress(ConnectionError):
                while await peer.reader.read(1 << 16):
                    pass

        tasks = [asyncio.create_task(swallow(peer)) for peer in attackers]
        waited = []
        for _ in range(12):
            for peer in attackers:
                peer.writer.write(b"".join(attack() for _ in range(8)))
            start = time.process_time()
            assert await served.asks("/x", host="innocent.test") == "B /x"
            waited.append(time.process_time() - start)
        for task in tasks:
            task.cancel()

    assert sorted(waited)[len(waited) // 2] < 0.25
