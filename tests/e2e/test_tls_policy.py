"""TLS policy: what a session ticket is good for, and which versions and ciphers a real `sluice-proxy` speaks."""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import msgspec
import pytest
import trustme
from e2e.harness import HOST, Hub, Proxy, backend, config, issue, proxy, trusting

from proxy.model.config import ProxyConfig

OTHER = "other.example.com"
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def two_hosts(port: int, authority: trustme.CA) -> ProxyConfig:
    """Two hosts with a certificate each."""
    plain = config(port, issue(authority, HOST))
    (route,) = plain.routes.values()
    return msgspec.structs.replace(
        plain,
        routes={route.id: msgspec.structs.replace(route, hosts=(HOST, OTHER))},
        certificates={**plain.certificates, "default/other-tls": issue(authority, OTHER)},
        tls_hosts={**plain.tls_hosts, OTHER: "default/other-tls"},
    )


def visit(
    context: ssl.SSLContext, port: int, name: str, host: str, session: ssl.SSLSession | None = None
) -> tuple[int, bool, ssl.SSLSession | None]:
    """Ask for `host` over a connection made for `name`; give the status, whether the session was resumed, and its successor."""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=name, session=session) as secure,
    ):
        secure.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := secure.recv(65536):
            answer += data
        return int(answer.split(b" ")[1]), bool(secure.session_reused), secure.session


@VERSIONS
async def test_ticket_of_one_host_opens_no_other_hosts_door(hub: Hub, version: ssl.TLSVersion) -> None:
    """All hosts without a policy of their own are one scope of tickets; what is served is what the server name asks for."""
    authority = trustme.CA()
    context = trusting(authority)
    context.maximum_version = version
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(two_hosts(port, authority))
        await one.ready()
        _, _, session = await asyncio.to_thread(visit, context, one.https, HOST, HOST)
        found = {
            (name, host): (await asyncio.to_thread(visit, context, one.https, name, host, session))[:2]
            for name in (HOST, OTHER)
            for host in (HOST, OTHER)
        }

    assert found == {
        (HOST, HOST): (200, True),
        (HOST, OTHER): (421, True),
        (OTHER, HOST): (421, True),
        (OTHER, OTHER): (200, True),
    }


@VERSIONS
async def test_ticket_does_not_stand_in_for_a_name_under_strict_sni(hub: Hub, version: ssl.TLSVersion) -> None:
    authority = trustme.CA()
    context = trusting(authority)
    context.maximum_version = version
    async with backend() as port, proxy(hub, "--workers", "1", "--strict-sni") as one:
        hub.publish(two_hosts(port, authority))
        await one.ready()
        _, _, session = await asyncio.to_thread(visit, context, one.https, HOST, HOST)
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            await asyncio.to_thread(visit, context, one.https, "nobody.example.com", HOST, session)


@VERSIONS
async def test_ticket_of_another_proxy_costs_a_full_handshake_and_nothing_else(hub: Hub, version: ssl.TLSVersion) -> None:
    authority = trustme.CA()
    context = trusting(authority)
    context.maximum_version = version
    async with backend() as port, proxy(hub, "--workers", "1") as one, proxy(hub, "--workers", "1") as two:
        hub.publish(two_hosts(port, authority))
        await one.ready()
        await two.ready()
        _, _, session = await asyncio.to_thread(visit, context, one.https, HOST, HOST)
        status, resumed, _ = await asyncio.to_thread(visit, context, two.https, HOST, HOST, session)

    assert (status, resumed) == (200, False)


async def test_kept_connection_outlives_every_change_of_its_hosts_certificate_and_serves_no_other_host(hub: Hub) -> None:
    """Made before the Secret came; then that comes, is renewed, gives way to another, and goes."""
    authority = trustme.CA()
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        plain = two_hosts(port, authority)
        renewed = {**plain.certificates, "default/shop-tls": issue(authority, HOST)}
        replaced = {**renewed, "default/new-tls": issue(authority, HOST)}
        bare = msgspec.structs.replace(plain, certificates={}, tls_hosts={})
        hub.publish(bare)
        await one.ready()
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", one.https, ssl=anyone, server_hostname=HOST)

            async def ask(host: str) -> tuple[bytes, bytes]:
                writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                return head[9:12], await reader.readexactly(5)

            found = [await ask(HOST)]
            for config_now in (
                plain,
                msgspec.structs.replace(plain, certificates=renewed),
                msgspec.structs.replace(plain, certificates=replaced, tls_hosts={**plain.tls_hosts, HOST: "default/new-tls"}),
                bare,
                plain,
            ):
                hub.publish(config_now)
                await hub.acknowledged()
                found.append(await ask(HOST))
            writer.write(f"GET / HTTP/1.1\r\nHost: {OTHER}\r\n\r\n".encode())
            misdirected = await reader.read()  # until the connection ends
            writer.close()

    assert found == [(b"200", b"hello")] * 6
    assert misdirected.startswith(b"HTTP/1.1 421 ")
    assert b"\r\nConnection: close\r\n" in misdirected


