"""What becomes of open sockets when the configuration changes under them: who is closed, with what, by whom, and who is not."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Mapping

import msgspec
import pytest
from wire.harness import CERTIFICATE, Backend, Peer, Proxy, config_for, proxying, socketless
from wire.verbs import SWITCH, UPGRADE, frame, opened

from proxy.model.config import Endpoint, EndpointState, Path, ProxyConfig, Route, Share, Target, Upstream
from proxy.model.policy import Close, CloseMode, Drain, Policy, Timeouts
from proxy.model.wire import decode_entry, encode_config
from proxy.observability.metrics import WS_CLOSES, WS_CONNECTIONS, WS_UNANSWERED_CLOSES
from proxy.settings import Settings

ROUTE, SERVICE = "ingress/test/a/0", "test/backend:80"
QUICK = Drain(0.2, 4012, "auf Wiedersehen")
FAREWELL = (4012).to_bytes(2, "big") + b"auf Wiedersehen"


def closing(mode: CloseMode = "drain", drain: Drain = QUICK) -> Close:
    return Close(mode, mode, mode, drain)


def changed(config: ProxyConfig, *, route: Mapping[str, object] | None = None, upstream: Upstream | None = None) -> ProxyConfig:
    """The same with another route, or with another upstream."""
    one = config.routes[ROUTE]
    return msgspec.structs.replace(
        config,
        routes={ROUTE: msgspec.structs.replace(one, **route)} if route else config.routes,
        upstreams={SERVICE: upstream} if upstream is not None else config.upstreams,
    )


def moves(proxy: Proxy, before: ProxyConfig, after: ProxyConfig) -> None:
    """Apply a change, as a worker does: what differs, and what is gone."""
    old, new = encode_config(before), encode_config(after)
    entries = {
        key: decode_entry(key, data) for key, (data, digest) in new.entries.items() if old.entries.get(key, (b"", b""))[1] != digest
    }
    proxy.runtime.apply(entries, [key for key in old.entries if key not in new.entries])


async def dismissed(client: Peer, backend: Peer, payload: bytes = FAREWELL) -> None:
    """Both see one close frame and answer it, and both connections end."""
    told = frame(8, payload)
    await client.sees(told)
    head = await backend.reads(6)
    assert head[:2] == bytes([0x88, 0x80 | len(payload)])
    masked = await backend.reads(len(payload))
    assert bytes(byte ^ head[2 + place % 4] for place, byte in enumerate(masked)) == payload
    await client.sends(frame(8, payload[:2], masked=True))
    await backend.sends(frame(8, payload[:2]))
    await client.ends()
    await backend.ends()


async def lives(client: Peer, backend: Peer) -> None:
    await client.sends(frame(1, b"still", masked=True))
    await backend.reads(11)
    await backend.sends(frame(1, b"here"))
    await client.sees(frame(1, b"here"))


def closes(proxy: Proxy) -> dict[str, dict[tuple[str, str], int]]:
    stats = proxy.runtime.stats
    return {one.route_id: one.labelled(WS_CLOSES) for one in (stats.unmatched, *stats.routes.values()) if one.labelled(WS_CLOSES)}


def without(config: ProxyConfig) -> ProxyConfig:
    return msgspec.structs.replace(config, routes={}, upstreams={})


def restored(proxy: Proxy, config: ProxyConfig) -> None:
    """Serve again what the harness looks at in the end."""
    proxy.serves(config)


CASES: dict[str, tuple[str, str]] = {
    "route": ("route_deleted", "-"),
    "rule": ("rule_gone", "-"),
    "backends": ("backends_changed", ROUTE),
    "service": ("service_deleted", ROUTE),
    "guard": ("policy_changed", ROUTE),
    "terminating": ("endpoint_terminating", ROUTE),
    "stopping": ("endpoint_terminating", ROUTE),
    "gone": ("endpoint_gone", ROUTE),
}


def after(what: str, config: ProxyConfig, port: int) -> ProxyConfig:
    """The configuration when something of it is gone."""
    match what:
        case "route":
            return without(config)
        case "rule":
            other = msgspec.structs.replace(config.routes[ROUTE], id="ingress/test/a/1", path=Path("prefix", "/other"))
            return msgspec.structs.replace(config, routes={other.id: other})
        case "backends":
            target = Target((Share("test/other:80"),))
            upstreams = {**config.upstreams, "test/other:80": config.upstreams[SERVICE]}
            return msgspec.structs.replace(changed(config, route={"websocket": target}), upstreams=upstreams)
        case "service":
            return changed(config, route={"websocket": Target((Share(None),)), "http": Target((Share(None),))})
        case "guard":
            return changed(config, route={"fault": "sluice.dev/auth-basic is not supported"})
        case "gone":
            return changed(config, upstream=Upstream((Endpoint("127.0.0.2", port),)))
        case _:
            state: EndpointState = "draining" if what == "terminating" else "stopping"
            return changed(config, upstream=Upstream((Endpoint("127.0.0.1", port, state),)))


@pytest.mark.parametrize("what", CASES)
async def test_socket_whose_ground_is_gone_is_drained_and_its_cause_told(what: str) -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing())
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client, backend = await opened(proxy)
        moves(proxy, config, after(what, config, proxy.backend.port))
        await dismissed(client, backend)
        await socketless(proxy)
        cause, route = CASES[what]
        assert closes(proxy) == {route: {("4012", f"proxy:{cause}"): 1}}
        restored(proxy, config)


@pytest.mark.parametrize("what", CASES)
async def test_socket_whose_ground_is_gone_is_kept_where_its_route_says_so(what: str) -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing("keep"))
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client, backend = await opened(proxy)
        moves(proxy, config, after(what, config, proxy.backend.port))
        await lives(client, backend)
        (tunnel,) = proxy.runtime.tunnels
        assert tunnel.entry is not None
        assert tunnel.entry.scheduled is None
        restored(proxy, config)
        await lives(client, backend)


@pytest.mark.parametrize("what", CASES)
async def test_socket_whose_ground_is_gone_is_closed_at_once_where_its_route_says_so(what: str) -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing("now", Drain(3600.0, 4012, "auf Wiedersehen")))
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client, backend = await opened(proxy)
        moves(proxy, config, after(what, config, proxy.backend.port))
        await dismissed(client, backend)
        await socketless(proxy)
        restored(proxy, config)


def renewed(what: str, config: ProxyConfig, port: int) -> ProxyConfig:
    """The configuration when something of it is another that open sockets do not rest on."""
    match what:
        case "certificate":
            other = msgspec.structs.replace(CERTIFICATE, not_after=CERTIFICATE.not_after + 1)
            return msgspec.structs.replace(config, certificates={"test/tls": other})
        case "unready":
            return changed(config, upstream=Upstream((Endpoint("127.0.0.1", port, "unready"), Endpoint("127.0.0.2", port))))
        case "weight":
            return changed(config, route={"websocket": Target((Share(SERVICE, 0),))})
        case "timeouts":
            return changed(config, route={"policies": (Timeouts(idle=7.0), closing())})
        case _:
            moved = msgspec.structs.replace(config.routes[ROUTE], id="ingress/test/a/1")
            first = msgspec.structs.replace(config.routes[ROUTE], path=Path("prefix", "/first"))
            return msgspec.structs.replace(config, routes={ROUTE: first, moved.id: moved})


@pytest.mark.parametrize("what", ["certificate", "unready", "weight", "timeouts", "number"])
async def test_change_that_takes_nothing_from_a_socket_leaves_it_open(what: str) -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing("now"))
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client, backend = await opened(proxy)
        then = renewed(what, config, proxy.backend.port)
        moves(proxy, config, then)
        await lives(client, backend)
        moves(proxy, then, config)
        await lives(client, backend)


RENUMBERED = "test/backend:81"


def with_new_number(config: ProxyConfig, *endpoints: Endpoint, tls: bool = False) -> ProxyConfig:
    """The Service's port has another number under the name that the rule uses."""
    target = Target((Share(RENUMBERED),))
    route = msgspec.structs.replace(config.routes[ROUTE], websocket=target, http=target)
    upstream = Upstream(endpoints or config.upstreams[SERVICE].endpoints, tls=tls)
    return msgspec.structs.replace(config, routes={ROUTE: route}, upstreams={RENUMBERED: upstream})


