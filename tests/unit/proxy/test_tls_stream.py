"""Two TLS streams that talk to each other over a wire in memory, cut into segments at will."""

import asyncio
import ssl
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st
from turns import Turns
from wire.harness import AUTHORITY

from proxy.tls.stream import MOST_WAITING, PIECE, RECORDS_PER_TURN, TlsStream
from proxy.transport.protocol_adapter import Stream
from proxy.transport.run_queue import RunQueue
from proxy.upstream.pool import make_upstream_context

RECORD_OVERHEAD = 22
"""Bytes of a record of TLS 1.3 beside its payload: header, type and tag (RFC 8446, 5.2)."""


class Wire(asyncio.Transport):
    """One end of a connection: what is written to it waits until `Pair.run` carries it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: deque[bytes] = deque()
        self.eof = self.closed = self.paused = False

    def write(self, data: object) -> None:
        assert not self.eof
        assert not self.closed
        assert isinstance(data, bytes)
        self.sent.append(data)

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.sent))

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Said(Stream):
    """A stream that notes what it is told."""

    def __init__(self, *, stays: bool = False) -> None:
        self.transport: asyncio.Transport | None = None
        self.got = bytearray()
        self.sizes: list[int] = []
        self.ends = 0
        self.lost: bool = False
        self.stays = stays

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert data
        self.got += data
        self.sizes.append(len(data))

    def eof_received(self) -> bool:
        self.ends += 1
        return self.stays

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass


SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
AUTHORITY.issue_cert("a.test").configure_cert(SERVER)
CLIENT = ssl.create_default_context()
AUTHORITY.configure_trust(CLIENT)


class Pair:
    """A client and a server, each with its TLS stream."""

    def __init__(self, client: ssl.SSLContext = CLIENT, *, stays: bool = False) -> None:
        self.streams = Said(), Said(stays=stays)
        self.wires = Wire(), Wire()
        self.results: list[list[Exception | None]] = [[], []]
        contexts = client, SERVER
        self.turns = Turns()
        queue = RunQueue(cast("asyncio.AbstractEventLoop", self.turns))
        self.ends = tuple(
            TlsStream(self.streams[i], contexts[i], queue, self.results[i].append, server_side=i == 1, server_name=name)
            for i, name in enumerate(("a.test", None))
        )
        self.ended = [False, False]
        self.ends[1].begin(self.wires[1], b"")
        self.ends[0].connection_made(self.wires[0])

    def run(self, segment: int = 1 << 20) -> None:
        """Carry bytes and ends both ways until nothing moves."""
        moved = True
        while moved:
            moved = self.turns.turn()
            for i in (0, 1):
                wire, other, end = self.wires[i], self.wires[1 - i], self.ends[1 - i]
                if other.paused and not other.closed:
                    continue
                data = b"".join(wire.sent)
                wire.sent.clear()
                for at in range(0, len(data), segment):
                    moved = True
                    if not other.closed:
                        end.data_received(data[at : at + segment])
                    if other.paused and not other.closed:
                        wire.sent.appendleft(data[at + segment :])
                        break
                if (wire.eof or wire.closed) and not self.ended[i] and not any(wire.sent) and not other.paused:
                    moved = self.ended[i] = True
                    if not other.closed and not end.eof_received():
                        other.close()


async def test_handshake_is_said_once_on_both_sides() -> None:
    pair = Pair()
    pair.run()

    assert pair.results == [[None], [None]]
    for end, stream in zip(pair.ends, pair.streams, strict=True):
        assert stream.transport is cast("asyncio.Transport", end)
        assert end.get_extra_info("ssl_object").version() == "TLSv1.3"


SIZES = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0, 1, 64, 1000, 16384, 16388, PIECE - 1, PIECE, PIECE + 1, 100_000])), max_size=8
)


@pytest.mark.slow
@given(sizes=SIZES, segment=st.sampled_from([1, 7, 1448, 16384, 20_000, PIECE, 1 << 20]), together=st.booleans())
def test_bytes_arrive_in_order_however_they_are_cut(sizes: list[tuple[bool, int]], segment: int, together: bool) -> None:
    if segment < 1000:
        sizes = [(way, min(size, 1000)) for way, size in sizes]
    pair = Pair()
    pair.run(segment)
    sent = bytearray(), bytearray()
    for number, (way, size) in enumerate(sizes):
        data = bytes([number + 1]) * size
        sent[way].extend(data)
        pair.ends[way].write(data)
        if not together:
            pair.run(segment)
    pair.run(segment)

    assert (pair.streams[1].got, pair.streams[0].got) == sent


def test_close_delivers_what_was_written_and_ends_both_sides() -> None:
    pair = Pair()
    pair.run()
    pair.ends[1].write(b"x" * 100_000)
    pair.ends[1].close()
    pair.ends[1].write(b"too late")
    pair.run(1448)

    assert pair.streams[0].got == b"x" * 100_000
    assert pair.streams[0].ends == 1
    assert pair.streams[1].ends == 0
    assert [wire.closed for wire in pair.wires] == [True, True]


def test_stream_that_stays_can_still_write_after_the_peers_end() -> None:
    """RFC 8446, 6.1: a close_notify ends one direction."""
    pair = Pair(stays=True)
    pair.run()
    pair.ends[0].close()
    pair.run()
    assert pair.streams[1].ends == 1
    assert not pair.wires[1].closed

    pair.ends[1].write(b"answer")
    assert pair.wires[1].sent
    pair.ends[1].close()
    assert pair.wires[1].closed


def test_what_comes_after_close_is_not_delivered() -> None:
    pair = Pair()
    pair.run()
    pair.ends[0].write(b"on its way")
    pair.ends[1].close()
    pair.run()

    assert not pair.streams[1].got


def test_bytes_that_are_no_tls_end_the_connection_with_an_alert() -> None:
    pair = Pair(stays=True)
    pair.run()
    pair.ends[0].write(b"before")
    pair.ends[1].data_received(b"".join(pair.wires[0].sent) + b"\x17\x03\x03\x00\x20" + bytes(32))
    pair.wires[0].sent.clear()

    assert pair.streams[1].got == b"before"
    assert pair.ends[1].is_closing()
    assert pair.wires[1].closed
    assert pair.streams[1].ends == 0
    with pytest.raises(ssl.SSLError, match=r"BAD_RECORD_MAC"):
        read_alert(pair)


def read_alert(pair: Pair) -> None:
    """Let OpenSSL say what the server's last bytes mean."""
    secure = pair.ends[0].get_extra_info("ssl_object")
    pair.ends[0]._incoming.write(b"".join(pair.wires[1].sent))
    secure.read(100)


