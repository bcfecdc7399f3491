"""Why requests fail, as who runs the proxy finds it: on standard error, in the access log, at the metrics."""

import asyncio
import json
import re
import socket

from e2e.harness import Hub, config, get, proxy

SERVICE = "default/shop:80"


async def test_failing_backend_is_named_in_every_place_where_one_looks(hub: Hub) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: it refuses, and nobody else can have it
        port = closed.getsockname()[1]
        arguments = ("--workers", "1", "--access-log", "json")
        async with proxy(hub, *arguments, stderr=asyncio.subprocess.PIPE) as one:
            hub.publish(config(port))
            await one.ready()
            answers = [await get(one.http) for _ in range(3)]
            ids = [re.findall(rb"X-Request-ID: (\w+)", answer)[0].decode() for answer in answers]
            assert one.process.stdout is not None
            async with asyncio.timeout(10):
                lines = [json.loads(await one.process.stdout.readline()) for _ in ids]
            _, metrics = await one.ask("/metrics")
            one.process.terminate()
            async with asyncio.timeout(20):
                _, errors = await one.process.communicate()

    assert [answer.startswith(b"HTTP/1.1 502 ") and str(port).encode() not in answer for answer in answers] == [True] * 3
    assert [(line["id"], line["cause"], line["endpoint"]) for line in lines] == [
        (one_id, "connect_refused", f"127.0.0.1:{port}") for one_id in ids
    ]
    assert f'sluice_upstream_errors_total{{cause="connect_refused",service="{SERVICE}"}} 3.0' in metrics
    said = [line for line in errors.decode().splitlines() if "sluice.upstream" in line]
    assert len(said) == 1
    assert f'service={SERVICE} endpoint="127.0.0.1:{port}" cause=connect_refused status=502 id="{ids[0]}" ' in said[0]