@pytest.mark.parametrize("mode", ["drain", "now", "keep"])
@pytest.mark.parametrize("tls", [False, True])
async def test_socket_stays_when_its_services_port_gets_another_number(mode: CloseMode, tls: bool) -> None:
    """The pod is the same. Counts, metrics and commands go by the new number, and so does what befalls the pod later."""
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing(mode))
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client, backend = await opened(proxy)
        (tunnel,) = proxy.runtime.tunnels
        moved = with_new_number(config, tls=tls)
        moves(proxy, config, moved)
        await lives(client, backend)
        assert tunnel.entry is not None
        assert (tunnel.entry.scheduled, tunnel.entry.unaffected) == (None, True)
        (pool,) = proxy.runtime.upstreams[RENUMBERED].ready
        assert (pool.sockets, pool.counter.sockets) == (1, 1)
        assert proxy.runtime.stats.route(ROUTE).labelled(WS_CONNECTIONS) == {SERVICE: 0, RENUMBERED: 1}
        assert proxy.runtime.closer.drain(SERVICE, QUICK) == 0
        if mode != "keep":
            moves(proxy, moved, with_new_number(config, Endpoint("127.0.0.2", 1)))
            await dismissed(client, backend)
            assert closes(proxy) == {ROUTE: {("4012", "proxy:endpoint_gone"): 1}}
        else:
            assert proxy.runtime.closer.drain(RENUMBERED, QUICK) == 1
            await dismissed(client, backend)
        await socketless(proxy)
        assert (pool.sockets, pool.counter.sockets) == (0, 0)
        assert proxy.runtime.stats.route(ROUTE).labelled(WS_CONNECTIONS) == {SERVICE: 0, RENUMBERED: 0}
        restored(proxy, config)


