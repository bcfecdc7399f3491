"""One kind as the API server has it: a list, a watch from there on, with an exact 'listed' barrier and pruning on relist.

kopf gives the requests, their retries and the watch stream; what it gives is not public API, so kopf is pinned and a contract test
holds what is used here. Its own loop around the stream is not used: it keeps objects that vanish over a relist, ends with one kind,
and turns hot at a server that closes at once (docs/architecture.md, kopf).
"""

import asyncio
import enum
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import kopf
from kopf._cogs.clients import api, errors, fetching
from kopf._cogs.structs.references import NamespaceName, Resource

from controller.resources.reading.fields import metadata_of, metadata_ref
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from controller.sources.api_session import ApiSessionError

_log = logging.getLogger("sluice.sources")
requests_log = logging.getLogger("sluice.sources.requests")
"""Where kopf logs each try of a request."""

CHUNK = 500
"""Objects per page of a list."""
OBJECTS_PER_TURN = 25
"""Objects that are read in one turn of the event loop."""
WATCH_SECONDS = (50, 70)
"""How long one watch request lasts, drawn anew for each kind; the next one goes on where it ended."""
WATCH_MARGIN = 10
"""Seconds after its end when a watch that says nothing is given up."""
CONNECT_SECONDS = 10.0
LIST_SECONDS = 60.0
"""How long a page of a list may take."""
BACKOFFS = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between the tries of one request."""
BACKOFF_FIRST, BACKOFF_MOST = 0.5, 10.0
"""Seconds between rounds of one kind, doubling, each shortened by up to a half at random."""
CONFIRM_SECONDS = 10.0
"""How long a kind must be gone before its objects are: an API server that starts says so of kinds that it has not read yet."""
GONE = 410
"""Status of a watch from a version that is forgotten."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind that is watched."""

    name: str
    group: str
    version: str
    plural: str
    namespaced: bool = True
    fields: str = ""
    """Field selector."""
    labels: str = ""
    """Label selector: an object that loses its labels is gone, as far as the API server says."""

    @property
    def api_version(self) -> str:
        """``group/version``, or the version alone."""
        return f"{self.group}/{self.version}" if self.group else self.version


class State(enum.Enum):
    """How far a reflector is."""

    STARTING = enum.auto()
    LISTED = enum.auto()
    ABSENT = enum.auto()
    FORBIDDEN = enum.auto()


class Sink(Protocol):
    """Receives what reflectors read."""

    def apply(self, ref: ObjectRef, raw: Mapping[str, Any], kind: Kind) -> None:
        """Take a version of an object."""

    def remove(self, ref: ObjectRef, kind: Kind) -> None:
        """Forget an object."""

    def state_changed(self, reflector: "Reflector") -> None:
        """Take a reflector's new state or problem."""


class StreamError(Exception):
    """A watch gave something that is no event, or an error; the message says what."""


FAILURES: tuple[type[Exception], ...] = (
    errors.APIError,
    errors.APISessionClosed,
    aiohttp.ClientError,
    StreamError,
    ApiSessionError,
    ValueError,  # no JSON, or no UTF-8
    OSError,
    TimeoutError,
)
"""What a request or a watch ends with when it is not answered as meant."""


def watch_settings(kind: Kind) -> kopf.OperatorSettings:
    """Return kopf's settings for one kind (docs/architecture.md, kopf)."""
    settings = kopf.OperatorSettings()
    settings.watching.chunk_size = CHUNK
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.networking.request_timeout = LIST_SECONDS
    settings.networking.error_backoffs = BACKOFFS
    if kind.fields:
        settings.watching.field_selectors[kind.plural] = kind.fields
    if kind.labels:
        settings.watching.label_selectors[kind.plural] = kind.labels
    return settings


def answer_of(error: Exception) -> str:
    """Return what the API server answered to a request that failed, or why there is no answer; short and on one line."""
    answer = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, errors.APIError):
        answer = f"{error.status} {error.message or error.code or ''}".strip()
    return answer[:300]


