"""Whether a socket may stay: what became of its rule, its backend, its endpoint."""

import msgspec
import pytest

from proxy.model.config import Conditions, Endpoint, Pair, Path, Route, Share, Target
from proxy.model.policy import Close
from proxy.websocket.close_causes import CloseCause, backend_cause, endpoint_cause, find_rule, service_port_of

CHAT, NEXT = Share("shop/chat:80"), Share("shop/next:80")


def route(label: str, *shares: Share, path: str = "/ws", host: str = "a.test", origin: str = "wsroute", fault: str = "") -> Route:
    return Route(
        id=f"{origin}/shop/chat/{label}",
        origin="wsroute" if origin == "wsroute" else "ingress",
        namespace="shop",
        name="chat",
        created="",
        index=0,
        hosts=(host,),
        path=Path("prefix", path),
        websocket=Target(shares or (CHAT,)),
        fault=fault,
    )


def found(known: Route, *present: Route, host: str = "a.test") -> Route | None:
    return find_rule(known, host, {one.id: one for one in present}, present)


def test_rule_that_stays_is_found() -> None:
    assert found(route("0"), route("0", NEXT), route("1", path="/other")) == route("0", NEXT)


def test_rule_whose_number_changed_is_found_by_what_it_matches() -> None:
    moved = route("0", path="/b")

    assert found(route("1", path="/b"), moved) == moved


def test_number_that_another_rule_got_is_not_the_rule() -> None:
    assert found(route("0", path="/a"), route("0", path="/b")) is None


def test_name_is_the_rule_whatever_its_owner_made_of_it() -> None:
    edited = route("live", path="/b")

    assert found(route("live", path="/a"), edited) == edited


def test_rule_with_other_conditions_is_another() -> None:
    other = msgspec.structs.replace(route("0"), conditions=Conditions(query=(Pair("v", "2"),)))

    assert found(route("0"), other) is None


@pytest.mark.parametrize(
    ("hosts", "stays"),
    [(("a.test", "b.test"), True), (("b.test",), False), (("*.test",), True), (("",), True), (("*.a.test",), False)],
)
@pytest.mark.parametrize("label", ["0", "live"])
def test_host_that_left_the_rule_takes_its_sockets_along(hosts: tuple[str, ...], stays: bool, label: str) -> None:
    now = msgspec.structs.replace(route(label), hosts=hosts)

    assert found(route(label), now) == (now if stays else None)


def test_rule_that_cannot_be_honoured_is_still_the_rule() -> None:
    broken = route("0", path="/", fault="the path's pattern does not compile")

    assert found(route("0"), broken) == broken


@pytest.mark.parametrize(
    ("before", "now", "fault"),
    [
        ((CHAT,), (CHAT,), ""),
        ((CHAT,), (NEXT, CHAT), ""),
        ((CHAT,), (Share("shop/chat:80", 0), NEXT), ""),
        ((CHAT,), (NEXT,), "backends_changed"),
        ((CHAT,), (Share(None),), "service_deleted"),
        ((CHAT, NEXT), (Share(None), NEXT), "service_deleted"),
        ((CHAT, NEXT), (NEXT, Share(None)), "backends_changed"),
    ],
)
def test_backend_is_gone_by_its_owners_hand_or_with_its_service(
    before: tuple[Share, ...], now: tuple[Share, ...], fault: str
) -> None:
    assert backend_cause(route("0", *before), route("0", *now), "shop/chat:80") == fault


def test_rule_that_serves_no_sockets_any_more_has_other_backends() -> None:
    assert backend_cause(route("0"), msgspec.structs.replace(route("0"), websocket=None), "shop/chat:80") == "backends_changed"


@pytest.mark.parametrize(
    ("shares", "home"),
    [
        ((Share("shop/chat:81"),), "shop/chat:81"),
        ((NEXT, Share("shop/chat:82"), Share("shop/chat:81", 0)), "shop/chat:81"),
        ((Share("shop/chat:82"),), ""),
        ((Share("shop/chat:83"),), ""),
        ((Share("shop/chats:81"),), ""),
        ((NEXT,), ""),
        ((Share(None),), ""),
    ],
)
def test_port_of_the_same_service_that_leads_to_the_endpoint_is_found(shares: tuple[Share, ...], home: str) -> None:
    places = {("10.0.0.1", 8080)}
    endpoints = {"shop/chat:81": places, "shop/chat:82": {("10.0.0.1", 9090)}, "shop/chats:81": places, "shop/next:80": places}

    found = service_port_of(route("0", *shares), "shop/chat:80", ("10.0.0.1", 8080), lambda key: endpoints.get(key, set()))

    assert found == home


@pytest.mark.parametrize(
    ("endpoint", "cause", "deadline"),
    [
        (Endpoint("10.0.0.1", 80), "", 0.0),
        (Endpoint("10.0.0.1", 80, "unready"), "", 0.0),
        (Endpoint("10.0.0.1", 80, "draining"), "endpoint_terminating", 0.0),
        (Endpoint("10.0.0.1", 80, "stopping", 1234.0), "endpoint_terminating", 1234.0),
        (None, "endpoint_gone", 0.0),
    ],
)
def test_endpoint_that_ends_or_left_is_a_fault_and_one_that_is_not_ready_is_none(
    endpoint: Endpoint | None, cause: str, deadline: float
) -> None:
    close = Close(on_endpoint_terminating="now")
    expected = CloseCause(cause, "10.0.0.1:80", "now", close.drain, deadline) if cause else None

    assert endpoint_cause(close, endpoint, "10.0.0.1:80") == expected
