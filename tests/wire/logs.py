"""What the proxy of the harness writes to its access log."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest import mock

from wire.harness import WAIT, Proxy

from proxy.observability.access_log import AccessLog, Mode

Line = dict[str, Any]


class Lines:
    """The lines in their order, from a pipe."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def next_raw(self) -> bytes:
        """Wait for a line."""
        async with asyncio.timeout(WAIT):
            return await self._reader.readuntil(b"\n")

    async def next(self) -> Line:
        """Wait for a line of JSON."""
        found: Line = json.loads(await self.next_raw())
        return found


@contextlib.asynccontextmanager
async def logging_of(proxy: Proxy, mode: Mode = "json") -> AsyncIterator[Lines]:
    """Have the proxy write its access log from now on, each line nearly at once."""
    with _pipe() as (read, write), mock.patch("proxy.observability.access_log.FLUSH_AFTER", 0.001):
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(read), "rb"))
        before, proxy.runtime.accesslog = proxy.runtime.accesslog, AccessLog(mode, loop, write)
        try:
            yield Lines(reader)
        finally:
            proxy.runtime.accesslog.close()
            proxy.runtime.accesslog = before
            transport.close()


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)
