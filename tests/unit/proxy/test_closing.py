"""The one closer: whatever is half sent, both ends see whole frames, then exactly one close frame, and nothing after it."""

import asyncio
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection
from wsproto.extensions import Extension
from wsproto.frame_protocol import FrameDecoder, FrameProtocol, RsvBits
from wsproto.frame_protocol import Opcode as ReadOpcode

from proxy.http.message import Client, Request
from proxy.observability.access_log import AccessLog
from proxy.observability.metrics import WS_CLOSES
from proxy.observability.worker_stats import RouteStats
from proxy.transport.run_queue import RunQueue
from proxy.transport.timer_wheel import TimerWheel
from proxy.websocket.control_frames import MAX_REASON_BYTES, close_frame
from proxy.websocket.tunnel import Tunnel

HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
CODE, REASON = 1012, b"service restart"


class Wire(asyncio.Transport):
    """A connection whose other end takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.protocol: asyncio.Protocol = asyncio.Protocol()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "a write after the end"
        self.written += data

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


@dataclass
class Endpoint:
    address: str = "10.0.0.1"
    port: int = 80
    sockets: int = 0


@dataclass
class Host:
    wheel: TimerWheel
    accesslog: AccessLog
    run_queue: RunQueue
    tunnels: set[Tunnel] = field(default_factory=set)
    unflushed: list[Tunnel] = field(default_factory=list)
    close_wait: float = 2.0


@dataclass
class Bench:
    """A tunnel between two wires."""

    extensions: bool

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.host = Host(TimerWheel(loop, lambda _: None), AccessLog("off", loop), RunQueue(loop))
        self.client, self.backend = Wire(), Wire()
        self.stats = RouteStats("wsroute/test/a/0")
        self.endpoint = Endpoint()
        self.tunnel = Tunnel(
            self.host,
            request=Request(Client(peer="10.0.0.9"), "GET", "/", 11, "a.test", "a.test", [], upgrade=True),
            stats=self.stats,
            service="test/backend:80",
            endpoint=self.endpoint,
            idle=3600.0,
            opened=loop.time(),
            transports=(self.client, self.backend),
            extensions=self.extensions,
            ended=lambda: None,
        )
        self.tunnel.start(HEAD, b"", b"")

    def sends(self, wire: Wire, data: bytes) -> None:
        if not wire.closed:
            wire.protocol.data_received(data)

    def ends(self) -> None:
        for wire in (self.client, self.backend):
            wire.closed = True
            wire.protocol.connection_lost(None)
        self.host.wheel.close()


def raw_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Take frames apart the slow way: first byte and unmasked payload of each; the last one must be whole."""
    while data:
        first, second = data[0], data[1]
        length, data = second & 0x7F, data[2:]
        if length > 125:
            width = 2 if length == 126 else 8
            length, data = int.from_bytes(data[:width], "big"), data[width:]
        mask = b"\0\0\0\0"
        if second & 0x80:
            mask, data = data[:4], data[4:]
        payload, data = data[:length], data[length:]
        assert len(payload) == length, "a frame that is not whole"
        yield first, bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


class Compressed(Extension):
    """An extension that uses the first reserved bit; what is packed is compared byte for byte, not unpacked."""

    name = "permessage-deflate"

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return True

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: ReadOpcode, rsv: RsvBits, payload_length: int
    ) -> RsvBits:
        del proto, opcode, rsv, payload_length
        return RsvBits(rsv1=True, rsv2=False, rsv3=False)


def oracle_reads(data: bytes, *, by: ConnectionType, extensions: bool) -> list[tuple[int, str | None]]:
    """Let wsproto read a direction; return the close frames that it saw."""
    reader = Connection(by, extensions=[Compressed()] if extensions else [])
    reader.receive_data(data)
    return [(event.code, event.reason) for event in reader.events() if isinstance(event, CloseConnection)]


