"""Writing the metrics out. A thousand busy routes are a hundred thousand lines and most of a second: a forked child writes them.

The supervisor's loop goes on meanwhile: it answers probes, passes configurations on and watches the workers.
"""

import asyncio
import contextlib
import gzip
import os
import signal
import struct
import threading
from collections.abc import Callable

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import CollectorRegistry

from proxy.observability.families import OpenMetrics

INLINE_SERIES_OWNERS = 20
"""Routes and Services up to which the lines are written at once: a few milliseconds, about what a fork costs."""
RENDER_SECONDS = 30.0
"""A child that takes longer is killed; the scrape fails and the next one tries again."""
LENGTH = struct.Struct("!Q")
"""The child's first bytes: how many follow."""
_GZIP_LEVEL = 1


class RenderError(Exception):
    """The metrics could not be written; the message says why."""


class Exposition:
    """One scrape after the other: scrapers that come together are served in turn."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._turn = asyncio.Lock()

    async def render(self, accept: str, *, owners: int, compress: bool) -> tuple[bytes, str]:
        """Return the metrics in the format that `accept` asks for, and its content type; raises `RenderError`.

        `owners`: how many routes and Services have series. `compress`: as gzip.
        """
        encode, content_type = choose_encoder(accept)
        families = OpenMetrics(self._registry) if content_type.startswith("application/openmetrics-text") else self._registry

        def write() -> bytes:
            data: bytes = encode(families)
            return gzip.compress(data, _GZIP_LEVEL) if compress else data

        if owners <= INLINE_SERIES_OWNERS:
            return write(), content_type
        async with self._turn:
            return await in_child(write), content_type


async def in_child(make: Callable[[], bytes]) -> bytes:
    """Return what `make` returns, made in a forked child with the state of this moment; raises `RenderError`."""
    if threading.active_count() > 1:
        # A fork takes along locks that other threads hold; nothing of ours starts threads, so this is for who embeds us.
        return make()
    reader, writer = os.pipe()
    # A signal in the child would be written to the parent's wakeup descriptor.
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child == 0:
        _be_child(make, reader, writer)
    signal.pthread_sigmask(signal.SIG_SETMASK, masked)
    os.close(writer)
    whole = False
    try:
        async with asyncio.timeout(RENDER_SECONDS):
            data = await _read_all(reader)
        whole = len(data) >= LENGTH.size and LENGTH.unpack_from(data)[0] == len(data) - LENGTH.size
    except TimeoutError:
        raise RenderError(f"writing the metrics took over {RENDER_SECONDS:g} s") from None
    finally:
        os.close(reader)
        if not whole:  # it may be at work still: the scraper has gone
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # the supervisor's own reaping may have been first
            os.waitpid(child, 0)  # noqa: ASYNC222  it has closed its end, or was killed
    if not whole:
        raise RenderError("the process that wrote the metrics ended early")
    return data[LENGTH.size :]


def _be_child(make: Callable[[], bytes], reader: int, writer: int) -> None:
    """Write and end, whatever happens: nothing of the parent may run on in the child."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        os.close(reader)
        made = make()
        data = memoryview(LENGTH.pack(len(made)) + made)
        while data:
            data = data[os.write(writer, data) :]
        status = 0
    finally:
        os._exit(status)


async def _read_all(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    ended: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        part = os.read(descriptor, 1024 * 1024)
        if part:
            parts.append(part)
        elif not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, read)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
    return b"".join(parts)
