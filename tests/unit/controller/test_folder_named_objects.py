"""Named objects of a folder: kept of what is wanted, whatever order files and wishes come in."""

from pathlib import Path

import pytest

from controller.resources.reading.named_objects import NamedState, Reference, absent
from controller.resources.reading.object_ref import ObjectRef
from controller.sources.folder import FolderSource
from controller.sources.folder_named_objects import FolderNamedObjects
from controller.sources.named_grants import LIMITS, Limits

USERS = ObjectRef("Secret", "shop", "users")
HEADERS = ObjectRef("ConfigMap", "shop", "headers")


def reference(target: ObjectRef, created: str = "") -> Reference:
    kind = "Secret" if target.kind == "Secret" else "ConfigMap"
    return Reference(ObjectRef("Ingress", target.namespace, "web"), created, f"f.{target.name}", kind, target.name)


def manifest(ref: ObjectRef, **data: str) -> str:
    field = "stringData" if ref.kind == "Secret" else "data"
    lines = [f"  {key}: {value!r}" for key, value in data.items()]
    metadata = f"metadata: {{name: {ref.name}, namespace: {ref.namespace}}}"
    return "\n".join([f"apiVersion: v1\nkind: {ref.kind}\n{metadata}\n{field}:", *lines, "---\n"])


class Folder:
    """A folder, its source, and the named objects of it."""

    def __init__(self, path: Path, limits: Limits = LIMITS) -> None:
        self.path = path
        self.changed: list[ObjectRef] = []
        self.source = FolderSource(path)
        self.named = FolderNamedObjects(self.changed.append, limits)
        self.source.attach(self.named)

    async def write(self, name: str, *texts: str) -> None:
        (self.path / name).write_text("".join(texts))
        await self.source.refresh()

    async def want(self, *refs: ObjectRef) -> None:
        self.named.want([reference(ref) for ref in refs])
        await self.source.refresh()

    def values(self, ref: ObjectRef) -> dict[str, bytes] | None:
        state = self.named.states.get(ref)
        return None if state is None or state.content is None else {key: value.data for key, value in state.content.data.items()}

    def said(self, ref: ObjectRef) -> str:
        problem = self.named.states[ref].problem
        return "" if problem is None else problem.text


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("wanted_first", [True, False])
async def test_object_is_there_whether_it_was_wanted_or_written_first(folder: Folder, *, wanted_first: bool) -> None:
    if wanted_first:
        await folder.want(USERS, HEADERS)
        assert folder.named.states[USERS] == NamedState(None, absent(USERS))
    await folder.write("all.yaml", manifest(USERS, auth="a:b"), manifest(HEADERS, one="1"))
    if not wanted_first:
        assert folder.named.kept_bytes == 0
        await folder.want(USERS, HEADERS)

    assert (folder.values(USERS), folder.values(HEADERS)) == ({"auth": b"a:b"}, {"one": b"1"})
    assert folder.named.settled


async def test_source_that_was_read_before_names_were_asked_for_has_them_too(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(manifest(USERS, auth="a:b"))
    source = FolderSource(tmp_path)
    await source.refresh()
    named = FolderNamedObjects(lambda _: None)
    source.attach(named)
    named.want([reference(USERS)])

    await source.refresh()

    assert named.states[USERS].content is not None


async def test_change_and_end_of_a_file_are_seen_and_what_nobody_wants_is_let_go(folder: Folder) -> None:
    await folder.want(USERS)
    await folder.write("a.yaml", manifest(USERS, auth="a:b"))
    await folder.write("a.yaml", manifest(USERS, auth="a:cd"), manifest(HEADERS, one="1"))
    assert folder.values(USERS) == {"auth": b"a:cd"}
    assert folder.named.kept_bytes == 4
    (folder.path / "a.yaml").unlink()
    await folder.source.refresh()
    assert folder.said(USERS) == "was not found; a Secret of this namespace would be accepted."
    await folder.want()

    assert dict(folder.named.states) == {}
    assert folder.changed == [USERS] * 6  # wanted, not found, there, changed, gone, let go


async def test_first_file_by_its_path_has_a_name_and_the_next_one_when_that_is_gone(folder: Folder) -> None:
    await folder.want(USERS)
    await folder.write("b.yaml", manifest(USERS, auth="b"))
    await folder.write("a.yaml", manifest(USERS, auth="a"))
    assert folder.values(USERS) == {"auth": b"a"}
    await folder.write("b.yaml", manifest(USERS, auth="c"))
    assert folder.values(USERS) == {"auth": b"a"}
    await folder.write("a.yaml", manifest(HEADERS, one="1"))

    assert folder.values(USERS) == {"auth": b"c"}


async def test_file_that_breaks_leaves_what_it_gave_and_says_what_it_never_gave(folder: Folder) -> None:
    await folder.want(USERS)
    await folder.write("a.yaml", manifest(USERS, auth="a"), manifest(HEADERS, one="1"))
    await folder.write("a.yaml", "a: [")
    await folder.want(USERS, HEADERS)

    assert (folder.values(USERS), folder.values(HEADERS)) == ({"auth": b"a"}, None)
    assert folder.said(HEADERS).startswith("cannot be read, its file has at line 2: ")


async def test_objects_over_the_bytes_say_so_until_there_is_room(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Limits(bytes_of_namespace=10))
    names = [ObjectRef("Secret", "shop", name) for name in "ab"]
    await folder.want(*names)
    await folder.write("a.yaml", manifest(names[0], k="x" * 8))
    await folder.write("b.yaml", manifest(names[1], k="x" * 8))
    assert folder.named.kept_bytes == 8
    assert "is not kept" in folder.said(names[1])
    await folder.write("a.yaml", manifest(names[0], k="x" * 2))

    assert folder.named.kept_bytes == 10
    assert folder.said(names[1]) == ""


async def test_names_that_are_no_objects_of_core_are_none(folder: Folder) -> None:
    await folder.want(USERS)
    await folder.write("a.yaml", manifest(USERS, auth="a").replace("apiVersion: v1", "apiVersion: example.dev/v1"))

    assert folder.named.states[USERS] == NamedState(None, absent(USERS))
