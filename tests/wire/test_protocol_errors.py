"""Malformed frames (RFC 6455, 7.1.7): their sender has our close frame and the end of its connection at once, nobody is waited for.

Where a test waits for nothing to happen by itself, the time for last words and for answers is longer than the test.
"""

import asyncio
import socket
import ssl
import time

import pytest
from wire.harness import WAIT, Proxy, proxying, socketless
from wire.logs import logging_of
from wire.verbs import SWITCH, UPGRADE, closes_of, frame, opened

from proxy.settings import Settings
from proxy.transport import lingering
from proxy.websocket import tunnel
from proxy.websocket.side import CLOSING

PATIENT = Settings(close_wait=10 * WAIT)
BAD = frame(3, b"a", masked=True)
BAD_OF_BACKEND = frame(1, b"a", masked=True)
TOLD_1002, TOLD_1001 = frame(8, b"\x03\xea"), frame(8, b"\x03\xe9")
BY_US = {("1002", "proxy:protocol_error"): 1}


def bare(masked: bytes) -> bytes:
    """A short frame of a client without its mask."""
    key, payload = masked[2:6], masked[6:]
    return bytes([masked[0], masked[1] & 127]) + bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))


@pytest.fixture
def long_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "BROKEN_DRAIN", 10 * WAIT)


@pytest.fixture
def short_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "BROKEN_DRAIN", 0.2)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    "bad",
    [
        BAD,
        frame(1, b"a"),
        frame(1, b"a", masked=True, first=0xC0),
        frame(9, b"a" * 126, masked=True),
        frame(9, b"a", masked=True, first=0),
        frame(0, b"a", masked=True),
        b"GET / HTTP/1.1\r\n",
    ],
)
@pytest.mark.usefixtures("long_last_words")
async def test_sender_of_a_malformed_frame_has_1002_and_the_end_at_once(bad: bytes, secure: bool) -> None:
    """Nothing was being said, so nobody's last words are waited for, nor an answer of the sender."""
    async with proxying(PATIENT) as proxy:
        client, backend = await opened(proxy, secure=secure)
        await client.sends(bad)
        await client.sees(TOLD_1002)
        await client.ends()

        assert bare(await backend.reads(8)) == TOLD_1001
        backend.closes()
        client.closes()
        await socketless(proxy)
        assert closes_of(proxy) == BY_US


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.usefixtures("long_last_words")
async def test_what_came_before_is_delivered_and_what_the_other_side_says_up_to_its_answer(secure: bool) -> None:
    async with proxying(PATIENT) as proxy:
        client, backend = await opened(proxy, secure=secure)
        good, reply = frame(1, b"good", masked=True), frame(1, b"reply")
        await client.sends(good + BAD)
        await backend.sees(good)
        assert bare(await backend.reads(8)) == TOLD_1001
        answer = frame(8, b"\x03\xe9")
        for piece in (reply[:3], reply[3:] + answer[:1], answer[1:3], answer[3:] + frame(1, b"late")):
            await backend.sends(piece)
        await client.sees(reply + TOLD_1002)
        await client.ends()
        await backend.ends()
        client.closes()
        await socketless(proxy)

        assert closes_of(proxy) == BY_US


@pytest.mark.usefixtures("long_last_words")
async def test_last_words_end_with_the_other_sides_connection() -> None:
    async with proxying(PATIENT) as proxy:
        client, backend = await opened(proxy)
        await client.sends(frame(1, b"good", masked=True) + BAD)
        await backend.reads(10 + 8)
        await backend.sends(frame(1, b"reply"))
        backend.writer.write_eof()

        await client.sees(frame(1, b"reply") + TOLD_1002)
        await client.ends()


@pytest.mark.slow
@pytest.mark.usefixtures("short_last_words")
async def test_last_words_are_bounded_and_what_comes_later_is_dropped() -> None:
    async with proxying(Settings(close_wait=0.5)) as proxy:
        client, backend = await opened(proxy)
        await client.sends(frame(1, b"good", masked=True) + BAD)
        await client.sees(TOLD_1002)
        await client.ends()
        assert bare((await backend.reads(10 + 8))[10:]) == TOLD_1001
        await backend.sends(frame(1, b"late") * 1000)
        await backend.ends()
        await socketless(proxy)

        assert closes_of(proxy) == BY_US


