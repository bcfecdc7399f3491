"""421: which connections are the wrong ones for a request's host, and that changes of certificates make none of them wrong.

Real TLS through the real listener; the host's certificates change while the connection is open.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping

import msgspec
import pytest
from wire.harness import AUTHORITY, WAIT, Peer, Proxy, config_for, proxying

from proxy.model import wire
from proxy.model.config import Certificate, ProxyConfig
from proxy.model.sensitive import Sensitive
from proxy.settings import Settings
from proxy.tls.certificates import CertificateStore

CLIENTS_OF_A_CA = "clients verified by CA 5c1f"
MISDIRECTED = (421, "close")
SERVED = (200, None)


def issue(*names: str) -> Certificate:
    issued = AUTHORITY.issue_cert(*names)
    return Certificate(
        b"".join(one.bytes() for one in issued.cert_chain_pems), Sensitive(issued.private_key_pem.bytes()), time.time() + 86400
    )


A, A_RENEWED, B, WILD = issue("a.x.test"), issue("a.x.test"), issue("b.x.test"), issue("*.x.test")
WILD_COPY = Certificate(WILD.chain.replace(b"\n", b"\r\n") + b"\n", Sensitive(WILD.key.data + b"\n"), WILD.not_after)


def with_certificates(
    port: int, certificates: Mapping[str, Certificate], hosts: Mapping[str, str], default: str | None = None
) -> ProxyConfig:
    plain = config_for(port)
    (route,) = plain.routes.values()
    return msgspec.structs.replace(
        plain,
        routes={route.id: msgspec.structs.replace(route, hosts=("a.x.test", "b.x.test", "a.test"))},
        certificates=certificates,
        tls_hosts=hosts,
        default_certificate=default,
    )


def changes(proxy: Proxy, old: ProxyConfig, new: ProxyConfig) -> None:
    """Put a configuration in another's place, as the sync does."""
    before, after = wire.encode_config(old).entries, wire.encode_config(new).entries
    changed = {key: wire.decode_entry(key, data) for key, (data, _) in after.items()}
    proxy.runtime.apply(changed, [key for key in before if key not in after])


