"""Named objects over an API server that answers as late, wrongly and largely as a test wants; tests/cluster has a real one."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
import kopf
import pytest
from aiohttp import web

from controller.resources.reading.named_objects import NamedState, Reference, absent
from controller.resources.reading.object_ref import ObjectRef
from controller.sources import name_reflector
from controller.sources.api_session import ApiSession
from controller.sources.named_grants import LIMITS, Limits
from controller.sources.named_objects import MOST_RESPONSE, READING, ClusterNamedObjects

USERS = ObjectRef("Secret", "shop", "users")
OTHER = ObjectRef("Secret", "other", "users")
PLURALS = {"secrets": "Secret", "configmaps": "ConfigMap"}


def reference(target: ObjectRef, created: str = "", keys: tuple[str, ...] = ()) -> Reference:
    kind = "Secret" if target.kind == "Secret" else "ConfigMap"
    return Reference(ObjectRef("Ingress", target.namespace, "web"), created, f"f.{target.name}", kind, target.name, keys)


@dataclass
class FakeApi:
    """Objects by kind, namespace and name, with lists, watches and reads of one name; anything else is refused."""

    url: str = ""
    objects: dict[ObjectRef, dict[str, Any]] = field(default_factory=dict)
    version: int = 1
    asked: list[str] = field(default_factory=list)
    """Verb and object of every request."""
    watchers: dict[ObjectRef, list[asyncio.Queue[bytes]]] = field(default_factory=dict)
    on_read: Callable[[ObjectRef, dict[str, Any] | None], Any] | None = None
    """Called, and awaited, with what a read is about to answer; what it returns is answered instead, if anything."""
    refuse: Callable[[str], int | None] = lambda _: None
    """Status that a verb is refused with."""
    reading: int = 0
    most_reading: int = 0

    def put(self, ref: ObjectRef, data: dict[str, str], **metadata: Any) -> None:
        """Create an object or change it."""
        self.version += 1
        kind = "MODIFIED" if ref in self.objects else "ADDED"
        field_name = "stringData" if ref.kind == "Secret" else "data"
        own = {"name": ref.name, "namespace": ref.namespace, "resourceVersion": str(self.version), **metadata}
        self.objects[ref] = {"metadata": own, field_name: data}
        self._tell(ref, kind)

    def delete(self, ref: ObjectRef) -> None:
        self.version += 1
        self.objects[ref]["metadata"]["resourceVersion"] = str(self.version)
        self._tell(ref, "DELETED")
        del self.objects[ref]

    def _tell(self, ref: ObjectRef, kind: str) -> None:
        line = json.dumps({"type": kind, "object": {"metadata": self.objects[ref]["metadata"]}}).encode() + b"\n"
        for watcher in self.watchers.get(ref, ()):
            watcher.put_nowait(line)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        kind, namespace = PLURALS[parts[4]], parts[3]
        selector = request.query.get("fieldSelector", "")
        name = parts[5] if len(parts) == 6 else selector.removeprefix("metadata.name=")
        assert name
        ref = ObjectRef(kind, namespace, name)
        verb = "get" if len(parts) == 6 else "watch" if "watch" in request.query else "list"
        self.asked.append(f"{verb} {ref}")
        status = self.refuse(verb)
        if status is not None:
            body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": f"no {verb}"}
            return web.json_response(body, status=status)
        if verb == "get":
            return await self._read(ref)
        assert "as=PartialObjectMetadata" in request.headers["Accept"]
        if verb == "list":
            found = [{"metadata": self.objects[ref]["metadata"]}] if ref in self.objects else []
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": found})
        return await self._watch(request, ref)

    async def _read(self, ref: ObjectRef) -> web.StreamResponse:
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        try:
            found = json.loads(json.dumps(self.objects.get(ref)))
            if self.on_read is not None:
                answer = await self.on_read(ref, found)
                if answer is not None:
                    return answer  # type: ignore[no-any-return]
            return web.json_response(found if found is not None else {"kind": "Status", "code": 404}, status=200 if found else 404)
        finally:
            self.reading -= 1

    async def _watch(self, request: web.Request, ref: ObjectRef) -> web.StreamResponse:
        lines: asyncio.Queue[bytes] = asyncio.Queue()
        self.watchers.setdefault(ref, []).append(lines)
        response = web.StreamResponse()
        try:
            await response.prepare(request)
            while True:
                await response.write(await lines.get())
        finally:
            self.watchers[ref].remove(lines)


class Followed:
    """Named objects under way."""

    def __init__(self, named: ClusterNamedObjects, heard: asyncio.Event) -> None:
        self.named, self._heard = named, heard

    async def until(self, good: Callable[[], bool]) -> None:
        """Wait until a change of a state makes something true."""
        async with asyncio.timeout(10):
            while not good():
                self._heard.clear()
                await self._heard.wait()

    def values(self, ref: ObjectRef = USERS) -> dict[str, str] | None:
        state = self.named.states.get(ref)
        if state is None or state.content is None:
            return None
        return {name: value.data.decode() for name, value in state.content.data.items()}

    def said(self, ref: ObjectRef = USERS) -> str:
        state = self.named.states.get(ref)
        return "" if state is None or state.problem is None else state.problem.text


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    found = FakeApi()
    app = web.Application()
    app.router.add_get("/{path:.*}", found.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    info = kopf.ConnectionInfo(server=f"http://127.0.0.1:{runner.addresses[0][1]}", token="token")
    monkeypatch.setattr("controller.sources.api_session.log_in", lambda _: info)
    monkeypatch.setattr(name_reflector.NameReflector, "backoff_most", 0.05)
    monkeypatch.setattr("controller.sources.reflector.BACKOFF_FIRST", 0.01)
    monkeypatch.setattr("controller.sources.named_objects.BACKOFF_FIRST", 0.01)
    yield found
    await runner.cleanup()


@contextlib.asynccontextmanager
async def following(limits: Limits = LIMITS, watches: int | None = None) -> AsyncIterator[Followed]:
    heard = asyncio.Event()
    named = ClusterNamedObjects(lambda _: heard.set(), limits, watches=watches)
    session = ApiSession(kopf.OperatorSettings())
    session.install()
    running = asyncio.create_task(named.run())
    try:
        yield Followed(named, heard)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await session.close()


async def test_one_name_is_listed_watched_and_read_and_no_other_is_asked_for(api: FakeApi) -> None:
    api.put(USERS, {"auth": "a", "more": "b"})
    api.put(OTHER, {"auth": "x"})
    async with following() as followed:
        followed.named.want([reference(USERS, keys=("auth",))])
        await followed.until(lambda: followed.values() == {"auth": "a"})
        async with asyncio.timeout(5):
            while not api.watchers.get(USERS):
                await asyncio.sleep(0)
        api.put(OTHER, {"auth": "y"})
        api.put(USERS, {"auth": "c"})
        await followed.until(lambda: followed.values() == {"auth": "c"})
        api.delete(USERS)
        await followed.until(lambda: followed.named.states[USERS] == NamedState(None, absent(USERS)))
        api.put(USERS, {"auth": "d"})
        await followed.until(lambda: followed.values() == {"auth": "d"})

    assert api.asked == [f"{verb} {USERS}" for verb in ("list", "get", "watch", "get", "get")] or api.asked == [
        f"{verb} {USERS}" for verb in ("list", "watch", "get", "get", "get")
    ]


async def test_name_that_is_wanted_no_more_is_asked_for_no_more_and_forgotten(api: FakeApi) -> None:
    api.put(USERS, {"auth": "a"})
    async with following() as followed:
        followed.named.want([reference(USERS)])
        await followed.until(lambda: followed.values() is not None)
        followed.named.want([])

        assert (dict(followed.named.states), followed.named.kept_bytes) == ({}, 0)
        async with asyncio.timeout(5):
            while api.watchers.get(USERS):
                await asyncio.sleep(0)


async def test_answer_from_before_a_deletion_is_not_taken_for_what_there_is(api: FakeApi) -> None:
    """The read is answered before the object is deleted, and arrives after the watch has said so."""
    held, release = asyncio.Event(), asyncio.Event()

    async def hold(ref: ObjectRef, found: dict[str, Any] | None) -> None:
        del ref, found
        held.set()
        await release.wait()

    async with following() as followed:
        followed.named.want([reference(USERS)])
        await followed.until(lambda: followed.said().startswith("was not found"))
        async with asyncio.timeout(5):
            while not api.watchers.get(USERS):
                await asyncio.sleep(0)
        api.on_read = hold
        api.put(USERS, {"auth": "a"})
        async with asyncio.timeout(5):
            await held.wait()
        api.delete(USERS)
        api.put(OTHER, {"auth": "x"})
        followed.named.want([reference(USERS), reference(OTHER)])
        async with asyncio.timeout(5):
            while not api.watchers.get(OTHER):
                await asyncio.sleep(0)  # the deletion was sent before this watch was opened
        release.set()
        await followed.until(lambda: followed.values(OTHER) is not None)

        assert followed.named.states[USERS] == NamedState(None, absent(USERS))
        api.on_read = None
        api.put(USERS, {"auth": "b"})
        await followed.until(lambda: followed.values() == {"auth": "b"})


async def test_changes_while_an_object_is_read_are_read_once_more_and_not_at_the_same_time(api: FakeApi) -> None:
    held, release = asyncio.Event(), asyncio.Event()

    async def hold(ref: ObjectRef, found: dict[str, Any] | None) -> None:
        del found
        if ref == USERS:
            held.set()
            await release.wait()

    api.put(USERS, {"auth": "0"})
    api.on_read = hold
    async with following() as followed:
        followed.named.want([reference(USERS)])
        async with asyncio.timeout(5):
            await held.wait()
            while not api.watchers.get(USERS):
                await asyncio.sleep(0)
        for number in range(1, 10):
            api.put(USERS, {"auth": str(number)})
            await asyncio.sleep(0)
        assert api.reading == 1
        release.set()
        await followed.until(lambda: followed.values() == {"auth": "9"})

    assert api.asked.count(f"get {USERS}") <= 3


async def test_few_objects_are_read_at_once_and_each_namespace_has_its_turn(api: FakeApi) -> None:
    release = asyncio.Event()
    order: list[str] = []

    async def hold(ref: ObjectRef, found: dict[str, Any] | None) -> None:
        del found
        order.append(ref.namespace)
        await release.wait()

    attacker = [ObjectRef("Secret", "attacker", f"s{number}") for number in range(60)]
    for ref in (*attacker, OTHER):
        api.put(ref, {"k": "v"})
    api.on_read = hold
    async with following() as followed:
        followed.named.want([reference(ref) for ref in attacker])
        async with asyncio.timeout(10):
            while sum(bool(api.watchers.get(ref)) for ref in attacker) < 60:
                await asyncio.sleep(0.001)
        followed.named.want([reference(ref) for ref in (*attacker, OTHER)])
        async with asyncio.timeout(10):
            while not api.watchers.get(OTHER):
                await asyncio.sleep(0.001)
        release.set()
        await followed.until(lambda: followed.named.settled)

    assert api.most_reading == READING
    assert order.index("other") <= 2 * READING


@pytest.mark.parametrize("verb", ["list", "watch", "get"])
async def test_right_that_is_missing_is_said_until_it_is_given(api: FakeApi, verb: str) -> None:
    api.put(USERS, {"auth": "a"})
    api.refuse = lambda asked: 403 if asked == verb else None
    async with following() as followed:
        followed.named.want([reference(USERS)])
        await followed.until(lambda: "may not be read" in followed.said())
        assert f"403 no {verb}" in followed.said()
        if verb == "watch":
            await followed.until(lambda: followed.values() == {"auth": "a"} and "may not be read" in followed.said())
        api.refuse = lambda _: None
        await followed.until(lambda: followed.said() == "" and followed.values() == {"auth": "a"})


async def test_problem_of_a_watch_alone_is_said_without_a_break(api: FakeApi) -> None:
    api.put(USERS, {"auth": "a"})
    api.refuse = lambda asked: 403 if asked == "watch" else None
    async with following() as followed:
        followed.named.want([reference(USERS)])
        await followed.until(lambda: followed.values() is not None and "403 no watch" in followed.said())
        states = followed.named.states
        tries = api.asked.count(f"watch {USERS}")
        async with asyncio.timeout(10):
            while api.asked.count(f"watch {USERS}") < tries + 4:
                await asyncio.sleep(0.001)

        assert followed.named.states is states


class Pieces:
    """A body that comes as it is fed."""

    def __init__(self) -> None:
        self.fed: asyncio.Queue[bytes] = asyncio.Queue()

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        while piece := await self.fed.get():
            for start in range(0, len(piece), size):
                yield piece[start : start + size]


async def test_few_long_lines_of_watches_are_read_at_once_and_none_is_endless() -> None:
    places = asyncio.Semaphore(1)
    long = b"x" * (2 * name_reflector.SHORT_LINE)
    first, second, third = Pieces(), Pieces(), Pieces()

    def lines(pieces: Pieces) -> AsyncIterator[bytes]:
        return name_reflector.read_lines(cast("aiohttp.StreamReader", pieces), places)

    async with asyncio.timeout(10):
        reading = [asyncio.create_task(anext(lines(pieces))) for pieces in (first, second, third)]  # type: ignore[arg-type]
        first.fed.put_nowait(long)
        while not places.locked():
            await asyncio.sleep(0)
        second.fed.put_nowait(long + b"\n")
        third.fed.put_nowait(b"short\n")
        assert await reading[2] == b"short"
        assert not reading[1].done()
        first.fed.put_nowait(b"\n")
        assert [await reading[0], await reading[1]] == [long, long]
        assert not places.locked()
        endless = asyncio.create_task(anext(lines(first)))  # type: ignore[arg-type]
        first.fed.put_nowait(b"x" * (name_reflector.MOST_METADATA + 1))
        with pytest.raises(name_reflector.MetadataTooLargeError):
            await endless
        assert not places.locked()


async def test_right_that_is_withdrawn_is_said_and_what_was_read_stays(api: FakeApi) -> None:
    api.put(USERS, {"auth": "a"})
    async with following() as followed:
        followed.named.want([reference(USERS)])
        await followed.until(lambda: followed.values() is not None)
        api.refuse = lambda _: 403
        api.put(USERS, {"auth": "b"})
        await followed.until(lambda: "may not be read" in followed.said())

        assert followed.values() == {"auth": "a"}


async def test_server_that_fails_is_asked_again_and_costs_nothing_that_was_read(api: FakeApi) -> None:
    api.put(USERS, {"auth": "a"})
    async with following() as followed:
        followed.named.want([reference(USERS)])
        await followed.until(lambda: followed.values() is not None)
        api.refuse = lambda _: 500
        followed.named.want([reference(USERS), reference(OTHER)])
        await followed.until(lambda: "cannot be read now" in followed.said(OTHER))
        assert (followed.values(), followed.said()) == ({"auth": "a"}, "")
        api.put(OTHER, {"auth": "x"})
        api.refuse = lambda _: None
        await followed.until(lambda: followed.values(OTHER) == {"auth": "x"})


async def test_name_for_which_no_watch_is_left_is_asked_now_and_then(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_reflector, "POLL_SECONDS", 0.05)
    api.put(USERS, {"auth": "a"})
    api.put(OTHER, {"auth": "x"})
    async with following(watches=1) as followed:
        followed.named.want([reference(USERS), reference(OTHER)])
        await followed.until(lambda: None not in (followed.values(), followed.values(OTHER)))
        api.put(USERS, {"auth": "b"})
        api.put(OTHER, {"auth": "y"})
        await followed.until(lambda: (followed.values(), followed.values(OTHER)) == ({"auth": "b"}, {"auth": "y"}))

    assert sum(one.startswith("watch") for one in api.asked) == 1


async def test_object_and_metadata_that_are_too_large_are_said_and_read_when_they_are_not(api: FakeApi) -> None:
    async def flood(ref: ObjectRef, found: dict[str, Any] | None) -> web.Response | None:
        del ref, found
        return web.Response(body=b" " * (MOST_RESPONSE + 1))

    api.put(USERS, {"auth": "a"}, annotations={"a": "x" * name_reflector.MOST_METADATA})
    async with following() as followed:
        followed.named.want([reference(USERS)])
        await followed.until(lambda: followed.said().startswith("is too large: labels, annotations and managed fields take"))
        api.on_read = flood
        api.put(USERS, {"auth": "b"})
        await followed.until(lambda: followed.said().startswith("is too large: all of it takes more than 4194304 bytes"))
        api.on_read = None
        api.put(USERS, {"auth": "c"})
        await followed.until(lambda: followed.values() == {"auth": "c"})
        api.put(USERS, {"auth": "d"}, annotations={"a": "x" * (name_reflector.MOST_METADATA // 2)})
        await followed.until(lambda: followed.values() == {"auth": "d"})
        api.put(USERS, {"auth": "e"}, annotations={"a": "x" * name_reflector.MOST_METADATA})
        await followed.until(lambda: followed.said() != "")

        assert followed.values() is None


async def test_answers_that_are_no_objects_are_asked_for_again(api: FakeApi) -> None:
    answers = [b"[]", b"{", b"\xff"]

    async def nonsense(ref: ObjectRef, found: dict[str, Any] | None) -> web.Response | None:
        del ref, found
        return web.Response(body=answers.pop()) if answers else None

    api.put(USERS, {"auth": "a"})
    api.on_read = nonsense
    async with following() as followed:
        followed.named.want([reference(USERS)])
        await followed.until(lambda: followed.values() == {"auth": "a"})

    assert answers == []


async def test_namespaces_are_kept_apart_by_their_limits(api: FakeApi) -> None:
    attacker = [ObjectRef("ConfigMap", "attacker", f"s{number:02}") for number in range(20)]
    for ref in attacker:
        api.put(ref, {"k": "x" * 100})
    api.put(OTHER, {"auth": "x"})
    async with following(Limits(names_of_namespace=10, bytes_of_namespace=500)) as followed:
        followed.named.want([*(reference(ref, "1") for ref in attacker), reference(OTHER, "2")])
        await followed.until(lambda: followed.named.settled)

        assert followed.values(OTHER) == {"auth": "x"}
        assert followed.named.kept_bytes == 501
        said = [followed.said(ref).partition(":")[0] for ref in attacker]
        assert said == [""] * 5 + ["is not kept"] * 5 + ["is not read"] * 10
    assert len({one for one in api.asked if one.startswith("list")}) == 11