@pytest.mark.usefixtures("short_last_words")
async def test_close_frame_goes_behind_the_frame_that_is_under_way_to_the_sender() -> None:
    async with proxying(PATIENT) as proxy:
        client, backend = await opened(proxy)
        whole = frame(2, bytes(1000))
        await backend.sends(whole[:500])
        await client.sees(whole[:500])
        await client.sends(BAD)
        assert bare(await backend.reads(8)) == TOLD_1001
        async with asyncio.timeout(WAIT):
            while next(iter(proxy.runtime.tunnels)).phase != CLOSING:
                await asyncio.sleep(0)
        await backend.sends(whole[500:] + frame(1, b"late") + frame(8, b"\x03\xe9"))

        await client.sees(whole[500:] + TOLD_1002)
        await client.ends()
        await backend.ends()


@pytest.mark.usefixtures("long_last_words")
async def test_malformed_frame_of_the_backend_tells_it_1002_and_the_client_1001() -> None:
    async with proxying(PATIENT) as proxy:
        client, backend = await opened(proxy)
        await backend.sends(frame(1, b"good") + BAD_OF_BACKEND)
        await client.sees(frame(1, b"good") + TOLD_1001)
        word = frame(1, b"word", masked=True)
        await client.sends(word + frame(8, b"\x03\xe9", masked=True))
        await client.ends()
        await backend.sees(word)
        assert bare(await backend.reads(8)) == TOLD_1002
        await backend.ends()
        backend.closes()
        await socketless(proxy)

        assert closes_of(proxy) == BY_US


@pytest.mark.usefixtures("long_last_words")
async def test_two_malformed_frames_end_both_sides_at_once() -> None:
    async with proxying(PATIENT) as proxy:
        client, backend = await opened(proxy)
        await client.sends(frame(1, b"good", masked=True) + BAD)
        await backend.reads(10 + 8)
        await backend.sends(BAD_OF_BACKEND)
        await client.sees(TOLD_1002)
        await client.ends()
        await backend.ends()
        backend.closes()


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.usefixtures("long_last_words")
async def test_sender_that_leaves_right_after_its_malformed_frame_holds_up_nothing(resets: bool) -> None:
    async with proxying(Settings(close_wait=0.3)) as proxy:
        client, backend = await opened(proxy)
        await client.sends(BAD)
        client.resets() if resets else client.closes()
        assert bare(await backend.reads(8)) == TOLD_1001
        await backend.sends(frame(8, b"\x03\xe9"))
        await backend.ends()
        await socketless(proxy)


@pytest.mark.parametrize("secure", [False, True])
async def test_close_frame_arrives_at_a_sender_that_reads_only_when_it_has_sent_all(secure: bool) -> None:
    """A reset would eat it, and so it must not come for what the proxy does not read any more."""
    async with proxying(Settings(close_wait=0.2)) as proxy:

        def run() -> bytes:
            with proxy.blocking_client(secure=secure) as sock:
                if isinstance(sock, ssl.SSLSocket):
                    sock.suppress_ragged_eofs = False
                sock.sendall(UPGRADE + b"\r\n")
                head = b""
                while b"\r\n\r\n" not in head:
                    head += sock.recv(4096)
                sock.sendall(BAD)
                for _ in range(24 * 16):
                    sock.sendall(bytes(64 * 1024))
                    time.sleep(0.001)
                return read_all(sock)

        async def answer() -> None:
            backend = await proxy.backend.accepts()
            await backend.head()
            await backend.sends(SWITCH + b"\r\n")
            await backend.reads(8)

        found, _ = await asyncio.gather(asyncio.to_thread(run), answer())
        assert found == TOLD_1002
        await socketless(proxy)


def read_all(sock: socket.socket) -> bytes:
    found = b""
    while data := sock.recv(65536):
        found += data
    return found


async def floods(proxy: Proxy) -> None:
    """Break the protocol, then send for ever and read nothing."""
    client, _ = await opened(proxy)
    client.writer.write(BAD)
    try:
        while True:
            await client.sends(bytes(64 * 1024))
    except ConnectionError:
        return


async def test_sender_that_never_stops_is_cut_and_an_innocent_is_served_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_BYTES", 8 * 1024 * 1024)
    async with proxying(Settings(close_wait=0.2)) as proxy, asyncio.timeout(WAIT):
        innocent, backend = await opened(proxy)
        for _ in range(4):
            await floods(proxy)
        for number in range(10):
            word = frame(1, b"%d" % number)
            await backend.sends(word)
            await innocent.sees(word)
        while len(proxy.runtime.tunnels) > 1:
            await asyncio.sleep(0)