async def test_socket_whose_pod_is_not_behind_the_new_number_is_drained_and_the_other_stays() -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing())
    async with proxying(policies=policies) as proxy, another_backend() as other:
        config = config_for(proxy.backend.port, *policies)
        alone = changed(config, upstream=Upstream((Endpoint("127.0.0.1", other.port),)))
        both = changed(
            config, upstream=Upstream((Endpoint("127.0.0.1", proxy.backend.port), Endpoint("127.0.0.1", other.port, "unready")))
        )
        moves(proxy, config, alone)
        first, proxy.backend = proxy.backend, other
        going = await opened(proxy)
        proxy.backend = first
        moves(proxy, alone, both)
        staying = await opened(proxy)
        moves(proxy, both, with_new_number(config))
        await dismissed(*going)
        await lives(*staying)
        assert closes(proxy) == {ROUTE: {("4012", "proxy:backends_changed"): 1}}
        restored(proxy, config)


@contextlib.asynccontextmanager
async def another_backend() -> AsyncIterator[Backend]:
    backend = Backend()
    await backend.start()
    try:
        yield backend
    finally:
        await backend.gone()


async def test_socket_stays_when_its_rule_names_another_port_that_leads_to_the_same_pods() -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing())
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client, backend = await opened(proxy)
        edited = msgspec.structs.replace(
            with_new_number(config), upstreams={**config.upstreams, RENUMBERED: config.upstreams[SERVICE]}
        )
        moves(proxy, config, edited)
        await lives(client, backend)
        assert slots(proxy) == []
        restored(proxy, config)


async def test_handshake_under_way_while_the_number_changes_opens_a_socket_that_stays() -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing("now"))
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        moves(proxy, config, with_new_number(config))
        await backend.sends(SWITCH + b"\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        await lives(client, backend)
        restored(proxy, config)


async def test_route_that_comes_back_in_time_keeps_its_sockets() -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing(drain=Drain(over=3600.0)))
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client, backend = await opened(proxy)
        (tunnel,) = proxy.runtime.tunnels
        moves(proxy, config, without(config))
        assert tunnel.entry is not None
        assert tunnel.entry.scheduled is not None
        assert proxy.runtime.stats.unmatched.labelled(WS_CONNECTIONS) == {SERVICE: 1}
        moves(proxy, without(config), config)
        assert tunnel.entry.scheduled is None
        assert proxy.runtime.stats.unmatched.labelled(WS_CONNECTIONS) == {SERVICE: 0}
        assert proxy.runtime.stats.route(ROUTE).labelled(WS_CONNECTIONS) == {SERVICE: 1}
        await lives(client, backend)


async def test_sockets_of_a_route_that_is_gone_get_one_close_each_evenly_and_oldest_first() -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing(drain=Drain(0.5, 4012, "auf Wiedersehen")))
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        pairs = [await opened(proxy) for _ in range(20)]
        moves(proxy, config, without(config))
        times = slots(proxy)
        moves(proxy, without(config), without(config))
        assert slots(proxy) == times
        assert [late - early for early, late in itertools.pairwise(times)] == pytest.approx([0.025] * 19)
        await asyncio.gather(*(dismissed(*pair) for pair in pairs))
        await socketless(proxy)
        assert closes(proxy) == {"-": {("4012", "proxy:route_deleted"): 20}}
        restored(proxy, config)


def slots(proxy: Proxy) -> list[float]:
    """When each socket is to be closed, the oldest socket first."""
    found = [tunnel.entry for tunnel in sorted(proxy.runtime.tunnels, key=lambda tunnel: tunnel.opened)]
    return [entry.scheduled.at for entry in found if entry is not None and entry.scheduled is not None]