def test_handshake_that_fails_says_why_to_both() -> None:
    old = ssl.create_default_context()
    AUTHORITY.configure_trust(old)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-RSA-AES128-SHA")  # the certificate's key is no RSA key
    pair = Pair(old)
    pair.run()

    [there], [here] = pair.results
    assert "NO_SHARED_CIPHER" in str(here)
    assert "HANDSHAKE_FAILURE" in str(there)
    assert not pair.wires[1].closed  # its owner reads on until the alert has arrived
    pair.ends[1].connection_lost(None)
    assert not pair.streams[1].lost


def test_what_comes_with_the_end_of_a_handshake_passes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL's buffers never shrink: whoever sent much with its last flight would keep as much of our memory."""
    pair = Pair()
    pair.ends[1].data_received(b"".join(pair.wires[0].sent))
    pair.wires[0].sent.clear()
    pair.ends[0].data_received(b"".join(pair.wires[1].sent))
    pair.ends[0].write(b"x" * 200_000)
    flight = b"".join(pair.wires[0].sent)
    incoming = Noted(pair.ends[1]._incoming)
    monkeypatch.setattr(pair.ends[1], "_incoming", incoming)
    pair.ends[1].data_received(flight)

    assert pair.streams[1].got == b"x" * 200_000
    assert max(incoming.sizes) <= PIECE


class Noted:
    """OpenSSL's buffer, with a note of how much was written to it at once."""

    def __init__(self, inner: ssl.MemoryBIO) -> None:
        self.inner = inner
        self.sizes: list[int] = []

    @property
    def pending(self) -> int:
        return self.inner.pending

    def write(self, data: bytes) -> None:
        self.sizes.append(len(data))
        self.inner.write(data)


def many_records(pair: Pair, count: int) -> bytes:
    """Return what the client sends where each byte has a record of its own, a close_notify at the end."""
    pair.run()
    for _ in range(count):
        pair.ends[0].write(b"x")
    pair.ends[0].close()
    flight = b"".join(pair.wires[0].sent)
    pair.wires[0].sent.clear()
    return flight


def test_records_that_are_many_are_decrypted_a_bounded_number_at_a_time() -> None:
    pair = Pair()
    count = 10 * RECORDS_PER_TURN
    pair.ends[1].data_received(many_records(pair, count))
    assert pair.wires[1].paused
    rounds = 0
    while pair.turns.turn():
        rounds += 1

    assert pair.streams[1].got == b"x" * count
    assert max(pair.streams[1].sizes) <= RECORDS_PER_TURN
    assert rounds >= 9
    assert pair.streams[1].ends == 1
    assert not pair.wires[1].paused


