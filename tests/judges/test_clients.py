"""The `websockets` library's clients in their options, against its server, through the proxy: nothing of it shows."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from judges.clients import dialled, serve_all
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect as connect_sync
from websockets.typing import Subprotocol
from wire.harness import WAIT, config_for, proxying

LARGE = 2 * 1024 * 1024


def chosen(_socket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None


@pytest.fixture
async def server() -> AsyncIterator[int]:
    async with serve(serve_all, "127.0.0.1", 0, max_size=None, select_subprotocol=chosen, close_timeout=1) as made:
        yield next(iter(made.sockets)).getsockname()[1]


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"compression": None},
    "deflate": {"compression": "deflate"},
    "deflate without context": {
        "compression": None,
        "extensions": [ClientPerMessageDeflateFactory(client_no_context_takeover=True, server_no_context_takeover=True)],
    },
    "small windows": {
        "compression": None,
        "extensions": [ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=9)],
    },
    "many pings": {"ping_interval": 0.01},
    "no pings": {"ping_interval": None},
    "subprotocol": {"subprotocols": ["superchat"]},
    "origin and fields": {"origin": "https://a.test", "additional_headers": {"Authorization": "Bearer x", "Cookie": "a=b"}},
}


async def talks(client: ClientConnection) -> None:
    for message in ("", "hello", "ζώον", b"", os.urandom(125), os.urandom(126), os.urandom(65536), "x" * LARGE, os.urandom(LARGE)):
        await client.send(message)
        assert await client.recv() == message
    await client.send(["frag", "men", "ted"])
    assert await client.recv() == "fragmented"
    await client.send("fragments please")
    assert await client.recv() == b"onetwothree"
    await client.send("ping please")
    assert await client.recv() == "you are"
    await (await client.ping(b"x" * 125))


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
async def test_client_talks_in_every_option(server: int, name: str, secure: bool) -> None:
    async with proxying() as proxy, asyncio.timeout(WAIT):
        proxy.serves(config_for(server))
        async with dialled(proxy, secure=secure, **OPTIONS[name]) as client:
            await talks(client)
            if name == "subprotocol":
                assert client.subprotocol == "superchat"
            await client.close(4001, "done")

        assert (client.close_code, client.close_reason) == (4001, "done")


@pytest.mark.parametrize("secure", [False, True])
async def test_close_of_the_server_arrives_with_code_and_reason(server: int, secure: bool) -> None:
    async with proxying() as proxy, asyncio.timeout(WAIT):
        proxy.serves(config_for(server))
        async with dialled(proxy, secure=secure) as client:
            await client.send("close please")
            with pytest.raises(ConnectionClosed):
                await client.recv()

        assert (client.close_code, client.close_reason) == (4321, "as you wish")


@pytest.mark.parametrize("secure", [False, True])
async def test_server_that_vanishes_is_seen_as_such(server: int, secure: bool) -> None:
    async with proxying() as proxy, asyncio.timeout(WAIT):
        proxy.serves(config_for(server))
        async with dialled(proxy, secure=secure) as client:
            await client.send("vanish please")
            with pytest.raises(ConnectionClosedError):
                await client.recv()

        assert client.close_code == 1006


async def test_many_clients_at_once_get_their_own_echoes(server: int) -> None:
    async with proxying() as proxy, asyncio.timeout(WAIT):
        proxy.serves(config_for(server))

        async def one(number: int) -> None:
            async with dialled(proxy, secure=bool(number % 2)) as client:
                for turn in range(20):
                    await client.send(f"{number} {turn}")
                    assert await client.recv() == f"{number} {turn}"

        await asyncio.gather(*(one(number) for number in range(60)))


async def test_refusal_of_the_server_arrives_with_its_status() -> None:
    async def refuse(connection: ServerConnection, _request: object) -> object:
        return connection.respond(403, "not you\n")

    async with serve(serve_all, "127.0.0.1", 0, process_request=refuse) as made, proxying() as proxy, asyncio.timeout(WAIT):
        proxy.serves(config_for(next(iter(made.sockets)).getsockname()[1]))
        with pytest.raises(InvalidStatus) as caught:
            await dialled(proxy, secure=False)

        assert (caught.value.response.status_code, caught.value.response.body) == (403, b"not you\n")


async def test_blocking_client_talks_too(server: int) -> None:
    async with proxying() as proxy, asyncio.timeout(WAIT):
        proxy.serves(config_for(server))

        def talk() -> tuple[object, int | None]:
            import socket

            sock = socket.create_connection(("127.0.0.1", proxy.port), WAIT)
            with connect_sync("ws://a.test/ws", sock=sock, max_size=None) as client:
                client.send(["a", "b", "c"])
                found = client.recv()
                client.close(4002)
            return found, client.close_code

        assert await asyncio.to_thread(talk) == ("abc", 4002)
