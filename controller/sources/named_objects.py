"""Named Secrets and ConfigMaps as the API server has them: a watch per name that brings versions, and reads of what changed.

Only what a served object names is asked for, by its name: `metadata.name=NAME` lists and watches that one object and is all that
a role with `resourceNames` allows. A list of the namespace with a filter of ours would bring every Secret of it into this process.

The watches ask for metadata alone (`as=PartialObjectMetadata`), and contents are read one by one, four at once, by turns of
namespaces (`read_queue.py`). Were contents in the watches, whoever may write a hundred Secrets of 1 MiB could have a hundred of
them in our buffers at once, and what is over a limit would be sent all the same, again with each change.

HTTP/1.1 takes a connection per watch. That is what a kubelet does for the Secrets and ConfigMaps of its pods; asking each name
again and again was its way before, and cost the API server more (kubernetes/kubernetes #64752). 1,000 watches take 60 KB each here,
30 to 80 KB each in the API server, and 1 % of a CPU on either side, which is that they are asked for anew every two minutes; asking
1,000 names every 30 s would take twice the CPU and see a change 15 s late. So watches are bounded by the number of names, and
by descriptors: a name for which there is none left is asked every 30 s.
"""

import asyncio
import contextvars
import json
import logging
import random
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kopf._cogs.clients import api, errors
from kopf._cogs.structs.references import NamespaceName, Resource

from controller.resources.reading.fields import metadata_of
from controller.resources.reading.named_objects import (
    NamedObject,
    NamedProblem,
    Reference,
    absent,
    forbidden,
    parse_named_object,
    response_too_large,
    unreachable,
)
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from controller.sources.name_reflector import BACKOFF_MOST, KINDS, MOST_METADATA, NameReflector, Places, read_body
from controller.sources.named_grants import LIMITS, Limits
from controller.sources.named_store import NamedStore, StoredNames
from controller.sources.read_queue import ReadQueue
from controller.sources.reflector import (
    BACKOFF_FIRST,
    FAILURES,
    Kind,
    Reflector,
    State,
    StreamError,
    answer_of,
    requests_log,
)

_log = logging.getLogger("sluice.sources")
_RESOURCES = {name: Resource(kind.group, kind.version, kind.plural, kind=name, namespaced=True) for name, kind in KINDS.items()}
READING = 4
"""Contents that are read at once, each of which may take several times its size for a moment."""
MOST_RESPONSE = 4 * 1024 * 1024
"""Bytes of one object as JSON."""
RESERVED_DESCRIPTORS = 256
"""Descriptors that are left for everything else in this process."""