class Reflector:
    """One kind in one namespace (or everywhere), brought into the sink as the API server has it."""

    backoff_most = BACKOFF_MOST

    def __init__(self, kind: Kind, namespace: str | None, sink: Sink) -> None:
        self.kind, self.namespace = kind, None if namespace is None else NamespaceName(namespace)
        self.state = State.STARTING
        self.problem: Problem | None = None
        self.last_answer = time.monotonic()
        """When the API server last answered, a refusal included."""
        self._sink = sink
        self._settings = watch_settings(kind)
        self._seconds = random.randint(*WATCH_SECONDS)  # noqa: S311  no secret: only not all at the same moment
        self._resource = Resource(kind.group, kind.version, kind.plural, kind=kind.name, namespaced=kind.namespaced)
        self._known: set[ObjectRef] = set()
        self._backoff = BACKOFF_FIRST
        self._absent_since = 0.0

    @property
    def where(self) -> str:
        """Name what is watched, for people."""
        return f"{self.kind.plural}{f' in {self.namespace}' if self.namespace else ''}"

    async def run(self) -> None:
        """List and watch for ever."""
        while True:
            try:
                version = await self._list()
                await self._watch(version)
            except errors.APINotFoundError as error:
                self._absent(error)
            except errors.APIForbiddenError as error:
                self._report_problem(Reason.KIND_FORBIDDEN, error, "the rights to get, list and watch them would be accepted")
                if self.state in (State.STARTING, State.ABSENT):
                    self._set_state(State.FORBIDDEN)
            except FAILURES as error:
                self._report_problem(Reason.KIND_UNREACHABLE, error, "what was known of them stays")
            except Exception as error:  # noqa: BLE001  a fault of ours in one kind takes nothing from the others
                _log.exception("kind=%s the reflector failed; it starts again", self.where)
                self._report_problem(Reason.KIND_UNREACHABLE, error, "what was known of them stays")
            self.last_answer = time.monotonic()
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self._backoff * random.uniform(0.5, 1.0))  # noqa: S311  no secret: only not all at the same moment
        self._backoff = min(2 * self._backoff, self.backoff_most)

    async def _list(self) -> str:
        """Bring the sink to what a list says; return the version from which to watch."""
        version, listed = await self._read()
        if self._known and not listed:
            # An empty list where there were objects is believed only if a second one is empty too.
            await asyncio.sleep(1.0)
            version, listed = await self._read()
        for ref in self._known - listed:
            self._sink.remove(ref, self.kind)
        self._known = listed
        self._recovered()
        self._set_state(State.LISTED)
        return version

    async def _read(self) -> tuple[str, set[ObjectRef]]:
        version, listed = "", set()
        async for page, at in fetching.fetch_objs(
            logger=requests_log, settings=self._settings, resource=self._resource, namespace=self.namespace
        ):
            self.last_answer, version = time.monotonic(), at
            for number, raw in enumerate(page):
                listed.add(self._apply(raw))
                if number % OBJECTS_PER_TURN == OBJECTS_PER_TURN - 1:
                    await asyncio.sleep(0)
        return version, listed

    async def _watch(self, version: str) -> None:
        """Follow changes until the API server has forgotten the version; then a new list is needed."""
        while True:
            opened = time.monotonic()
            try:
                async for event in self._stream(version):
                    self.last_answer = time.monotonic()
                    kind, raw = _read_event(event)
                    if kind == "ERROR" and raw.get("code") == GONE:
                        return
                    if kind == "ERROR":
                        raise StreamError(f"the watch ended with {raw.get('code')} {raw.get('message')}")
                    version = self._apply_event(kind, raw, version)
                    self._recovered()
            except (aiohttp.ClientError, OSError, TimeoutError, errors.APIServerError, errors.APITooManyRequestsError) as error:
                # What was missed is asked for from the same version on: a list is needed only when that is forgotten.
                self._report_problem(Reason.KIND_UNREACHABLE, error, "what was known of them stays")
                await self._pause()
                continue
            except errors.APIError as error:
                if error.status == GONE:
                    return
                raise
            self.last_answer = time.monotonic()
            if self.last_answer - opened < WATCH_SECONDS[0] / 2:
                await self._pause()  # it was not its time to end: a server that closes at once is not asked at once
            else:
                self._recovered()

    async def _stream(self, version: str) -> AsyncIterator[Any]:
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(self._seconds),
            **({"fieldSelector": self.kind.fields} if self.kind.fields else {}),
            **({"labelSelector": self.kind.labels} if self.kind.labels else {}),
        }
        async with await self._open(params) as response:
            self._clear_problem()
            async for line in self._lines(response.content):
                yield json.loads(line)

    async def _open(self, params: dict[str, str], headers: dict[str, str] | None = None) -> aiohttp.ClientResponse:
        """Ask for a watch."""
        return await api.request(
            method="get",
            url=self._resource.get_url(namespace=self.namespace, params=params),
            headers=headers,
            logger=requests_log,
            settings=self._settings,
            timeout=aiohttp.ClientTimeout(total=self._seconds + WATCH_MARGIN, sock_connect=CONNECT_SECONDS),
        )

    def _lines(self, content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
        return api.iter_jsonlines(content)

    def _apply_event(self, kind: str, raw: Mapping[str, Any], version: str) -> str:
        """Take one event; return the version that it brings."""
        if kind == "DELETED":
            ref = self._ref(raw)
            self._known.discard(ref)
            self._sink.remove(ref, self.kind)
        elif kind in ("ADDED", "MODIFIED"):
            self._known.add(self._apply(raw))
        elif kind != "BOOKMARK":
            _log.warning("kind=%s type=%r an event of an unknown type is passed over", self.where, kind)
            return version
        return str(metadata_of(raw).get("resourceVersion") or version)

    def _recovered(self) -> None:
        self._backoff, self._absent_since = BACKOFF_FIRST, 0.0
        self._clear_problem()

    def _clear_problem(self) -> None:
        if self.problem is not None:
            self.problem = None
            _log.info("kind=%s they are watched again", self.where)
            self._sink.state_changed(self)

    def _ref(self, raw: Mapping[str, Any]) -> ObjectRef:
        return metadata_ref(raw, self.kind.name, namespaced=self.kind.namespaced)

    def _apply(self, raw: Any) -> ObjectRef:
        if not isinstance(raw, Mapping):
            raise StreamError(f"{type(raw).__name__} was found where an object would be accepted")
        ref = self._ref(raw)
        self._sink.apply(ref, {**raw, "apiVersion": self.kind.api_version, "kind": self.kind.name}, self.kind)
        return ref

    def _absent(self, error: errors.APIError) -> None:
        self._report_problem(Reason.KIND_ABSENT, error, "they are found when their definition is installed")
        now = time.monotonic()
        self._absent_since = self._absent_since or now
        if self._known and now - self._absent_since < CONFIRM_SECONDS:
            self._backoff = BACKOFF_FIRST
            return
        for ref in self._known:
            self._sink.remove(ref, self.kind)
        self._known = set()
        self._set_state(State.ABSENT)

    def _set_state(self, state: State) -> None:
        if self.state is not state:
            self.state = state
            self._sink.state_changed(self)

    def _report_problem(self, reason: Reason, error: Exception, then: str) -> None:
        """Report a problem once; the API server's words for it may differ from try to try."""
        if self.problem is not None and self.problem.reason is reason:
            return
        answer = answer_of(error)
        _log.warning("kind=%s reason=%s error=%r", self.where, reason, answer)
        message = f"{self.where}: the API server's answer to list or watch them is {answer!r}; {then}."
        self.problem = Problem(ObjectRef("Kind", self.namespace or "", self.kind.plural), reason, "", message)
        self._sink.state_changed(self)


def _read_event(event: Any) -> tuple[str, Mapping[str, Any]]:
    kind, raw = (event.get("type"), event.get("object")) if isinstance(event, Mapping) else (None, None)
    if not isinstance(kind, str) or not isinstance(raw, Mapping):
        raise StreamError("an event without a type or an object")
    return kind, raw
