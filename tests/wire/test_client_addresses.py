"""A client has one address, however load balancers write it: for lists, limits, hashing, the log, and in fields for backends."""

import dataclasses
import ipaddress
import re
import socket

import pytest
from wire.harness import Proxy, proxying
from wire.logs import logging_of
from wire.several import at, backends, get, serving
from wire.verbs import UPGRADE, opened, told

from proxy.http.addresses import MAX_HOPS, packed
from proxy.listeners.accept import Listener
from proxy.model.policy import ClientAddresses, Connections, HashOn, Policy, Rate
from proxy.settings import Settings
from proxy.websocket.socket_rows import describe

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n"
TRUSTING = Settings(trusted_proxies=tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "10.0.0.0/8", "fd00::/8", "fe80::/10"))))
V4, V6 = "203.0.113.7", "2001:db8::7"
FORMS = [
    *((form, V4) for form in ("203.0.113.7", "203.0.113.7:51234", "::ffff:203.0.113.7", "[::ffff:203.0.113.7]:51234")),
    *((form, V4) for form in ("::FFFF:CB00:7107", "203.0.113.7,::ffff:10.1.2.3", "192.0.2.1, 203.0.113.7:1\t,10.1.2.3:443")),
    *(
        (form, V4)
        for form in (
            "203.0.113.7, , ,10.9.9.9,",
            "unknown, 203.0.113.7, [fd00::1]:80, fe80::1%eth0",
            "203.0.113.7, [fe80::2%25e]:1",
        )
    ),
    *((form, V6) for form in ("2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:51234", "2001:0DB8:0:0:0::0007", "2001:db8::7%eth0")),
]
NAMELESS = [
    "unknown",
    "_hidden",
    "203.0.113.7:",
    "203.0.113.7:x",
    "203.0.113.7:123456",
    "[2001:db8::7",
    "2001:db8::7]:1",
    "203.0.113",
]
NAMELESS += ["2001:db8::7:51234:1:2:3:4", '"203.0.113.7"', "for=203.0.113.7", "203.0.113.7 10.1.2.3", "[203.0.113.7]", "\xe9", ""]
NAMELESS += ["2001:db8::7%", "[2001:db8::7]x", "9" * 4000, ",", " "]


def behind(chain: str) -> bytes:
    return b"X-Forwarded-For: " + chain.encode("latin-1") + b"\r\n"


def real_ip(head: bytes) -> str:
    found = re.findall(rb"\r\nX-Real-IP: ([^\r]*)\r\n", head)
    assert len(found) == 1, head
    return str(found[0].decode())


async def seen_as(proxy: Proxy, chain: str) -> tuple[str, str, str, str]:
    """The client's address: for the backend, in the log of a request and of a socket, and in the list of sockets."""
    async with logging_of(proxy) as log:
        head, _, _ = await proxy.passes(GET + behind(chain) + b"\r\n")
        request = await log.next()
        client, backend = await opened(proxy, behind(chain))
        socket_open = await log.next()
        (tunnel,) = proxy.runtime.tunnels
        listed = describe(tunnel, 0.0).client
        client.resets()
        await backend.rest()
        await log.next()
    return real_ip(head), request["client"], socket_open["client"], listed


@pytest.mark.parametrize(("chain", "address"), FORMS)
async def test_client_behind_trusted_proxies_has_one_address_everywhere(chain: str, address: str) -> None:
    async with proxying(TRUSTING) as proxy:
        assert await seen_as(proxy, chain) == (address,) * 4


@pytest.mark.parametrize("chain", NAMELESS)
async def test_hop_that_is_no_address_leaves_the_last_trusted_one(chain: str) -> None:
    async with proxying(TRUSTING) as proxy:
        assert await seen_as(proxy, chain) == ("127.0.0.1",) * 4
        if chain.strip(" ,"):
            assert await seen_as(proxy, f"{V4}, {chain}, 10.1.2.3:80") == ("10.1.2.3",) * 4