class _Name:
    """One name that is followed: where its reflector brings what it hears, and how far reading it is."""

    __slots__ = ("_objects", "again", "failures", "problem", "reading", "ref", "reflector", "retry", "stale", "task", "version")

    def __init__(self, ref: ObjectRef, objects: "ClusterNamedObjects", places: Places) -> None:
        self._objects = objects
        self.ref = ref
        self.reflector = NameReflector(ref, self, places)
        self.task: asyncio.Task[None] | None = None
        self.problem: Problem | None = None
        """What keeps the name from being followed."""
        self.version = ""
        """The newest known one of the object; empty: there is no object, or nothing is known."""
        self.reading = False
        self.again = False
        """It changed while it was being read."""
        self.stale = False
        """It was deleted while it was being read: what the read brings may be from before that."""
        self.failures = 0
        """Reads in a row that failed."""
        self.retry: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Follow it no more."""
        if self.task is not None:
            self.task.cancel()
        if self.retry is not None:
            self.retry.cancel()

    def apply(self, ref: ObjectRef, raw: Mapping[str, Any], kind: Kind) -> None:
        """Take note of a version of the object."""
        del kind
        version = str(metadata_of(raw).get("resourceVersion"))
        if ref == self.ref and self.version != version:
            self.version = version
            self._objects.push((ref,))

    def remove(self, ref: ObjectRef, kind: Kind) -> None:
        """Take note that the object is gone."""
        del kind
        if ref == self.ref:
            self.version, self.stale = "", True
            self._objects.put(self, absent(self.ref))

    def state_changed(self, reflector: Reflector) -> None:
        """Take note of what keeps the name from being followed, and of a first list without its object."""
        before, self.problem = self.problem, reflector.problem
        if self.problem is not None:
            if self.problem is not before:
                self._objects.fail(self)
            return
        self._objects.recover(self)
        if reflector.state is State.LISTED and not self.version:
            self._objects.put(self, absent(self.ref))


class ClusterNamedObjects(StoredNames):
    """A `NamedSource` over the API server.

    `changed` is called with an object when its state is another one. `watches`: how many there may be at most; None: as many as
    there may be names, if descriptors allow.
    """

    def __init__(self, changed: Callable[[ObjectRef], None], limits: Limits = LIMITS, *, watches: int | None = None) -> None:
        self._store = NamedStore(changed, limits)
        self._queue = ReadQueue(time.monotonic)
        self._names: dict[ObjectRef, _Name] = {}
        self._places = Places(_descriptors_for(limits.names) if watches is None else watches)
        self._group: asyncio.TaskGroup | None = None
        self._context: contextvars.Context | None = None

    async def run(self) -> None:
        """Follow names for ever, with the session that is installed in this task (`ApiSession.install`)."""
        try:
            async with asyncio.TaskGroup() as group:
                # Names that are wanted later, by whatever task, ask with the session of this one.
                self._group, self._context = group, contextvars.copy_context()
                for name in self._names.values():
                    self._start(name)
                for _ in range(READING):
                    group.create_task(self._read_for_ever(), name="reader of named objects")
        finally:
            self._group = None

    def want(self, references: Iterable[Reference]) -> None:
        """Follow what these references name, and nothing else."""
        wanted = self._store.want(references)
        for ref in wanted.dropped:
            self._queue.discard(ref)
            self._names.pop(ref).end()
        for ref in wanted.added:
            name = self._names[ref] = _Name(ref, self, self._places)
            self._start(name)
        self.push(wanted.reread)

    def _start(self, name: _Name) -> None:
        if self._group is not None:
            name.task = self._group.create_task(name.reflector.run(), name=f"reflector of {name.ref}", context=self._context)

    def push(self, refs: Iterable[ObjectRef]) -> None:
        """Have the contents of objects read that are there."""
        for ref in refs:
            name = self._names.get(ref)
            if name is not None and name.version:
                self._queue.push(ref)

    def _follows(self, name: _Name) -> bool:
        return self._names.get(name.ref) is name

    def put(self, name: _Name, problem: NamedProblem) -> None:
        """Take note that a name has no object that can be read."""
        if self._follows(name):
            self._queue.discard(name.ref)
            self.push(self._store.put(name.ref, problem))

    def recover(self, name: _Name) -> None:
        """Take note that a name can be followed."""
        if self._follows(name) and not name.failures:
            self._store.recover(name.ref)

    def fail(self, name: _Name) -> None:
        """Take note of what keeps a name from being followed."""
        problem = name.problem
        if problem is not None and problem.reason is Reason.INVALID_SPEC:
            self.put(name, response_too_large(name.ref, MOST_METADATA, "labels, annotations and managed fields"))
        elif problem is not None:
            self._fail(name, problem.message, refused=problem.reason is Reason.KIND_FORBIDDEN)

    def _fail(self, name: _Name, answer: str, *, refused: bool) -> None:
        ref = name.ref
        if not self._follows(name):
            return
        if refused:
            self._store.fail(ref, forbidden(ref, answer))
        elif not self._store.knows(ref):
            self._store.fail(ref, unreachable(ref, answer))

    async def _read_for_ever(self) -> None:
        while True:
            ref = await self._queue.next()
            name = self._names.get(ref)
            if name is None:
                continue
            if name.reading:
                name.again = True  # one read of a name at once: what is older must not come last
                continue
            name.reading, name.again, name.stale = True, False, False
            try:
                await self._read(ref, name)
            except FAILURES as error:
                self._failed(ref, name, error)
            except Exception as error:  # noqa: BLE001  a fault of ours in one object takes nothing from the others
                _log.exception("object=%s it cannot be read; it is tried again", ref)
                self._failed(ref, name, error)
            finally:
                name.reading = False
            if name.again and self._follows(name):
                self._queue.push(ref)

    async def _read(self, ref: ObjectRef, name: _Name) -> None:
        url = _RESOURCES[ref.kind].get_url(namespace=NamespaceName(ref.namespace), name=ref.name)
        try:
            response = await api.request(method="get", url=url, settings=self._places.settings, logger=requests_log)
            async with response:
                body = await read_body(response, MOST_RESPONSE)
        except errors.APINotFoundError:
            result: NamedObject | NamedProblem = absent(ref)
            version = ""
        else:
            self._queue.charge(ref.namespace, MOST_RESPONSE if body is None else len(body))
            if not self._follows(name):
                return
            raw = json.loads(body) if body is not None else {}
            if not isinstance(raw, Mapping):
                raise StreamError(f"{type(raw).__name__} was found where an object would be accepted")
            result = (
                response_too_large(ref, MOST_RESPONSE, "all of it")
                if body is None
                else parse_named_object(ref, raw, self._store.keys(ref))
            )
            version = str(metadata_of(raw).get("resourceVersion") or name.version)
        if self._follows(name) and not name.stale:
            name.version, name.failures = version, 0
            self.push(self._store.put(ref, result))
            if name.problem is not None and name.problem.reason is Reason.KIND_FORBIDDEN:
                self.fail(name)  # it can be read and not be watched

    def _failed(self, ref: ObjectRef, name: _Name, error: Exception) -> None:
        """Have an object read again after a pause, which doubles."""
        if not self._follows(name):
            return
        self._fail(name, answer_of(error), refused=isinstance(error, errors.APIForbiddenError))
        pause = min(BACKOFF_FIRST * 2**name.failures, BACKOFF_MOST) * random.uniform(0.5, 1.0)  # noqa: S311  as above
        name.failures = min(name.failures + 1, 10)
        if name.retry is not None:
            name.retry.cancel()
        name.retry = asyncio.get_running_loop().call_later(pause, self.push, (ref,))


def _descriptors_for(watches: int) -> int:
    """Let this process have a descriptor per watch; return for how many there are."""
    wanted = watches + RESERVED_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return watches if soft == resource.RLIM_INFINITY else max(min(watches, soft - RESERVED_DESCRIPTORS), 0)