@st.composite
def traffic(draw: st.DrawFn, *, masked: bool, compressed: bool) -> bytes:
    """Legal traffic of one side: fragmented messages with control frames between the fragments, maybe a close at the end."""
    packer = zlib.compressobj(wbits=-15)
    data = b""

    def add(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> None:
        nonlocal data
        frame = Frame(Opcode(opcode), payload, fin=fin).serialize(mask=masked)
        data += bytes([frame[0] | (0x40 if rsv1 else 0)]) + frame[1:]

    for _ in range(draw(st.integers(0, 4))):
        payload = draw(st.binary(max_size=400))
        packed = compressed and draw(st.booleans())
        if packed:
            # RFC 7692, 7.2.3.6: what packs to nothing is sent as one zero byte.
            payload = (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff") or b"\0"
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
        parts = [payload[start:end] for start, end in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for number, part in enumerate(parts):
            if draw(st.booleans()):
                add(draw(st.sampled_from([9, 10])), draw(st.binary(max_size=125)))
            add(0 if number else 2, part, fin=number == len(parts) - 1, rsv1=packed and not number)
    if draw(st.integers(0, 3)) == 0:
        add(8, Close(4000, "bye").serialize())
    return data


@st.composite
def cases(draw: st.DrawFn) -> tuple[bool, bytes, bytes, list[tuple[bool, int]], int]:
    """Extensions or not, both sides' traffic, in which pieces it comes, and after which of them we close."""
    extensions = draw(st.booleans())
    up, down = draw(traffic(masked=True, compressed=extensions)), draw(traffic(masked=False, compressed=extensions))
    size = st.one_of(st.integers(1, 3), st.integers(1, 60), st.integers(1, 2000))
    turns = draw(st.lists(st.tuples(st.booleans(), size), max_size=40))
    return extensions, up, down, turns, draw(st.integers(0, len(turns)))


@given(cases())
def test_close_at_any_instant_is_seen_once_after_whole_frames(case: tuple[bool, bytes, bytes, list[tuple[bool, int]], int]) -> None:
    extensions, up, down, turns, instant = case

    async def play() -> tuple[Bench, bytes, bytes]:
        bench = Bench(extensions)
        left = {True: up, False: down}
        wires = {True: bench.client, False: bench.backend}

        def deliver(steps: list[tuple[bool, int]]) -> None:
            for from_client, size in steps:
                piece, left[from_client] = left[from_client][:size], left[from_client][size:]
                if piece:
                    bench.sends(wires[from_client], piece)

        deliver(turns[:instant])
        before = bench.backend.written, bench.client.written.removeprefix(HEAD)
        bench.tunnel.close(CODE, REASON, "test")
        deliver([*turns[instant:], (True, len(up) + 1), (False, len(down) + 1)])
        # Both peers answer our close; what they said last is swallowed.
        bench.sends(bench.client, Frame(Opcode.CLOSE, b"\x03\xf4").serialize(mask=True))
        bench.sends(bench.backend, Frame(Opcode.CLOSE, b"\x03\xf4").serialize(mask=False))
        assert bench.client.closed
        assert bench.backend.closed
        bench.ends()
        assert not bench.host.tunnels
        assert bench.endpoint.sockets == 0
        return bench, *before

    with asyncio.Runner() as runner:
        bench, up_before, down_before = runner.run(play())

    directions = (
        (bench.backend.written, up, up_before, ConnectionType.SERVER),
        (bench.client.written.removeprefix(HEAD), down, down_before, ConnectionType.CLIENT),
    )
    for seen, sent, before, by in directions:
        frames, told = list(raw_frames(seen)), list(raw_frames(sent))
        assert seen.startswith(before)
        assert frames[:-1] == told[: len(frames) - 1]
        ours, theirs = (0x88, CODE.to_bytes(2, "big") + REASON), (0x88, b"\x0f\xa0bye")
        assert frames[-1] in ((ours, theirs) if theirs in told else (ours,))
        assert [first for first, _ in frames].count(0x88) == 1
        assert oracle_reads(seen, by=by, extensions=extensions) == [
            (CODE, REASON.decode()) if frames[-1] == ours else (4000, "bye")
        ]


def test_reason_that_is_too_long_is_cut_at_a_character() -> None:
    data = close_frame(1001, ("x" + "\N{EURO SIGN}" * 50).encode(), masked=False)

    assert len(data) - 4 <= MAX_REASON_BYTES
    assert data[4:].decode() == "x" + "\N{EURO SIGN}" * 40


def test_close_frames_are_masked_towards_the_backend_only() -> None:
    to_client = oracle_reads(close_frame(1001, b"away", masked=False), by=ConnectionType.CLIENT, extensions=False)
    to_backend = oracle_reads(close_frame(1001, b"away", masked=True), by=ConnectionType.SERVER, extensions=False)

    assert (to_client, to_backend) == ([(1001, "away")], [(1001, "away")])


async def test_client_lost_in_the_middle_of_a_frame_ends_the_backend_without_a_close_frame() -> None:
    bench = Bench(extensions=False)
    half = Frame(Opcode.BINARY, os.urandom(100)).serialize(mask=True)[:50]
    bench.sends(bench.client, half)
    bench.tunnel.close(CODE, REASON, "test")
    bench.client.closed = True
    bench.client.protocol.connection_lost(None)

    assert (bench.backend.written, bench.backend.closed) == (half, True)
    bench.backend.protocol.connection_lost(None)
    assert bench.stats.labelled(WS_CLOSES) == {("1012", "proxy:test"): 1}
    bench.host.wheel.close()


async def test_backend_that_was_told_may_answer_after_the_client_is_lost() -> None:
    bench = Bench(extensions=False)
    bench.tunnel.close(CODE, REASON, "test")
    bench.client.closed = True
    bench.client.protocol.connection_lost(None)

    assert not bench.backend.closed
    bench.sends(bench.backend, Frame(Opcode.CLOSE, b"\x03\xf4").serialize(mask=False))
    assert bench.backend.closed
    bench.backend.protocol.connection_lost(None)
    bench.host.wheel.close()


async def test_sender_of_a_malformed_frame_that_leaves_gets_its_peer_1001() -> None:
    bench = Bench(extensions=False)
    bench.sends(bench.client, b"\x83\x80")
    bench.client.closed = True
    bench.client.protocol.connection_lost(None)

    assert [payload for _, payload in raw_frames(bench.backend.written)] == [b"\x03\xe9"]
    bench.sends(bench.backend, Frame(Opcode.CLOSE, b"\x03\xe9").serialize(mask=False))
    assert bench.backend.closed
    bench.backend.protocol.connection_lost(None)
    assert bench.stats.labelled(WS_CLOSES) == {("1002", "proxy:protocol_error"): 1}
    bench.host.wheel.close()


async def test_half_closed_client_is_still_told_and_the_backend_that_saw_its_fin_is_not() -> None:
    bench = Bench(extensions=False)
    assert bench.client.protocol.eof_received()
    bench.tunnel.close(CODE, REASON, "test")

    assert bench.backend.written == b""
    assert list(raw_frames(bench.client.written.removeprefix(HEAD))) == [(0x88, CODE.to_bytes(2, "big") + REASON)]
    assert (bench.client.closed, bench.backend.closed) == (True, True)
    bench.ends()
    assert bench.stats.labelled(WS_CLOSES) == {("1006", "client"): 1}


async def test_answer_in_the_same_read_as_the_end_of_a_frame_is_taken() -> None:
    bench = Bench(extensions=False)
    whole = Frame(Opcode.BINARY, bytes(100)).serialize(mask=False)
    bench.sends(bench.backend, whole[:50])
    bench.tunnel.close(CODE, REASON, "test")
    bench.sends(bench.client, Frame(Opcode.CLOSE, b"\x03\xf4").serialize(mask=True))
    bench.sends(bench.backend, whole[50:] + Frame(Opcode.CLOSE, b"\x03\xf4").serialize(mask=False))

    assert (bench.client.closed, bench.backend.closed) == (True, True)
    bench.ends()