async def connects(proxy: Proxy, name: str | None) -> Peer:
    """Make a TLS connection for a server name, whatever certificate it shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with asyncio.timeout(WAIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.tls_port, ssl=context, server_hostname=name or "")
    peer = Peer(reader, writer)
    proxy.peers.append(peer)
    return peer


async def asks(proxy: Proxy, client: Peer, host: str) -> tuple[int, str | None]:
    """Send one request; give the status, and what Connection says. A 421 ends the connection, and no backend sees its request."""
    count = proxy.backend.count
    await client.sends(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answering = asyncio.create_task(client.answer())
    accepting = asyncio.create_task(proxy.backend.accepts())
    await asyncio.wait((answering, accepting), return_when=asyncio.FIRST_COMPLETED)
    if not answering.done():
        backend = await accepting
        await backend.head()
        await backend.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    status, fields, _ = await answering
    accepting.cancel()
    if status == 421:
        assert proxy.backend.count == count
        await client.ends()
    return status, fields.get("connection")


WILDCARD = ({"ns/wild": WILD}, {"*.x.test": "ns/wild"})
OWN = ({"ns/a": A}, {"a.x.test": "ns/a"})
NONE: tuple[dict[str, Certificate], dict[str, str]] = ({}, {})
CHANGES = {
    "another Secret": (OWN, ({"ns/a": A, "ns/other": A_RENEWED}, {"a.x.test": "ns/other"})),
    "renewed": (OWN, ({"ns/a": A_RENEWED}, {"a.x.test": "ns/a"})),
    "the Secret comes later": (NONE, OWN),
    "the Secret is deleted": (OWN, NONE),
    "the tls section goes": (OWN, ({"ns/a": A}, {})),
    "an own Secret where a wildcard's served": (
        WILDCARD,
        ({"ns/wild": WILD, "ns/a": A}, {"*.x.test": "ns/wild", "a.x.test": "ns/a"}),
    ),
    "a wildcard's where an own Secret served": (({**OWN[0], **WILDCARD[0]}, {**OWN[1], **WILDCARD[1]}), WILDCARD),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_connection_goes_on_for_its_own_host_whatever_becomes_of_certificates(change: str) -> None:
    async with proxying() as proxy:
        before, after = (with_certificates(proxy.backend.port, *one) for one in CHANGES[change])
        changes(proxy, config_for(proxy.backend.port), before)
        client = await connects(proxy, "a.x.test")
        found = [await asks(proxy, client, "a.x.test")]
        changes(proxy, before, after)
        found += [await asks(proxy, client, host) for host in ("a.x.test", "A.X.Test:443", "a.x.test.")]

        assert found == [SERVED] * 4


@pytest.mark.parametrize("name", ["a.x.test", "other.x.test"])
async def test_connection_serves_every_host_that_would_get_its_certificate_byte_for_byte(name: str) -> None:
    """Copies of one certificate in two namespaces, laid out differently, are one; a copy with another chain behind it too."""
    longer = Certificate(WILD.chain + B.chain, WILD.key, WILD.not_after)
    certificates = {"one/wild": WILD, "two/wild": WILD_COPY, "three/wild": longer}
    hosts = {"*.x.test": "one/wild", "b.x.test": "two/wild", "a.test": "three/wild"}
    async with proxying() as proxy:
        changes(proxy, config_for(proxy.backend.port), with_certificates(proxy.backend.port, certificates, hosts))
        client = await connects(proxy, name)

        assert [await asks(proxy, client, host) for host in ("a.x.test", "b.x.test", "a.test")] == [SERVED] * 3


async def test_connection_is_misdirected_for_a_host_with_another_certificate_and_ends() -> None:
    certificates, hosts = {"ns/a": A, "ns/b": B}, {"a.x.test": "ns/a", "b.x.test": "ns/b"}
    async with proxying() as proxy:
        changes(proxy, config_for(proxy.backend.port), with_certificates(proxy.backend.port, certificates, hosts))
        found = {
            (name, host): await asks(proxy, await connects(proxy, name), host)
            for name in ("a.x.test", "unknown.test", None)
            for host in ("a.x.test", "b.x.test", "a.test")
        }

    assert {pair for pair, answer in found.items() if answer == MISDIRECTED} == {
        ("a.x.test", "b.x.test"),
        ("a.x.test", "a.test"),
        ("unknown.test", "a.x.test"),
        ("unknown.test", "b.x.test"),
    }
    assert {answer for answer in found.values() if answer != MISDIRECTED} == {SERVED}


async def test_connection_is_judged_by_the_certificate_that_it_got_and_the_one_that_the_host_would_get_now() -> None:
    """Both served by the wildcard; then the other host gets its own, then the wildcard is renewed, then it is back."""
    port_hosts = {"*.x.test": "ns/wild"}
    async with proxying() as proxy:
        port = proxy.backend.port
        first = with_certificates(port, {"ns/wild": WILD}, port_hosts)
        own = with_certificates(port, {"ns/wild": WILD, "ns/b": B}, {**port_hosts, "b.x.test": "ns/b"})
        renewed = with_certificates(port, {"ns/wild": issue("*.x.test")}, port_hosts)
        found = []
        changes(proxy, config_for(port), first)
        for old, new in ((first, own), (own, renewed), (renewed, first)):
            changes(proxy, old, first)
            client = await connects(proxy, "a.x.test")
            found.append(await asks(proxy, client, "b.x.test"))
            changes(proxy, first, new)
            found.append(await asks(proxy, client, "b.x.test"))

    assert found == [SERVED, MISDIRECTED, SERVED, MISDIRECTED, SERVED, SERVED]


async def test_certificate_that_openssl_refuses_is_not_the_one_that_a_connection_got() -> None:
    """The connection got the one that stands in for it; the host that has that one is served, its own host anyway."""
    broken = Certificate(A.chain, B.key, A.not_after)
    async with proxying() as proxy:
        new = with_certificates(
            proxy.backend.port,
            {"ns/broken": broken, "ns/a": A, "ns/default": WILD},
            {"a.test": "ns/broken", "a.x.test": "ns/a"},
            "ns/default",
        )
        changes(proxy, config_for(proxy.backend.port), new)
        found = {host: await asks(proxy, await connects(proxy, "a.test"), host) for host in ("a.test", "b.x.test", "a.x.test")}

    assert found == {"a.test": SERVED, "b.x.test": SERVED, "a.x.test": MISDIRECTED}


async def test_host_that_asks_of_tls_what_a_connection_did_not_prove_is_not_served_on_it() -> None:
    """The policy is put into the store alone: nothing of the configuration makes one yet."""
    certificates, hosts = {"ns/wild": WILD}, {"*.x.test": "ns/wild"}
    asked = frozenset({CLIENTS_OF_A_CA})
    async with proxying() as proxy:
        changes(proxy, config_for(proxy.backend.port), with_certificates(proxy.backend.port, certificates, hosts))
        store = proxy.runtime.certificates
        assert isinstance(store, CertificateStore)
        open_before = [await connects(proxy, name) for name in ("a.x.test", "b.x.test", None)]
        store.apply(certificates, hosts, None, {"a.x.test": asked})
        proved = [await connects(proxy, "a.x.test") for _ in range(2)]
        found = [await asks(proxy, client, "b.x.test") for client in open_before]
        found += [await asks(proxy, client, "a.x.test") for client in (*open_before, proved[0])]
        store.apply(certificates, hosts, None, {"*.x.test": asked})
        found += [await asks(proxy, client, "b.x.test") for client in proved]
        store.apply(certificates, hosts, None, {"a.x.test": asked | {"TLS 1.3"}})
        found += [await asks(proxy, client, "a.x.test") for client in proved[:1]]
        unasked = await connects(proxy, "a.x.test")
        store.apply(certificates, hosts, None)
        found += [await asks(proxy, client, "a.x.test") for client in (unasked, proved[1])]

    assert found == [
        *[SERVED] * 3,
        # Its own name, another's, none: the handshake asked for no certificate of the client.
        *[MISDIRECTED] * 3,
        SERVED,
        *[SERVED] * 2,
        MISDIRECTED,
        *[SERVED] * 2,
    ]


async def test_host_that_strict_sni_would_refuse_is_not_served_on_a_connection_for_it() -> None:
    async with proxying(Settings(strict_sni=True)) as proxy:
        before, after = (with_certificates(proxy.backend.port, *one, "ns/d") for one in (OWN, NONE))
        before, after = (msgspec.structs.replace(one, certificates={**one.certificates, "ns/d": WILD}) for one in (before, after))
        changes(proxy, config_for(proxy.backend.port), before)
        kept, unknown = await connects(proxy, "a.x.test"), await connects(proxy, "a.x.test")
        found = [await asks(proxy, kept, "a.x.test"), await asks(proxy, unknown, "b.x.test")]
        nameless = await connects(proxy, None)
        found.append(await asks(proxy, nameless, "b.x.test"))
        changes(proxy, before, after)
        found.append(await asks(proxy, kept, "a.x.test"))

    assert found == [SERVED, MISDIRECTED, SERVED, MISDIRECTED]


async def test_plain_connection_is_never_misdirected() -> None:
    async with proxying() as proxy:
        certificates, hosts = {"ns/a": A, "ns/b": B}, {"a.x.test": "ns/a", "b.x.test": "ns/b"}
        changes(proxy, config_for(proxy.backend.port), with_certificates(proxy.backend.port, certificates, hosts))
        store = proxy.runtime.certificates
        assert isinstance(store, CertificateStore)
        store.apply(certificates, hosts, None, {"a.x.test": frozenset({CLIENTS_OF_A_CA})})
        client = await proxy.client()

        assert [await asks(proxy, client, host) for host in ("a.x.test", "b.x.test")] == [SERVED] * 2