@pytest.mark.parametrize(("chain", "address"), FORMS)
async def test_lists_go_by_the_address_and_not_by_how_it_is_written(chain: str, address: str) -> None:
    for policy, status in ((ClientAddresses(allow=(address,)), 204), (ClientAddresses(deny=(address,)), 403)):
        async with proxying(TRUSTING, (policy,)) as proxy:
            head = GET + behind(chain) + b"\r\n"
            found = (await proxy.passes(head))[1] if status == 204 else (await told(proxy, head))[0]

        assert found == status


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        (Connections(per_client=1), {}),
        (Rate("handshakes", rate=0.001, burst=1), {}),
        (Rate("requests", rate=0.001, burst=1, upgrades_only=False), {}),
        (Connections(total=99), {"max_connections_per_client": 1}),
    ],
)
async def test_limits_go_by_the_address_and_not_by_how_it_is_written(policy: Policy, settings: dict[str, int]) -> None:
    """Whoever opens another connection to the load balancer, and so has another port, is the same client."""
    async with proxying(Settings(trusted_proxies=TRUSTING.trusted_proxies, **settings), (policy,)) as proxy:  # type: ignore[arg-type]
        for first in (V4, V6):
            await opened(proxy, behind(first))
        statuses = {chain: (await told(proxy, UPGRADE + behind(chain) + b"\r\n"))[0] for chain, _ in FORMS}
        await opened(proxy, behind("203.0.113.8:51234"))

    assert statuses == dict.fromkeys(statuses, 429)


async def test_hash_goes_by_the_address_and_not_by_how_it_is_written() -> None:
    async with proxying(TRUSTING) as proxy, backends(5) as five:
        proxy.serves(serving(*(at(one.port) for one in five), policies=(HashOn("client-ip"),), balancing="hash"))
        found = {(address, (await get(proxy, "/", f"X-Forwarded-For: {chain}"))[2]) for chain, address in FORMS}

    assert len(found) == 2


@pytest.mark.parametrize("trusted", ["127.0.0.0/8", "::ffff:127.0.0.0/104"])
@pytest.mark.parametrize("chain", [f"{V4}:51234", f"{V4}, ::ffff:127.1.2.3", f"{V4}, 127.9.9.9:1"])
async def test_peer_of_a_dual_stack_socket_is_trusted_as_ipv4(trusted: str, chain: str) -> None:
    settings = Settings(trusted_proxies=(ipaddress.ip_network(trusted),))
    async with proxying(settings, (ClientAddresses(allow=(V4,)),)) as proxy:
        with socket.socket(socket.AF_INET6) as listening:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listening.bind(("::", 0))
            listening.listen()
            listening.setblocking(False)
            listener = Listener(proxy.runtime, listening, "http", 80)
            listener.start()
            proxy.port = listening.getsockname()[1]
            head, status, _ = await proxy.passes(GET + behind(chain) + b"\r\n")
            listener.pause()

    assert (status, real_ip(head)) == (204, V4)
    assert f"X-Forwarded-For: {chain}, 127.0.0.1\r\n".encode() in head


@pytest.mark.parametrize("upgrade", [False, True])
async def test_real_ip_that_a_client_sends_is_nobodys_address(upgrade: bool) -> None:
    """The load balancer sets X-Forwarded-For and lets the client's own X-Real-IP pass."""
    claimed = b"X-Real-IP: 10.0.0.1\r\nx_real_ip: 10.0.0.2\r\n"
    async with proxying(TRUSTING, (ClientAddresses(allow=(f"{V4}/32",)),)) as proxy:
        if upgrade:
            client = await proxy.client()
            await client.sends(UPGRADE + claimed + behind(V4) + b"\r\n")
            backend = await proxy.backend.accepts()
            head = await backend.head()
            client.resets()
        else:
            head = (await proxy.passes(GET + claimed + behind(V4) + b"\r\n"))[0]
        refused = (await told(proxy, GET + b"X-Real-IP: 203.0.113.7\r\n" + behind("192.0.2.1") + b"\r\n"))[0]

    assert real_ip(head) == V4
    assert b"10.0.0." not in head
    assert refused == 403


@pytest.mark.parametrize("fields", [b"X-Forwarded-For:\r\n", b"X-Forwarded-For: \t \r\nX-Forwarded-For:\r\n"])
async def test_empty_forwarded_for_leaves_the_peer(fields: bytes) -> None:
    async with proxying(TRUSTING, (ClientAddresses(allow=("127.0.0.1",)),)) as proxy:
        head, status, _ = await proxy.passes(GET + fields + b"\r\n")

    assert (status, real_ip(head)) == (204, "127.0.0.1")
    assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in head


async def test_hops_of_several_fields_are_one_list() -> None:
    async with proxying(TRUSTING) as proxy:
        head, _, _ = await proxy.passes(GET + behind("192.0.2.1") + behind(f"{V4}:1") + behind("10.0.0.1") + b"\r\n")

    assert real_ip(head) == V4
    assert b"\r\nX-Forwarded-For: 192.0.2.1, 203.0.113.7:1, 10.0.0.1, 127.0.0.1\r\n" in head


