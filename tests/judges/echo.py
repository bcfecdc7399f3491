"""An echo server on wsproto that answers every message and ping in order before it judges what follows.

So its verdict on a case does not depend on how the bytes come, as that of a server does which stops sending at a close frame.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Message, Ping, Request, TextMessage


class _Echo:
    """One connection, from its request to the close frame that answers the client's or its fault."""

    def __init__(self) -> None:
        self._connection = WSConnection(ConnectionType.SERVER)
        self._parts: list[str | bytes] = []
        self.ended = False

    def take(self, data: bytes) -> bytes:
        """Take what came, empty for the end; return what is to be sent."""
        self._connection.receive_data(data or None)
        return b"".join([self._answer(event) for event in self._connection.events() if not self.ended])

    def _answer(self, event: Event) -> bytes:
        match event:
            case Request():
                return self._connection.send(AcceptConnection())
            case TextMessage() | BytesMessage():
                self._parts.append(event.data)
                if not event.message_finished:
                    return b""
                whole = event.data[:0].join(self._parts)  # type: ignore[arg-type]
                self._parts = []
                return self._connection.send(Message(data=whole))
            case Ping():
                return self._connection.send(event.response())
            case CloseConnection():
                self.ended = True
                return self._connection.send(event.response()) if event.code != 1006 else b""
        return b""


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    echo = _Echo()
    with contextlib.suppress(ConnectionError):
        while not echo.ended:
            writer.write(echo.take(await reader.read(256 * 1024)))
            await writer.drain()
        writer.write_eof()
        while await reader.read(256 * 1024):
            pass  # closing on unread bytes would reset the connection, and lose what was said
    writer.close()


@contextlib.asynccontextmanager
async def serving_echo() -> AsyncIterator[int]:
    """Serve on a free port of loopback; give the port."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