HALF_A_CODE, WRONG_CODE = (8, b"\x03"), (8, b"\x03\xee")
CAUSES = [
    ("mask_missing", "client", frame(1, b"a")),
    ("reserved_bits", "client", frame(1, b"a", masked=True, first=0xC0)),
    ("reserved_opcode", "client", BAD),
    ("control_fragmented", "client", frame(9, b"a", masked=True, first=0)),
    ("control_too_long", "client", frame(9, b"a" * 126, masked=True)),
    ("continuation_of_nothing", "client", frame(0, b"a", masked=True)),
    ("message_interrupted", "client", frame(1, b"", masked=True, first=0) + frame(1, b"", masked=True)),
    ("length_not_minimal", "client", b"\x82\xfe\0\1mask"),
    ("length_too_large", "client", b"\x82\xff\xff" + bytes(7) + b"mask"),
    ("close_truncated", "client", frame(*HALF_A_CODE, masked=True)),
    ("close_code", "client", frame(*WRONG_CODE, masked=True)),
    ("mask_forbidden", "backend", BAD_OF_BACKEND),
    ("close_truncated", "backend", frame(*HALF_A_CODE)),
    ("close_code", "backend", frame(*WRONG_CODE)),
    ("reserved_opcode", "backend", frame(3, b"a")),
]


@pytest.mark.parametrize(("cause", "side", "bad"), CAUSES, ids=[f"{cause} of {side}" for cause, side, _ in CAUSES])
@pytest.mark.usefixtures("short_last_words")
async def test_log_says_whose_frame_was_malformed_and_what_was_wrong(cause: str, side: str, bad: bytes) -> None:
    """Neither a bad frame nor a close frame that none may send is begun at the other end; an innocent socket stays."""
    async with proxying(PATIENT) as proxy, logging_of(proxy) as log:
        innocent, friend = await opened(proxy)
        assert (await log.next())["event"] == "socket-open"
        client, backend = await opened(proxy)
        assert (await log.next())["event"] == "socket-open"
        sender, other = (client, backend) if side == "client" else (backend, client)
        await sender.sends(bad)
        begun = bad[:6] if cause == "message_interrupted" else b""
        told = await other.reads(len(begun) + (8 if side == "client" else 4))
        refused = await sender.rest()
        sender.closes()
        other.closes()
        line = await log.next()
        await innocent.sends(frame(1, b"good", masked=True))

        assert len(await friend.reads(10)) == 10
        assert told.startswith(begun)
        assert (bare(told[len(begun) :]) if side == "client" else told) == TOLD_1001
        assert (refused if side == "client" else bare(refused)) == TOLD_1002
        assert [line[name] for name in ("event", "code", "by", "side", "cause")] == [
            *("socket-close", 1002, "proxy:protocol_error", side, cause)
        ]


@pytest.mark.parametrize("code", [1000, 1004, 1014, 1016, 2999, 3000, 4999, 5000, 65535])
@pytest.mark.parametrize("masked", [True, False])
async def test_close_code_that_is_not_forbidden_passes(code: int, masked: bool) -> None:
    """Codes are registered as time goes on: whether one is known is for the two ends to say (RFC 6455, 7.4.2)."""
    async with proxying() as proxy, logging_of(proxy) as log:
        client, backend = await opened(proxy)
        await log.next()
        sender, other = (client, backend) if masked else (backend, client)
        said = frame(8, code.to_bytes(2, "big"), masked=masked)
        for piece in (said[:3], said[3:-1], said[-1:]):
            await sender.sends(piece)
        await other.sees(said)
        answered = frame(8, code.to_bytes(2, "big"), masked=not masked)
        await other.sends(answered)
        await sender.sees(answered)
        for peer in (sender, other):
            peer.closes()
        line = await log.next()

    assert [line[name] for name in ("code", "by", "side", "cause")] == [code, "client" if masked else "backend", "", ""]


async def test_malformed_answer_to_a_close_frame_brings_no_second_one() -> None:
    """RFC 6455, 5.5.1: nothing follows a close frame."""
    async with proxying(Settings(close_wait=0.3)) as proxy:
        client, backend = await opened(proxy)
        close = frame(8, b"\x03\xe8", masked=True)
        await client.sends(close)
        await backend.sees(close)
        await backend.sends(frame(*HALF_A_CODE))
        await client.sees(TOLD_1001)
        await backend.ends()
        backend.closes()
        await client.ends()
        await socketless(proxy)

        assert closes_of(proxy) == {("1000", "client"): 1}