async def test_sixty_kilobytes_of_hops_are_read_only_as_far_as_trust_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bound each request of one client would cost thousands of look-ups."""
    asked: list[str] = []
    longest = ", ".join(["10.1.2.3"] * 6000)

    def counting(text: str) -> bytes | None:
        asked.append(text)
        return packed(text)

    async with proxying(TRUSTING) as proxy:
        monkeypatch.setattr("proxy.http.addresses.packed", counting)
        counts = []
        for chain in (longest, f"{longest}, {V4}", "," * 60_000, "x" * 60_000):
            asked.clear()
            head, _, _ = await proxy.passes(GET + behind(chain) + b"\r\n")
            counts.append((len(asked), real_ip(head)))
        await proxy.is_innocent()

    assert [address for _, address in counts] == ["10.1.2.3", V4, "127.0.0.1", "127.0.0.1"]
    assert max(count for count, _ in counts) <= MAX_HOPS + 4  # whoever asks for the client's network reads its address again


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        (Connections(per_client=2), Settings()),
        (Rate("handshakes", rate=0.001, burst=2), Settings()),
        (Rate("requests", rate=0.001, burst=2, upgrades_only=False), Settings()),
        (Connections(total=99), Settings(max_connections_per_client=2)),
    ],
)
async def test_limit_counts_a_whole_ipv6_network_as_one_client(policy: Policy, settings: Settings) -> None:
    """One client has 2**64 addresses to come from; whoever is in the next network is somebody else."""
    settings = Settings(trusted_proxies=TRUSTING.trusted_proxies, max_connections_per_client=settings.max_connections_per_client)
    async with proxying(settings, (policy,)) as proxy:
        for attacker in ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"):
            await opened(proxy, behind(attacker))
        refused = [
            (await told(proxy, UPGRADE + behind(f"2001:db8:0:1:{number:x}::{number:x}") + b"\r\n"))[0] for number in range(1, 6)
        ]
        for innocent in ("2001:db8:0:2::1", "2001:db8::1", "203.0.113.7"):
            await opened(proxy, behind(innocent))

    assert refused == [429] * 5


async def test_lists_exempt_networks_and_the_log_go_by_whole_ipv6_addresses() -> None:
    policies: tuple[Policy, ...] = (
        Connections(per_client=1, exempt=("2001:db8::1/128",)),
        ClientAddresses(deny=("2001:db8::bad/128",)),
    )
    async with proxying(TRUSTING, policies) as proxy, logging_of(proxy) as log:
        for _ in range(2):
            await opened(proxy, behind("2001:db8::1"))
            await log.next()
        await opened(proxy, behind("2001:db8::2"))
        line = await log.next()
        statuses = [(await told(proxy, UPGRADE + behind(f"2001:db8::{last}") + b"\r\n"))[0] for last in ("bad", "3")]

    assert (line["client"], statuses) == ("2001:db8::2", [403, 429])


CLAIMS = (
    *(
        b"X-Scheme",
        b"x-original-forwarded-for",
        b"X-Forwarded-Scheme",
        b"X-Forwarded-Ssl",
        b"X-FORWARDED-PROTOCOL",
        b"X-Forwarded-User",
    ),
)
UNDERSCORED = (b"X_Scheme", b"X_Original_Forwarded_For", b"X-Original_Forwarded-For", b"x_forwarded_scheme", b"X_Forwarded_Ssl")
UNDERSCORED += (b"X-Forwarded-Client_Cert",)


@pytest.mark.parametrize("head", [GET, UPGRADE])
async def test_claims_of_a_stranger_reach_no_backend(head: bytes) -> None:
    claims = b"".join(name + b": spoofed\r\n" for name in (*CLAIMS, *UNDERSCORED))
    async with proxying() as proxy:
        client = await proxy.client()
        await client.sends(head + claims + b"X-Scheme-Of-Mine: kept\r\n\r\n")
        seen = await (await proxy.backend.accepts()).head()
        client.resets()

    assert b"spoofed" not in seen
    assert b"\r\nX-Scheme-Of-Mine: kept\r\n" in seen


async def test_claims_of_a_trusted_peer_pass_but_not_disguised() -> None:
    async with proxying(TRUSTING) as proxy:
        claims = b"".join(name + b": said\r\n" for name in CLAIMS) + b"".join(name + b": spoofed\r\n" for name in UNDERSCORED)
        head, _, _ = await proxy.passes(GET + claims + b"X-Scheme: twice\r\n\r\n")

    for name in CLAIMS:
        said = b"said, twice" if name == b"X-Scheme" else b"said"
        assert head.lower().count(b"\r\n%b: %b\r\n" % (name.lower(), said)) == 1
    assert b"spoofed" not in head


@pytest.mark.parametrize("settings", [Settings(), TRUSTING])
@pytest.mark.parametrize("name", [b"Proxy", b"proxy", b"PROXY"])
async def test_field_that_cgi_takes_for_its_own_proxy_reaches_no_backend(settings: Settings, name: bytes) -> None:
    """CVE-2016-5385 and its kin, on every way in: a first head, the same head again, an upgrade, one that the parser judges."""
    evil = name + b": http://evil.test:3128\r\n"
    async with proxying(settings) as proxy:
        client = await proxy.client()
        heads = []
        await client.sends(GET + evil + b"\r\n")
        backend = await proxy.backend.accepts()
        for follows in (GET + evil, GET + evil + b"If: \x80\r\nServer: a\r\nServer: b\r\n", UPGRADE + evil):
            heads.append(await backend.head())
            await backend.sends(b"HTTP/1.1 204 No Content\r\n\r\n")
            await client.answer()
            await client.sends(follows + b"\r\n")
        heads.append(await backend.head())
        client.resets()

    assert [b"evil" in head or b"\r\nproxy:" in head.lower() for head in heads] == [False] * 4


FORWARDING = dataclasses.replace(TRUSTING, forwarded=True)
PEER = 'for=127.0.0.1;host="a.test";proto=http'


async def forwarded_for(settings: Settings, fields: bytes) -> list[str]:
    """The values of Forwarded that the backend gets; X-Real-IP names the same client as its first element does."""
    async with proxying(settings) as proxy:
        head, _, _ = await proxy.passes(GET + fields + b"\r\n")
    found = [value.decode() for value in re.findall(rb"\r\nForwarded: ([^\r]*)\r\n", head)]
    for value in found if b"X-Forwarded-For" in fields or not fields else ():
        first = value.split(",")[0].split(";")[0].removeprefix("for=").strip('"[]')
        assert first == real_ip(head)
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"", PEER),
        (behind(V4), f"for={V4}, {PEER}"),
        (behind(f"{V6}"), f'for="[{V6}]", {PEER}'),
        (behind(f"10.0.0.1, 192.0.2.1, {V4}:51234, 10.9.9.9"), f"for={V4}, for=10.9.9.9, {PEER}"),
        (behind(f"{V4}, unknown, 10.9.9.9"), f"for=10.9.9.9, {PEER}"),
        (behind(V4) + b"Forwarded: for=10.0.0.1;by=evil\r\n", f"for={V4}, {PEER}"),
        (b"Forwarded: for=192.0.2.1\r\n", f"for=192.0.2.1, {PEER}"),
        (b"X-Forwarded-Proto: https\r\n", PEER.replace("http", "https")),
        (
            behind(V4) + b'X-Forwarded-Proto: https\r\nX-Forwarded-Host: w"w\\w\r\n',
            f'for={V4};host="w\\"w\\\\w";proto=https, {PEER}',
        ),
        (behind(V4) + b"X-Forwarded-Proto: h;for=10.0.0.1\r\n", f"for={V4}, {PEER}"),
    ],
    ids=str,
)
async def test_forwarded_names_the_client_that_real_ip_names_and_every_hop_behind_it(fields: bytes, expected: str) -> None:
    """RFC 7239, 7.4. What a client claims to have come by is not believed because a load balancer lets it pass."""
    assert await forwarded_for(FORWARDING, fields) == [expected]


async def test_forwarded_of_a_client_that_nobody_trusts_says_nothing() -> None:
    claimed = b"Forwarded: for=10.0.0.1\r\n" + behind("10.0.0.1")
    async with proxying(Settings(forwarded=True)) as proxy:
        head, _, _ = await proxy.passes(GET + claimed + b"\r\n")

    assert re.findall(rb"\r\nForwarded: ([^\r]*)\r\n", head) == [PEER.encode()]


async def test_forwarded_of_a_trusted_peer_passes_where_it_is_not_ours_to_write() -> None:
    assert await forwarded_for(TRUSTING, b"Forwarded: for=192.0.2.1\r\n") == ["for=192.0.2.1"]
