"""The configuration on the wire: what comes back is what was sent, and nothing hostile gets in."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import wire
from proxy.model.config import (
    EMPTY,
    Certificate,
    Conditions,
    Endpoint,
    Pair,
    Path,
    ProxyConfig,
    Route,
    Share,
    Target,
    Upstream,
)
from proxy.model.policy import HttpsRedirect, Keepalive, MessageLimits, Timeouts
from proxy.model.sensitive import Sensitive


def make_route(number: int, **changes: object) -> Route:
    fields: dict[str, object] = {
        "id": f"wsroute/shop/chat/{number}",
        "origin": "wsroute",
        "namespace": "shop",
        "name": "chat",
        "created": "2026-03-02T00:00:00Z",
        "index": number,
        "hosts": (f"h{number}.example.com",),
        "path": Path("prefix", "/ws"),
        "conditions": Conditions(headers=(Pair("x-tenant", "acme"),)),
        "websocket": Target((Share("shop/chat:80", 2), Share(None, 1)), "least-connections"),
        "policies": (Timeouts(idle=5.0), HttpsRedirect(), Keepalive(20.0, 3, "both"), MessageLimits(1 << 60, 0.5, 7)),
    }
    return Route(**(fields | changes))  # type: ignore[arg-type]


def make_config(routes: int = 3) -> ProxyConfig:
    return ProxyConfig(
        routes={f"wsroute/shop/chat/{n}": make_route(n) for n in range(routes)},
        upstreams={"shop/chat:80": Upstream((Endpoint("10.0.0.1", 8080), Endpoint("10.0.0.2", 8080, "draining")))},
        certificates={"shop/tls": Certificate(b"chain", Sensitive(b"key"), 1.5)},
        tls_hosts={"h1.example.com": "shop/tls"},
        default_certificate="shop/tls",
    )


def decoded(encoded: wire.Encoded) -> ProxyConfig:
    parts: dict[str, dict[str, object]] = {"r/": {}, "u/": {}, "c/": {}, "h/": {}, "d/": {}}
    for key, (data, _) in encoded.entries.items():
        parts[key[:2]][key[2:]] = wire.decode_entry(key, data).value
    return ProxyConfig(
        routes=parts["r/"],  # type: ignore[arg-type]
        upstreams=parts["u/"],  # type: ignore[arg-type]
        certificates=parts["c/"],  # type: ignore[arg-type]
        tls_hosts=parts["h/"],  # type: ignore[arg-type]
        default_certificate=parts["d/"].get(""),  # type: ignore[arg-type]
    )


def test_everything_sent_comes_back_equal() -> None:
    config = make_config()
    reply = wire.decode_reply(wire.encode_message(wire.reply_between(None, wire.encode_config(config), wire.Report())))

    held = wire.apply_reply(None, reply)

    assert decoded(held) == config
    assert held.root == wire.encode_config(config).root


def test_change_of_one_route_sends_one_entry() -> None:
    before = make_config()
    after = msgspec.structs.replace(
        before, routes={**before.routes, "wsroute/shop/chat/1": make_route(1, hosts=("new.example.com",))}
    )
    first = wire.encode_config(before)
    second = wire.encode_config(after, first)

    reply = wire.reply_between(first, second, wire.Report())

    assert (list(reply.upsert), reply.remove) == (["r/wsroute/shop/chat/1"], ())
    assert decoded(wire.apply_reply(first, reply)) == after


def test_unchanged_values_are_not_encoded_again() -> None:
    config = make_config()
    first = wire.encode_config(config)
    second = wire.encode_config(config, first)

    assert second.root == first.root
    assert all(second.entries[key] is first.entries[key] for key in first.entries)


def test_removed_route_is_removed() -> None:
    first, second = wire.encode_config(make_config(3)), wire.encode_config(make_config(2))

    reply = wire.reply_between(first, second, wire.Report())

    assert reply.remove == ("r/wsroute/shop/chat/2",)
    assert wire.apply_reply(first, reply).root == second.root


def test_torn_change_is_refused_whole() -> None:
    first, second = wire.encode_config(make_config(2)), wire.encode_config(make_config(3))
    reply = wire.reply_between(first, second, wire.Report())
    torn = msgspec.structs.replace(reply, upsert={})

    with pytest.raises(wire.WireError, match="was announced"):
        wire.apply_reply(first, torn)


def test_change_against_another_root_is_refused() -> None:
    first, second = wire.encode_config(make_config(2)), wire.encode_config(make_config(3))

    with pytest.raises(wire.WireError, match="not held"):
        wire.apply_reply(second, wire.reply_between(first, second, wire.Report()))


def test_other_version_is_refused() -> None:
    reply = wire.reply_between(None, wire.encode_config(EMPTY), wire.Report())

    with pytest.raises(wire.WireError, match=f"version {wire.VERSION + 1}"):
        wire.apply_reply(None, msgspec.structs.replace(reply, version=wire.VERSION + 1))


def test_entry_under_a_key_of_another_kind_is_refused() -> None:
    data = wire.encode_config(make_config()).entries["u/shop/chat:80"][0]

    with pytest.raises(wire.WireError, match="holds a UpstreamEntry"):
        wire.decode_entry("r/shop/chat:80", data)


def test_key_material_does_not_print() -> None:
    assert "key" not in repr(Sensitive(b"key"))
    assert repr(make_config()).count("<redacted 3 bytes>") == 1


@given(st.binary(max_size=200))
def test_hostile_bytes_give_a_wire_error_or_a_value(data: bytes) -> None:
    for decode in (wire.decode_reply, wire.decode_request, lambda raw: wire.decode_entry("r/x", raw)):
        with contextlib.suppress(wire.WireError):
            assert isinstance(decode(data), wire.SyncReply | wire.SyncRequest | wire.Entry)


@given(st.data())
def test_flipped_byte_never_applies_as_if_whole(data: st.DataObject) -> None:
    config = make_config(1)
    message = bytearray(wire.encode_message(wire.reply_between(None, wire.encode_config(config), wire.Report())))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] ^= data.draw(st.integers(1, 255))
    try:
        held = wire.apply_reply(None, wire.decode_reply(bytes(message)))
    except wire.WireError:
        return
    assert decoded(held) == config


def test_nested_bomb_is_refused() -> None:
    with pytest.raises(wire.WireError):
        wire.decode_reply(b"\x91" * 100_000)


@given(st.lists(st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 3), max_size=6), min_size=1, max_size=6))
def test_root_of_a_change_is_that_of_the_whole_and_any_two_states_are_a_reply_apart(states: list[dict[str, int]]) -> None:
    upstreams = [
        {name: Upstream((Endpoint(f"10.0.0.{value}", 80),), tls=False) for name, value in state.items()} for state in states
    ]
    chain: list[wire.Encoded] = []
    for one in upstreams:
        chain.append(wire.encode_config(msgspec.structs.replace(EMPTY, upstreams=one), chain[-1] if chain else None))
    for state, encoded in zip(upstreams, chain, strict=True):
        whole = wire.encode_config(msgspec.structs.replace(EMPTY, upstreams=state))
        assert (encoded.root, encoded.entries) == (whole.root, whole.entries)
    for base in (None, *chain):
        for to in chain:
            held = wire.apply_reply(base, wire.reply_between(base, to, wire.Report()))
            assert (held.root, held.entries) == (to.root, to.entries)
    roots = {str(sorted(state.items())): encoded.root for state, encoded in zip(states, chain, strict=True)}
    assert len(set(roots.values())) == len(roots)
