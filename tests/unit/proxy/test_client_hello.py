"""ClientHellos as OpenSSL writes them, in any pieces, and what is none."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tls.client_hello import MAX_BYTES, TLS_1_2, ClientHello, HelloReader, HelloStatus, alert


def hello(name: str | None = "shop.example.com", alpn: list[str] | None = None) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same handshake message in records of at most `size` bytes (RFC 8446 5.1)."""
    message = data[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


HELLO = hello(alpn=["h2", "http/1.1"])


def parse_client_hello(data: bytes) -> ClientHello | HelloStatus:
    return HelloReader().feed(data)


def test_hello_of_openssl_gives_name_and_protocols() -> None:
    assert parse_client_hello(HELLO) == ClientHello("shop.example.com", (b"h2", b"http/1.1"), TLS_1_2)


def test_hello_without_extensions_in_question_gives_nothing() -> None:
    assert parse_client_hello(hello(None)) == ClientHello(None, (), TLS_1_2)


@pytest.mark.parametrize("address", [b"2001:db8::100:10", b"2001:db8::a:b:cd", b"192.168.100.100"])
def test_hello_that_names_an_address_names_nothing(address: bytes) -> None:
    name = "shop.example.com"[-len(address) :]
    assert parse_client_hello(hello(name).replace(name.encode(), address)) == ClientHello(None, (), TLS_1_2)


@pytest.mark.parametrize("name", ["shop.example.c0m", "shop.example.1", "10.0.0.256", "1.2.3.4.5"])
def test_hello_whose_name_only_looks_like_an_address_names_it(name: str) -> None:
    assert parse_client_hello(hello(name)) == ClientHello(name, (), TLS_1_2)


def test_hello_name_is_lower_case_without_trailing_dot() -> None:
    assert parse_client_hello(hello("Shop.EXAMPLE.com.")) == ClientHello("shop.example.com", (), TLS_1_2)


def test_hello_followed_by_more_records_is_read() -> None:
    assert parse_client_hello(HELLO + b"\x17\x03\x03\x00\x01x") == ClientHello("shop.example.com", (b"h2", b"http/1.1"), TLS_1_2)


@pytest.mark.parametrize("size", [1, 3, 4, 50, 16384])
def test_hello_in_several_records_is_the_same(size: int) -> None:
    assert parse_client_hello(in_records(HELLO, size)) == parse_client_hello(HELLO)


@given(st.sampled_from([1, 3, 50, 16384]), st.lists(st.integers(1, 60), max_size=40))
def test_hello_fed_in_any_pieces_is_the_same(size: int, lengths: list[int]) -> None:
    data, reader, found = in_records(HELLO, size), HelloReader(), HelloStatus.MORE
    for length in [*lengths, len(data)]:
        piece, data = data[:length], data[length:]
        if found is HelloStatus.MORE and piece:
            found = reader.feed(piece)  # type: ignore[assignment]

    assert found == parse_client_hello(HELLO)


@given(st.integers(0, len(HELLO) - 1))
def test_hello_cut_anywhere_needs_more(at: int) -> None:
    assert parse_client_hello(HELLO[:at]) is HelloStatus.MORE


@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1\r\n", b"\x80\x2e\x01\x03\x01", b"PROXY TCP4"])
def test_bytes_of_other_protocols_are_not_tls(data: bytes) -> None:
    assert parse_client_hello(data) is HelloStatus.NOT_TLS


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x02",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\x10\x00\x00",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        in_records(HELLO, 20)[:25] + b"\x15" + in_records(HELLO, 20)[26:],
        in_records(HELLO, 1)[: 5 * 6] + b"\x16\x03\x01\x00\x00",
    ],
)
def test_hello_that_breaks_the_rules_is_malformed(data: bytes) -> None:
    assert parse_client_hello(data) is HelloStatus.MALFORMED


def test_hello_never_waits_beyond_its_bound() -> None:
    endless = b"\x16\x03\x01\x00\x01\x01" + b"\x16\x03\x01\x00\x01\x00" * (MAX_BYTES // 6)

    assert parse_client_hello(endless[:MAX_BYTES]) is not HelloStatus.MORE


@given(st.binary(max_size=400), st.integers(0, 400))
def test_any_bytes_give_a_verdict(noise: bytes, at: int) -> None:
    spoilt = HELLO[:at] + noise + HELLO[at + len(noise) :]

    for data in (noise, b"\x16\x03\x01" + noise, spoilt):
        assert isinstance(parse_client_hello(data), ClientHello | HelloStatus)


def test_alert_is_fatal_and_understood_by_openssl() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="shop.example.com")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(alert(112))

    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        client.do_handshake()


def test_hello_of_a_client_that_knows_nothing_newer_than_tls_1_1_says_so() -> None:
    old = HELLO[:9] + b"\x03\x02" + HELLO[11:]

    assert parse_client_hello(old) == ClientHello("shop.example.com", (b"h2", b"http/1.1"), 0x0302)
