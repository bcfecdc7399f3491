"""The line between supervisor and worker: frames in any pieces, order, and ends that go away."""

import asyncio
import socket

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.observability.metrics import CONNECTIONS
from proxy.observability.stats_delta import StatsDelta
from proxy.processes.channel import (
    Applied,
    Configure,
    Counted,
    Drain,
    Refused,
    Release,
    SendCounts,
    Serve,
    ToWorker,
    supervisor_end,
    worker_end,
)

MESSAGES: tuple[ToWorker, ...] = (Configure(b"x" * 300), Serve(0), SendCounts(7), Release(0), Drain(2.5))


def frame(message: object) -> bytes:
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(4, "big") + data


@given(st.lists(st.integers(1, 400), max_size=40))
def test_frames_in_any_pieces_are_whole_messages_in_order(cuts: list[int]) -> None:
    found: list[ToWorker] = []
    channel = worker_end(found.append, lambda: None)
    data = b"".join(map(frame, MESSAGES))
    at = 0
    for cut in [*cuts, len(data)]:
        channel.data_received(data[at : at + cut])
        at += cut

    assert tuple(found) == MESSAGES


async def test_messages_go_both_ways_and_the_end_is_noticed_once() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    down: asyncio.Queue[object] = asyncio.Queue()
    up: asyncio.Queue[object] = asyncio.Queue()
    worker = worker_end(down.put_nowait, lambda: down.put_nowait("lost"))
    supervisor = supervisor_end(up.put_nowait, lambda: up.put_nowait("lost"))
    await loop.create_unix_connection(lambda: supervisor, sock=ours)
    await loop.create_unix_connection(lambda: worker, sock=theirs)
    big = Configure(bytes(3_000_000))
    answers = (
        Applied("d", {"r": "because"}),
        Refused("d", "because"),
        Counted(1, StatsDelta(gauges={(CONNECTIONS.number, ("http",)): 1.0})),
    )
    supervisor.send(big)
    supervisor.send(Serve(1))
    async with asyncio.timeout(5):
        commands = [await down.get() for _ in range(2)]
        for answer in answers:
            worker.send(answer)
        worker.close()
        heard = [await up.get() for _ in range(4)]
        end = await down.get()
    supervisor.send(Serve(1))

    assert commands == [big, Serve(1)]
    assert heard == [*answers, "lost"]
    assert (end, up.empty(), down.empty()) == ("lost", True, True)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", frame({"type": "nobody"}), frame({"type": "serve"})]
)
async def test_what_is_no_message_ends_the_line(data: bytes) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    lost = loop.create_future()
    heard: list[object] = []
    await loop.create_unix_connection(lambda: worker_end(heard.append, lambda: lost.set_result(True)), sock=ours)
    theirs.sendall(data + frame(Serve(0)))
    async with asyncio.timeout(5):
        await lost
    theirs.close()

    assert heard == []
