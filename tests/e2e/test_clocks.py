"""The proxy's time of day steps, and neither sockets nor workers nor drains notice."""

import asyncio
import signal
import time
from pathlib import Path

import aiohttp
import msgspec
import pytest
from e2e.harness import HOST, Hub, Proxy, backend, config, get, ok, proxy
from faketime import Clock

from proxy.model.config import ProxyConfig
from proxy.model.policy import Keepalive, Policy, Rate, Timeouts

HOUR = 3600
IDLE = 60.0


def serving(port: int, number: int) -> ProxyConfig:
    """Serve with everything that knows a time; each number is a change."""
    policies: tuple[Policy, ...] = (Timeouts(idle=IDLE, max_age=HOUR / 2), Keepalive(interval=0.2), Rate("requests", 1000.0, 1000))
    plain = config(port)
    (route,) = plain.routes.values()
    second = msgspec.structs.replace(route, id="wsroute/default/shop/more", hosts=(f"h{number}.example.com",))
    routes = {one.id: msgspec.structs.replace(one, policies=policies) for one in (route, second)}
    return msgspec.structs.replace(plain, routes=routes)


async def value(one: Proxy, series: str) -> float:
    """Return what a series says at present."""
    lines = (await one.ask("/metrics"))[1].splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series)), 0.0)


async def test_clock_that_steps_an_hour_closes_nothing_and_replaces_nobody(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(tmp_path / "clock", 0)
    for name, text in clock.environment.items():
        monkeypatch.setenv(name, text)
    url, headers = "http://127.0.0.1:{}/ws", {"Host": HOST}
    pings = 'sluice_ws_ping_rtt_seconds_count{route="wsroute/default/shop/all"}'
    async with backend() as port, proxy(hub, "--workers", "2", "--drain-time", "1s") as one, aiohttp.ClientSession() as session:
        hub.publish(serving(port, 0))
        await one.ready()
        workers = one.workers()
        async with session.ws_connect(url.format(one.http), headers=headers) as socket:
            for number, seconds in enumerate((HOUR, -HOUR, 0), 1):
                clock.step(seconds)
                seen = await value(one, pings)
                hub.publish(serving(port, number))
                await hub.acknowledged()
                applied = await value(one, "sluice_config_generation_applied_timestamp_seconds")
                # Every deadline that the step could have moved has been looked at when some pings were answered.
                listening = asyncio.create_task(socket.receive_str())
                async with asyncio.timeout(15):
                    while await value(one, pings) < seen + 5:
                        await asyncio.sleep(0.05)
                await socket.send_str("still here")

                assert await listening == "still here"
                assert ok(await get(one.http, host=f"h{number}.example.com"))
                assert (await one.ask("/healthz"))[0] == 200
                assert round((applied - time.time()) / HOUR) * HOUR == seconds
            assert one.workers() == workers
            clock.step(HOUR)
            one.process.send_signal(signal.SIGTERM)
            last = await socket.receive(timeout=10)

    assert (last.type, last.data) == (aiohttp.WSMsgType.CLOSE, 1001)
