"""Requests are hashed by a text with variables, as ingress-nginx's upstream-hash-by says it."""

import pytest
from wire.harness import proxying
from wire.several import at, backends, get, serving, upgrade

from proxy.model.policy import HashOn, HashPart

USERS = 40
"""That one of three endpoints has none of them happens in one run of 4 million."""


@pytest.mark.parametrize(
    ("part", "target", "fields"),
    [
        (HashPart("target"), "/a?u={}", ()),
        (HashPart("path"), "/a{}?x=1", ()),
        (HashPart("query", "u"), "/?b=1&U={}", ()),
        (HashPart("cookie", "jsessionid"), "/", ("Cookie: a=1; JSESSIONID={}",)),
        (HashPart("header", "mcp-session-id"), "/", ("Mcp-Session-Id: {}",)),
        (HashPart("client-ip"), "/", ("X-Forwarded-For: 192.0.2.{}",)),
    ],
    ids=lambda value: value.kind if isinstance(value, HashPart) else "",
)
async def test_value_of_a_variable_leads_to_one_endpoint(part: HashPart, target: str, fields: tuple[str, ...]) -> None:
    policies = (HashOn("text", parts=(HashPart("literal", "a-"), part)),)
    async with proxying(trusted=True) as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=policies, balancing="hash"))
        found = []
        for user in range(USERS):
            sent = (target.format(user), *(field.format(user) for field in fields))
            requests = {(await get(proxy, *sent))[2] for _ in range(2)}
            found.append(requests | {(await upgrade(proxy, *sent))[1]["x-number"]})

    assert [len(one) for one in found] == [1] * USERS
    assert set().union(*found) == {"0", "1", "2"}


@pytest.mark.parametrize("part", [HashPart("query", "u"), HashPart("cookie", "u"), HashPart("header", "x-u"), HashPart("host")])
async def test_requests_without_the_value_come_to_one_endpoint(part: HashPart) -> None:
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(HashOn("text", parts=(part,)),), balancing="hash"))
        found = {(await get(proxy, f"/{number}"))[2] for number in range(12)}

    assert len(found) == 1


async def test_path_is_hashed_as_it_is_read_and_the_target_as_it_was_sent() -> None:
    targets = [f"/{first}{number}" for number in range(20) for first in ("", "./", "%2e/", "x/../")]
    found = {}
    for kind in ("path", "target"):
        async with proxying() as proxy, backends(3) as three:
            policies = (HashOn("text", parts=(HashPart(kind),)),)  # type: ignore[arg-type]
            proxy.serves(serving(*(at(one.port) for one in three), policies=policies, balancing="hash"))
            answers = [(await get(proxy, target)) for target in targets]
            found[kind] = [[answers[n + m][2] for m in range(4)] for n in range(0, len(answers), 4)]

    assert [len(set(one)) for one in found["path"]] == [1] * 20
    assert max(len(set(one)) for one in found["target"]) > 1


async def test_several_variables_are_hashed_together() -> None:
    parts = (HashPart("header", "x-a"), HashPart("literal", "|"), HashPart("header", "x-b"))
    async with proxying() as proxy, backends(3) as three:
        proxy.serves(serving(*(at(one.port) for one in three), policies=(HashOn("text", parts=parts),), balancing="hash"))
        by_first = {(await get(proxy, "/", f"X-A: {number}", "X-B: 1"))[2] for number in range(USERS)}
        by_second = {(await get(proxy, "/", "X-A: 1", f"X-B: {number}"))[2] for number in range(USERS)}

    assert by_first == by_second == {"0", "1", "2"}