def test_stream_that_pauses_is_told_nothing_until_it_goes_on() -> None:
    """Neither what was decrypted already, nor the end behind it."""
    pair = Pair()
    count = 3 * RECORDS_PER_TURN
    pair.ends[1].data_received(many_records(pair, count))
    pair.ends[1].pause_reading()
    while pair.turns.turn():
        pass
    assert sum(pair.streams[1].sizes) <= RECORDS_PER_TURN
    pair.ends[1].resume_reading()
    pair.turns.turn()
    pair.ends[1].pause_reading()
    while pair.turns.turn():
        pass
    assert pair.streams[1].ends == 0
    pair.ends[1].resume_reading()
    while pair.turns.turn():
        pass

    assert pair.streams[1].got == b"x" * count
    assert pair.streams[1].ends == 1


def test_bytes_that_come_while_others_wait_are_decrypted_after_them() -> None:
    pair = Pair()
    flight = many_records(pair, 5 * RECORDS_PER_TURN)
    half = len(flight) // 2
    pair.ends[1].data_received(flight[:half])
    pair.ends[1].data_received(flight[half:])
    while pair.turns.turn():
        pass

    assert pair.streams[1].got == b"x" * (5 * RECORDS_PER_TURN)
    assert pair.streams[1].ends == 1


def test_all_that_a_backend_sent_before_it_reset_the_connection_is_told() -> None:
    """However many records it is in: some may wait for their turn, which never comes."""
    pair = Pair()
    pair.run()
    count = 5 * RECORDS_PER_TURN
    for _ in range(count):
        pair.ends[1].write(b"x")
    flight = b"".join(pair.wires[1].sent)
    pair.ends[0].data_received(flight)
    told = len(pair.streams[0].got)
    pair.ends[0].connection_lost(ConnectionResetError())
    while pair.turns.turn():
        pass

    assert told <= RECORDS_PER_TURN
    assert pair.streams[0].got == b"x" * count
    assert pair.streams[0].lost


@pytest.mark.parametrize("behind", range(1, 200, 7))
def test_record_of_which_a_turn_takes_a_part_is_no_end(behind: int) -> None:
    """The turn's last record is longer than the piece that brought its end: its rest waits within OpenSSL."""
    pair = Pair()
    pair.run()
    sent = bytearray()
    size = 2 * PIECE + behind - 16384
    small = size // (RECORDS_PER_TURN - 1) - RECORD_OVERHEAD
    for number in range(RECORDS_PER_TURN):
        data = bytes([number + 1]) * (small if number < RECORDS_PER_TURN - 1 else 16384)
        sent += data
        pair.ends[0].write(data)
    flight = b"".join(pair.wires[0].sent)
    pair.wires[0].sent.clear()
    pair.ends[1].data_received(flight)
    while pair.turns.turn():
        pass

    assert pair.streams[1].got == sent
    assert pair.streams[1].ends == 0


def test_connection_that_is_lost_in_its_handshake_is_said() -> None:
    pair = Pair()
    pair.ends[1].connection_lost(None)

    [error] = pair.results[1]
    assert isinstance(error, ConnectionResetError)
    assert not pair.streams[1].lost


def derived(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446, 7.1) without a context."""
    label = b"tls13 " + label
    return HKDFExpand(hashes.SHA384(), size, size.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0").derive(secret)


def key_updates(secret: bytes) -> Iterator[bytes]:
    """Yield records that ask for a KeyUpdate in return, each under the keys of the one before (RFC 8446, 4.6.3 and 5.2)."""
    message = b"\x18\0\0\1\1\x16"
    header = b"\x17\x03\x03" + (len(message) + 16).to_bytes(2, "big")
    while True:
        yield header + AESGCM(derived(secret, b"key", 32)).encrypt(derived(secret, b"iv", 12), message, header)
        secret = derived(secret, b"traffic upd", 48)


def test_peer_that_asks_for_key_updates_and_reads_none_is_cut(tmp_path: Path) -> None:
    """OpenSSL answers every one, and no stream is told that there was anything."""
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)
    client.keylog_filename = str(tmp_path / "keys")
    pair = Pair(client)
    pair.run()
    assert pair.ends[0].get_extra_info("ssl_object").cipher()[0] == "TLS_AES_256_GCM_SHA384"
    lines = [line.split() for line in (tmp_path / "keys").read_text().splitlines()]
    [secret] = [line[2] for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0"]
    updates = key_updates(bytes.fromhex(secret))
    pair.wires[1].sent.append(bytes(MOST_WAITING - 1000))  # an answer that the peer does not read
    taken = 0
    while not pair.wires[1].closed and taken < 1000:
        pair.ends[1].data_received(next(updates))
        taken += 1

    assert 10 < taken < 100


def test_backend_cannot_begin_a_handshake_anew() -> None:
    """TLS 1.2 allows it (RFC 5246, 7.4.1.1); until it is done OpenSSL takes nothing to write, and a TLS stream waits nowhere."""
    assert make_upstream_context().options & ssl.OP_NO_RENEGOTIATION
