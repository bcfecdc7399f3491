"""TCP keepalive of a real proxy: the kernel's own timers of both connections of a socket."""

from pathlib import Path

import aiohttp
import pytest
from e2e.harness import HOST, Hub, backend, config, proxy, until

RETRANSMIT, KEEPALIVE = 1, 2
"""Kinds of timers in /proc/net/tcp (proc(5)); the first runs while something is not acknowledged yet."""
ESTABLISHED = "01"


def timers(*, local: int = 0, remote: int = 0) -> list[tuple[int, float]]:
    """Kind of timer and seconds left, of each open connection with that port."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, here, there, state, _, timer, *_ = line.split()
        ports = int(here.split(":")[1], 16), int(there.split(":")[1], 16)
        if state == ESTABLISHED and (ports[0] == local or ports[1] == remote):
            kind, _, left = timer.partition(":")
            found.append((int(kind), int(left, 16) / 100))
    return found


@pytest.mark.parametrize("seconds", [0, 300])
async def test_tcp_keepalive_watches_both_connections_of_a_socket(hub: Hub, seconds: int) -> None:
    arguments = ("--workers", "1", "--tcp-keepalive", f"{seconds}s")
    async with backend() as port, proxy(hub, *arguments) as one, aiohttp.ClientSession() as session:
        hub.publish(config(port))
        await one.ready()
        url = f"http://127.0.0.1:{one.http}/"
        async with session.ws_connect(url, headers={"Host": HOST}) as socket:
            await socket.send_str("here")
            assert await socket.receive_str() == "here"
            await until(lambda: RETRANSMIT not in [kind for kind, _ in timers(local=one.http) + timers(remote=port)])
            sides = timers(local=one.http), timers(remote=port)

    assert [len(side) for side in sides] == [1, 1]
    for ((kind, left),) in sides:
        assert (kind == KEEPALIVE) == (seconds > 0)
        assert left <= seconds
        assert left > seconds - 60 or not seconds
