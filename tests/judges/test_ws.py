"""The `ws` package of Node, client and server, through the proxy: nothing of it shows."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from judges.clients import ENVIRONMENT, NODE, SCRIPT
from wire.harness import Proxy, config_for, proxying

# Debian's packages for Node.
SENT = 7


@pytest.fixture
async def server() -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        *(NODE, str(SCRIPT), "serve"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=ENVIRONMENT
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def talk(proxy: Proxy, option: str, end: str = "", *, secure: bool) -> dict[str, Any]:
    url = f"wss://127.0.0.1:{proxy.tls_port}/ws" if secure else f"ws://127.0.0.1:{proxy.port}/ws"
    process = await asyncio.create_subprocess_exec(
        *(NODE, str(SCRIPT), "talk", url, option, end), stdout=asyncio.subprocess.PIPE, env=ENVIRONMENT
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("option", ["plain", "deflate", "no context", "small windows", "subprotocol", "masked"])
async def test_client_talks_in_every_option(server: int, option: str, secure: bool) -> None:
    async with proxying() as proxy:
        proxy.serves(config_for(server))
        found = await talk(proxy, option, secure=secure)

    protocol = "superchat" if option == "subprotocol" else ""
    assert found == {"same": SENT, "pong": "are you there", "protocol": protocol, "code": 4001, "reason": "done", "error": ""}


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(("end", "code", "reason"), [("close please", 4321, "as you wish"), ("vanish please", 1006, "")])
async def test_end_that_the_server_makes_arrives_as_it_is(server: int, end: str, code: int, reason: str, secure: bool) -> None:
    async with proxying() as proxy:
        proxy.serves(config_for(server))
        found = await talk(proxy, "plain", end, secure=secure)

    assert (found["same"], found["code"], found["reason"]) == (SENT, code, reason)