async def test_socket_that_opens_while_its_route_goes_is_drained_with_the_others() -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing())
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client = await proxy.client()
        await client.sends(UPGRADE + b"\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        moves(proxy, config, without(config))
        await backend.sends(SWITCH + b"\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        await dismissed(client, backend)
        await socketless(proxy)
        assert closes(proxy)["-"] == {("4012", "proxy:route_deleted"): 1}
        restored(proxy, config)


async def test_endpoint_that_is_killed_soon_is_left_two_seconds_before() -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing(drain=Drain(3600.0, 4012, "auf Wiedersehen")))
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client, backend = await opened(proxy)
        ending = Endpoint("127.0.0.1", proxy.backend.port, "draining", time.time() + 2.4)
        moves(proxy, config, changed(config, upstream=Upstream((ending,))))
        async with asyncio.timeout(1.5):
            await dismissed(client, backend)
        await socketless(proxy)
        restored(proxy, config)


async def test_new_sockets_avoid_a_terminating_endpoint_at_once() -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing("keep"))
    async with proxying(policies=policies) as proxy:
        other = Backend()
        await other.start()
        config = config_for(proxy.backend.port, *policies)
        ending, ready = Endpoint("127.0.0.1", proxy.backend.port, "draining"), Endpoint("127.0.0.1", other.port)
        moves(proxy, config, changed(config, upstream=Upstream((ending, ready))))
        first, proxy.backend = proxy.backend, other
        for _ in range(4):
            await opened(proxy)
        proxy.backend = first
        assert (first.count, other.count) == (0, 4)
        for peer in proxy.peers:
            await peer.gone()
        await socketless(proxy)
        await other.gone()
        restored(proxy, config)


async def test_socket_of_its_maximum_age_is_closed_with_the_drains_code() -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0, max_age=0.3), closing())
    async with proxying(policies=policies) as proxy:
        client, backend = await opened(proxy)
        await lives(client, backend)
        await dismissed(client, backend)
        await socketless(proxy)
        assert closes(proxy) == {ROUTE: {("4012", "proxy:max_age"): 1}}
        assert proxy.runtime.stats.route(ROUTE).value(WS_UNANSWERED_CLOSES) == 0


async def test_sockets_opened_together_grow_to_different_ages() -> None:
    async with proxying(policies=(Timeouts(connect=1.0, max_age=1000.0),)) as proxy:
        for _ in range(20):
            await opened(proxy)
        now = proxy.runtime.loop.time()
        ages = [tunnel.entry.age.at - now for tunnel in proxy.runtime.tunnels if tunnel.entry and tunnel.entry.age]
        assert len(set(ages)) == 20
        assert all(890 < age <= 1101 for age in ages)


async def test_object_whose_class_is_gone_is_told_apart_from_one_that_was_deleted() -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing("now"))
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client, backend = await opened(proxy)
        proxy.runtime.closer.classless = frozenset({"ingress/test/a"})
        moves(proxy, config, without(config))
        await dismissed(client, backend)
        await socketless(proxy)
        assert closes(proxy) == {"-": {("4012", "proxy:class_gone"): 1}}
        restored(proxy, config)


async def test_peer_that_never_answers_its_close_frame_is_cut_after_the_close_wait() -> None:
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing("now"))
    async with proxying(Settings(close_wait=0.3), policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        client, backend = await opened(proxy)
        moves(proxy, config, without(config))
        await client.sees(frame(8, FAREWELL))
        await client.ends()
        await backend.reads(6 + len(FAREWELL))
        await backend.ends()
        await socketless(proxy)
        assert proxy.runtime.stats.unmatched.value(WS_UNANSWERED_CLOSES) == 1
        restored(proxy, config)


async def test_what_has_a_backend_no_more_is_another_rule() -> None:
    """A rule's number passes to another rule: the sockets of the one that went are closed, the other's stay."""
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0), closing())
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        first = config.routes[ROUTE]
        ws, root = (msgspec.structs.replace(first, path=Path("prefix", path)) for path in ("/ws", "/"))
        both = msgspec.structs.replace(config, routes={ROUTE: ws, "ingress/test/a/1": renumbered(root, 1)})
        moves(proxy, config, both)
        client, backend = await opened(proxy)
        moves(proxy, both, msgspec.structs.replace(config, routes={ROUTE: root}))
        await dismissed(client, backend)
        await socketless(proxy)
        assert closes(proxy) == {"-": {("4012", "proxy:rule_gone"): 1}}
        restored(proxy, config)


def renumbered(route: Route, number: int) -> Route:
    return msgspec.structs.replace(route, id=f"ingress/test/a/{number}", index=number)


async def test_nothing_of_sockets_that_were_drained_waits_for_a_collector() -> None:
    """See `uncollected`, which `proxying` ends with."""
    policies: tuple[Policy, ...] = (Timeouts(connect=1.0, max_age=500.0), closing())
    async with proxying(policies=policies) as proxy:
        config = config_for(proxy.backend.port, *policies)
        for _ in range(2):
            pairs = [await opened(proxy) for _ in range(5)]
            moves(proxy, config, without(config))
            await asyncio.gather(*(dismissed(*pair) for pair in pairs))
            await socketless(proxy)
            restored(proxy, config)