async def s_client(one: Proxy, *arguments: str, says: str = REQUEST) -> tuple[int, str]:
    """Run OpenSSL's own client, at the lowest security level so that it offers all it has; give its status and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(
            "openssl",
            "s_client",
            "-connect",
            f"127.0.0.1:{one.https}",
            "-servername",
            HOST,
            "-cipher",
            "ALL:COMPLEMENTOFALL:@SECLEVEL=0",
        ),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate(says.encode())
    assert process.returncode is not None
    return process.returncode, out.decode("latin-1")


WEAK = {
    "TLS 1.0": ("-tls1",),
    "TLS 1.1": ("-tls1_1",),
    "no encryption": ("-tls1_2", "-cipher", "eNULL:@SECLEVEL=0"),
    "no certificate": ("-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"),
    "no forward secrecy": ("-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"),
    "CBC with SHA-1": ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:@SECLEVEL=0"),
    "CBC with SHA-2": ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0"),
    "short tags": ("-tls1_2", "-cipher", "AESCCM8:@SECLEVEL=0"),
}
STRONG = {
    "TLS 1.2": ("-tls1_2",),
    "TLS 1.3": ("-tls1_3",),
    "AES-128": ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    "ChaCha20": ("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    "TLS 1.3 with ChaCha20": ("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"),
    "all versions": (),
}


async def test_old_versions_and_weak_ciphers_are_refused_and_everything_sound_is_served(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port, issue(trustme.CA(key_type=trustme.KeyType.ECDSA), HOST)))
        await one.ready()
        refused = {name: await s_client(one, "-quiet", *arguments) for name, arguments in WEAK.items()}
        served = {name: await s_client(one, "-quiet", *arguments) for name, arguments in STRONG.items()}
        _, metrics = await one.ask("/metrics")

    assert [name for name, (status, said) in refused.items() if status == 0 or "hello" in said] == []
    assert [name for name, (_, said) in refused.items() if "alert protocol version" in said] == ["TLS 1.0", "TLS 1.1"]
    assert [name for name, (_, said) in served.items() if not said.endswith("\r\n\r\nhello")] == []
    assert f'sluice_tls_handshakes_total{{result="failed"}} {len(WEAK) - 2}.0' in metrics
    assert 'sluice_tls_handshakes_total{result="refused"} 2.0' in metrics
    assert f'sluice_tls_handshakes_total{{result="ok"}} {len(STRONG)}.0' in metrics


async def test_each_connection_gets_one_ticket_without_early_data_and_nothing_is_compressed(hub: Hub, tmp_path: Path) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port, issue(trustme.CA(), HOST)))
        await one.ready()
        kept = tmp_path / "session"
        _, first = await s_client(one, "-tls1_3", "-ign_eof", "-sess_out", str(kept))
        early = tmp_path / "early"
        early.write_text(f"GET /early HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
        _, second = await s_client(one, "-tls1_3", "-ign_eof", "-sess_in", str(kept), "-early_data", str(early))
        _, third = await s_client(one, "-tls1_2", "-ign_eof", "-comp")

    assert [said.count("New Session Ticket arrived") for said in (first, second)] == [1, 1]
    assert "Max Early Data: 0" in first
    assert "Reused, TLSv1.3" in second
    assert "Early data was not sent" in second
    assert all("Compression: NONE" in said for said in (first, second, third))
    assert all("\r\n\r\nhello" in said for said in (first, second, third))


async def test_renegotiation_that_a_client_asks_for_is_refused_and_nobody_else_notices(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port, issue(trustme.CA(), HOST)))
        await one.ready()
        (worker,) = one.workers()
        # A line that begins with R asks for it (openssl-s_client(1)).
        status, said = await s_client(one, "-tls1_2", says="R\n")
        _, innocent = await s_client(one, "-tls1_2", "-quiet")
        after = one.workers()

    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said
    assert status != 0
    assert innocent.endswith("\r\n\r\nhello")
    assert after == [worker]


def records(data: bytes) -> bytes:
    """The kinds of the TLS records that came, in order."""
    found = b""
    while len(data) >= 5:
        found += data[:1]
        data = data[5 + int.from_bytes(data[3:5], "big") :]
    return found


@pytest.mark.parametrize("how", ["huge hello", "huge record", "not a record", "end in a request", "end in a record"])
async def test_client_that_breaks_tls_ends_alone_and_leaves_nothing(hub: Hub, how: str) -> None:
    authority = trustme.CA()
    context = trusting(authority)
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port, issue(authority, HOST)))
        await one.ready()
        (worker,) = one.workers()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", one.https)
            if how == "huge hello":
                writer.write(b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + bytes(16380))
                last = b""
            else:
                while True:
                    try:
                        client.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        writer.write(outgoing.read())
                        incoming.write(await reader.read(65536))
                client.write(REQUEST[:20].encode())
                begun = outgoing.read()
                last = {
                    "huge record": begun + b"\x17\x03\x03\xff\xff" + bytes(65535),
                    "not a record": begun + b"GET / HTTP/1.1\r\n\r\n",
                    "end in a request": begun,
                    "end in a record": begun[:-30],
                }[how]
            writer.write(last)
            if how.startswith("end"):
                writer.write_eof()
            rest = b""
            with contextlib.suppress(ConnectionResetError):  # closed on bytes that nobody read
                while data := await reader.read(65536):
                    rest += data
            writer.close()
            _, innocent = await s_client(one, "-quiet")
            while 'sluice_connections{listener="https"} 0.0' not in (await one.ask("/metrics"))[1]:
                await asyncio.sleep(0.02)
        after = one.workers()

    assert set(records(rest)) <= {0x15, 0x16, 0x17}  # alerts, tickets: no answer in plain text
    assert b"HTTP/1.1" not in rest
    assert innocent.endswith("\r\n\r\nhello")
    assert after == [worker]
