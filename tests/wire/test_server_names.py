"""Server names as no library sends them, in a ClientHello of TLS 1.2, whose answer shows the certificate."""

import asyncio
import ssl

import pytest
from wire.harness import CERTIFICATE, proxying, trusting

from proxy.tls.client_hello import ALERT_DECODE_ERROR, alert

LEAF = ssl.PEM_cert_to_DER_cert(
    CERTIFICATE.chain.decode().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
)
PLACEHOLDER = b"placeholder.test"


def hello(name: bytes) -> bytes:
    """Make a ClientHello that asks for a name of any bytes."""
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=PLACEHOLDER.decode())
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    made = bytearray(outgoing.read())
    at = made.index(PLACEHOLDER)
    session = 43
    ciphers = session + 1 + made[session]
    compression = ciphers + 2 + int.from_bytes(made[ciphers : ciphers + 2], "big")
    extensions = compression + 1 + made[compression]
    # Every length around the name: of the record, the message, the extensions, this one, its list and the name itself.
    for place, width in ((3, 2), (6, 3), (extensions, 2), (at - 7, 2), (at - 5, 2), (at - 2, 2)):
        length = int.from_bytes(made[place : place + width], "big") + len(name) - len(PLACEHOLDER)
        made[place : place + width] = length.to_bytes(width, "big")
    made[at : at + len(PLACEHOLDER)] = name
    return bytes(made)


async def answered(name: bytes) -> bytes:
    """Return what the proxy says to it until it waits or ends, and see that others are served."""
    async with proxying() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.tls_port)
        writer.write(hello(name))
        said = b""
        async with asyncio.timeout(10):
            # The server's part of the handshake ends with ServerHelloDone (RFC 5246, 7.4.5).
            while not said.endswith(b"\x0e\x00\x00\x00") and (data := await reader.read(65536)):
                said += data
        writer.transport.abort()
        innocent = await proxy.client(secure=True)
        await innocent.sends(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        backend = await proxy.backend.accepts()
        await backend.head()
        await backend.sends(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert (await innocent.answer())[0] == 204
    return said


@pytest.mark.parametrize("name", [b"a.test", b"A.Test", b"a.test.", b"A.TEST."])
async def test_name_in_any_case_and_with_a_dot_gets_its_certificate(name: bytes) -> None:
    assert LEAF in await answered(name)


@pytest.mark.parametrize(
    "name",
    [
        *(b"a.test\0", b"a.test\0.evil.test", b"\0a.test", b"", b".a.test", b"a..test", b" a.test", b"a.test\n", b"a.test:443"),
        *(b"a" * 255, b"a" * 256, b"a." * 500 + b"test", b"127.0.0.1", b"[::1]"),
    ],
)
async def test_name_that_is_nobodys_gets_nobodys_certificate(name: bytes) -> None:
    said = await answered(name)

    assert said[:1] in (b"\x15", b"\x16")  # an alert, or the default certificate
    assert LEAF not in said


@pytest.mark.parametrize("name", [b"\xff" * 64, b"\xc3\xa4.test"])
async def test_name_that_is_not_ascii_is_refused_with_an_alert(name: bytes) -> None:
    assert await answered(name) == alert(ALERT_DECODE_ERROR)
