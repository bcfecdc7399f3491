"""One named Secret or ConfigMap: its versions as the API server has them, by a list and a watch of that name alone.

Contents are not asked for here: `named_objects.py` says why, and reads them.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import aiohttp
import kopf
from kopf._cogs.clients import api

from controller.resources.reading.fields import metadata_of
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from controller.sources.reflector import CONNECT_SECONDS, Kind, Reflector, Sink, StreamError, answer_of, requests_log

KINDS: Mapping[str, Kind] = {"Secret": Kind("Secret", "", "v1", "secrets"), "ConfigMap": Kind("ConfigMap", "", "v1", "configmaps")}
_METADATA = "application/json;as={}PartialObjectMetadata{};g=meta.k8s.io;v=v1"
LIST_METADATA = {"Accept": _METADATA.format("", "List")}
WATCH_METADATA = {"Accept": _METADATA.format("", "")}
WATCH_SECONDS = (100, 140)
"""How long one watch request lasts: longer than those of whole kinds, as there may be a thousand that are asked anew."""
POLL_SECONDS = 30.0
"""How often a name is asked that has no watch."""
BACKOFF_MOST = 30.0
"""Seconds between tries at most; a right that is given is noticed within them."""
ASKING = 16
"""Lists, and watches that are being opened, at once: the API server sees no thousand handshakes after its restart."""
REQUEST_SECONDS = 10.0
MOST_METADATA = 1024 * 1024
"""Bytes of the metadata of one object as JSON: annotations may have 256 KiB before they are escaped."""
SHORT_LINE = 32 * 1024
LONG_LINES = 8
"""Lines of watches above SHORT_LINE that are read at once; the others wait, and with them the API server."""


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.networking.request_timeout = REQUEST_SECONDS
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.networking.error_backoffs = ()  # a try holds one of few places: the pauses between tries are made without it
    return settings


async def read_body(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    """Read a body; None: it is longer than `most` bytes."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > most:
            return None
    return bytes(body)


class MetadataTooLargeError(StreamError):
    """The metadata of an object takes more than MOST_METADATA."""


async def read_lines(content: aiohttp.StreamReader, places: asyncio.Semaphore) -> AsyncIterator[bytes]:
    """Yield the lines of a body; a long one goes on when it has one of the places. What the last line lacks is not made up."""
    buffer, has_place = bytearray(), False
    try:
        async for piece in content.iter_chunked(SHORT_LINE):
            buffer += piece
            while (end := buffer.find(b"\n")) >= 0:
                if end > MOST_METADATA:
                    raise MetadataTooLargeError
                line = bytes(memoryview(buffer)[:end])
                del buffer[: end + 1]
                if has_place:
                    places.release()
                    has_place = False
                yield line
            if len(buffer) > MOST_METADATA:
                raise MetadataTooLargeError
            if len(buffer) > SHORT_LINE and not has_place:
                await places.acquire()
                has_place = True
    finally:
        if has_place:
            places.release()


class Places:
    """What names share: how many of them may ask, and watch, at once."""

    def __init__(self, watches: int) -> None:
        self.settings = _settings()
        self.asking = asyncio.Semaphore(ASKING)
        self.long_lines = asyncio.Semaphore(LONG_LINES)
        self.watching = asyncio.Semaphore(watches)


class NameReflector(Reflector):
    """One name: brings the versions of its object into the sink, without contents."""

    backoff_most = BACKOFF_MOST

    def __init__(self, ref: ObjectRef, sink: Sink, places: Places) -> None:
        super().__init__(replace(KINDS[ref.kind], fields=f"metadata.name={ref.name}"), ref.namespace, sink)
        self.ref = ref
        self._places, self._settings = places, places.settings
        self._seconds = random.randint(*WATCH_SECONDS)  # noqa: S311  no secret: only not all at the same moment

    async def _read(self) -> tuple[str, set[ObjectRef]]:
        params = {"fieldSelector": self.kind.fields}
        async with self._places.asking:
            response = await api.request(
                method="get",
                url=self._resource.get_url(namespace=self.namespace, params=params),
                headers=LIST_METADATA,
                settings=self._settings,
                logger=requests_log,
            )
            async with response:
                body = await read_body(response, MOST_METADATA)
        self.last_answer = time.monotonic()
        if body is None:
            raise MetadataTooLargeError
        listed = json.loads(body)
        items = listed.get("items") if isinstance(listed, Mapping) else None
        if not isinstance(listed, Mapping) or not isinstance(items or [], list):
            raise StreamError("no list of metadata was found")
        return str(metadata_of(listed).get("resourceVersion") or ""), {self._apply(raw) for raw in items or ()}

    async def _watch(self, version: str) -> None:
        if self._places.watching.locked():
            self._clear_problem()
            await asyncio.sleep(POLL_SECONDS * random.uniform(0.75, 1.0))  # noqa: S311  as above
            return
        async with self._places.watching:
            await super()._watch(version)

    async def _open(self, params: dict[str, str], headers: dict[str, str] | None = None) -> aiohttp.ClientResponse:
        async with self._places.asking:
            return await super()._open(params, {**(headers or {}), **WATCH_METADATA})

    def _lines(self, content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
        return read_lines(content, self._places.long_lines)

    # It is said at the fields that name the object; a thousand lines in the log would say it to nobody.
    def _report_problem(self, reason: Reason, error: Exception, then: str) -> None:
        del then
        reason = Reason.INVALID_SPEC if isinstance(error, MetadataTooLargeError) else reason
        if self.problem is None or self.problem.reason is not reason:
            self.problem = Problem(self.ref, reason, "", answer_of(error))
            self._sink.state_changed(self)

    def _recovered(self) -> None:
        # A list alone solves nothing: where only the watch is refused, field and backoff would change at each try.
        if self.problem is None:
            super()._recovered()

    def _clear_problem(self) -> None:
        if self.problem is not None:
            self.problem = None
            self._sink.state_changed(self)
