"""A folder as a source: what changes is read, what cannot be read keeps what it gave."""

import asyncio
import contextlib
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.resources.reading.object_ref import ObjectRef
from controller.sources import folder
from controller.sources.folder import FolderError, FolderSource
from controller.sources.inotify import FolderWatch

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {{name: {0}}}\nspec: {{ports: [{{port: {1}}}]}}\n"
A, B = ObjectRef("Service", "default", "a"), ObjectRef("Service", "default", "b")


def port_of(source: FolderSource, ref: ObjectRef) -> int:
    return source.snapshot.services[ref].ports[0].port


async def test_files_are_read_recursively_and_dot_names_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "deep" / "er" / "a.yml").write_text(SERVICE.format("a", 1) + "---\n" + SERVICE.format("b", 2))
    (tmp_path / ".hidden" / "c.yaml").write_text(SERVICE.format("c", 3))
    (tmp_path / ".d.yaml").write_text(SERVICE.format("d", 4))
    (tmp_path / "notes.txt").write_text("no object")
    source = FolderSource(tmp_path)

    assert await source.refresh()
    assert set(source.snapshot.services) == {A, B}
    assert not await source.refresh()


@pytest.mark.timeout(10)
async def test_links_to_folders_are_followed_and_those_that_lead_back_have_an_end(tmp_path: Path) -> None:
    objects = tmp_path / "objects"
    for place, name in ((objects / "sub", "a"), (tmp_path / "elsewhere", "b")):
        place.mkdir(parents=True)
        (place / f"{name}.yaml").write_text(SERVICE.format(name, 80))
        for link, to in (("up", ".."), ("same", "."), ("itself", "itself"), ("nowhere", "none")):
            (place / link).symlink_to(to)
    (tmp_path / "elsewhere" / "up").unlink()
    (objects / "more").symlink_to(tmp_path / "elsewhere")
    source = FolderSource(objects)
    await source.refresh()

    assert (set(source.snapshot.services), source.problems) == ({A, B}, ())


async def test_json_and_lists_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '{"kind": "List", "apiVersion": "v1", "items": [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},'
        ' "spec": {"ports": [{"port": 1}]}}]}'
    )
    source = FolderSource(tmp_path)
    await source.refresh()

    assert port_of(source, A) == 1


@pytest.mark.parametrize(
    ("name", "broken", "line"),
    [
        ("a.yaml", "kind: Service\n  bad: [", "line 2"),
        ("a.yaml", "kind: Service\n---\n# the third\n---\njust text\n", "line 5"),
        ("a.json", '{\n"a": }', "line 2"),
        ("a.json", "[\n\t1]", "line 1"),
    ],
)
async def test_file_that_does_not_parse_keeps_its_objects_and_names_the_line(
    tmp_path: Path, name: str, broken: str, line: str
) -> None:
    path = tmp_path / name
    path.write_text('{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}}')
    source = FolderSource(tmp_path)
    await source.refresh()
    path.write_text(broken)

    assert await source.refresh()
    assert port_of(source, A) == 1
    assert len(source.problems) == 1
    assert source.problems[0].ref.name == name
    assert source.problems[0].message.startswith(f"{line}: ")
    assert "the objects that it gave before stay" in source.problems[0].message


async def test_object_that_became_unreadable_keeps_its_last_good_version(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SERVICE.format("a", 1))
    source = FolderSource(tmp_path)
    await source.refresh()
    path.write_text(SERVICE.format("a", "no-port"))

    assert await source.refresh()
    assert port_of(source, A) == 1
    assert source.snapshot.malformed[A].problems[0].field == "spec.ports[0].port"


async def test_removed_file_removes_its_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SERVICE.format("a", 1))
    source = FolderSource(tmp_path)
    await source.refresh()
    path.unlink()

    assert await source.refresh()
    assert A not in source.snapshot.services


async def test_object_in_two_files_is_the_first_files_until_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(SERVICE.format("a", 1))
    (tmp_path / "2.yaml").write_text(SERVICE.format("a", 2))
    source = FolderSource(tmp_path)
    await source.refresh()
    assert port_of(source, A) == 1
    assert "is in 1.yaml already" in source.problems[0].message

    (tmp_path / "1.yaml").unlink()
    await source.refresh()
    await source.refresh()

    assert port_of(source, A) == 2
    assert source.problems == ()


async def test_mounted_configmap_that_is_swapped_is_read_anew(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "a.yaml").write_text(SERVICE.format("a", number))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    source = FolderSource(tmp_path)
    await source.refresh()
    assert port_of(source, A) == 1

    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")

    assert await source.refresh()
    assert port_of(source, A) == 2


async def test_folder_that_is_not_there_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="would be accepted"):
        await FolderSource(tmp_path / "none").refresh()


async def test_hint_has_only_the_named_files_looked_at(tmp_path: Path) -> None:
    source = FolderSource(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(SERVICE.format(name, 80))
    await source.refresh()
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(SERVICE.format(f"{name}2", 80))

    assert await source.refresh([str(tmp_path / "a.yaml"), str(tmp_path / ".tmp1")])
    assert sorted(ref.name for ref in source.snapshot.services) == ["a2", "b"]
    assert not await source.refresh([str(tmp_path / ".tmp1")])
    (tmp_path / "a.yaml").unlink()
    assert await source.refresh([str(tmp_path / "a.yaml")])
    assert sorted(ref.name for ref in source.snapshot.services) == ["b"]
    assert await source.refresh()
    assert sorted(ref.name for ref in source.snapshot.services) == ["b2"]


@pytest.mark.parametrize("whole", [False, True])
async def test_file_that_changes_twice_in_a_tick_of_its_clock_is_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    monkeypatch.setattr(folder, "TICK", 60 * 10**9)
    path, source = tmp_path / "a.yaml", FolderSource(tmp_path)
    path.write_text(SERVICE.format("a", 80))
    tick = path.stat().st_mtime_ns
    await source.refresh()
    path.write_text(SERVICE.format("a", 90))
    os.utime(path, ns=(tick, tick))

    assert await source.refresh(() if whole else [str(path)])
    assert port_of(source, A) == 90


@pytest.mark.parametrize("hint", ["folder", "..data", "sub/..2026", "link.yaml", "x.txt"])
async def test_hint_of_what_is_no_plain_file_has_everything_looked_at(tmp_path: Path, hint: str) -> None:
    source = FolderSource(tmp_path)
    (tmp_path / "a.yaml").write_text(SERVICE.format("a", 80))
    (tmp_path / "link.yaml").symlink_to(tmp_path / "elsewhere.yml")
    await source.refresh()
    (tmp_path / "a.yaml").write_text(SERVICE.format("a2", 80))

    assert await source.refresh([str(tmp_path / hint)])
    assert sorted(ref.name for ref in source.snapshot.services) == ["a2"]


async def test_file_that_gave_way_is_read_again_when_the_other_is_gone_though_only_that_was_heard_of(tmp_path: Path) -> None:
    source = FolderSource(tmp_path)
    (tmp_path / "a.yaml").write_text(SERVICE.format("same", 80))
    (tmp_path / "b.yaml").write_text(SERVICE.format("same", 80))
    await source.refresh()
    assert len(source.problems) == 1
    (tmp_path / "a.yaml").unlink()
    await source.refresh([str(tmp_path / "a.yaml")])
    await source.refresh([str(tmp_path / ".tmp")])

    assert (len(source.problems), len(source.snapshot.services)) == (0, 1)


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.yaml", "kind: A\nkind: B\n", "line 2: the key 'kind' stands twice"),
        ("x.json", '{"kind": "A", "kind": "B"}', "some line: the key 'kind' stands twice"),
        pytest.param(
            "x.yaml",
            f"apiVersion: sluice.dev/v1alpha1\nkind: WsRoute\nspec:\n  {LAUGHS.replace(chr(10), chr(10) + '  ')}",
            "aliases unfold",
            marks=pytest.mark.slow,
        ),
        pytest.param("x.yaml", "kind: &a [*a]\n", "aliases unfold", marks=pytest.mark.slow),
        ("x.yaml", "kind: [\n", "line 2"),
        ("x.yaml", "kind:\t- a\n\tb: c\n", "line"),
    ],
)
async def test_file_that_means_no_good_is_said_and_the_others_are_read(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / "good.yaml").write_text(SERVICE.format("a", 1))
    (tmp_path / name).write_text(text)
    source = FolderSource(tmp_path)
    async with asyncio.timeout(20):
        await source.refresh()

    (problem,) = source.problems
    assert said in problem.message
    assert problem.message.isprintable()
    assert set(source.snapshot.services) == {A}


async def test_binary_file_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"kind: \xff\xfe\0")
    source = FolderSource(tmp_path)
    await source.refresh()

    assert source.problems[0].message.isprintable()


async def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.yaml")
    (tmp_path / "good.yaml").write_text(SERVICE.format("a", 1))
    source = FolderSource(tmp_path)
    async with asyncio.timeout(10):
        await source.refresh()

    assert set(source.snapshot.services) == {A}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user may look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        objects = Path(name) / "objects"
        (objects / "sub").mkdir(parents=True)
        for path, service in ((objects / "a.yaml", "a"), (objects / "sub" / "b.yaml", "b")):
            path.write_text(SERVICE.format(service, 80))
        yield objects


@contextlib.contextmanager
def forbidden(path: Path) -> Iterator[None]:
    """Be one who may do nothing with a path, which root always may."""
    mode, user = path.stat().st_mode, os.geteuid()
    path.chmod(0)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)


@pytest.mark.parametrize("hints", [(), ("sub/b.yaml",)])
@pytest.mark.parametrize("name", ["sub", "sub/b.yaml"])
async def test_what_may_not_be_read_keeps_its_objects_and_is_said_until_it_may(
    open_folder: Path, name: str, hints: tuple[str, ...]
) -> None:
    source = FolderSource(open_folder)
    await source.refresh()
    heard = [str(open_folder / hint) for hint in hints]
    (open_folder / "sub" / "b.yaml").write_text(SERVICE.format("b", 8080))
    with forbidden(open_folder / name):
        assert await source.refresh(heard)
    (problem,) = source.problems
    kept = port_of(source, B)

    assert kept == 80
    assert problem.ref.name == "sub/b.yaml"
    assert "Permission denied" in problem.message
    assert "the objects that it gave before stay" in problem.message
    assert await source.refresh(heard)
    assert (port_of(source, B), source.problems) == (8080, ())


@pytest.mark.parametrize("place", [".", ".."])
async def test_folder_that_may_not_be_read_is_an_error_and_keeps_its_objects(open_folder: Path, place: str) -> None:
    source = FolderSource(open_folder)
    await source.refresh()
    with forbidden((open_folder / place).resolve()), pytest.raises(FolderError, match="would be accepted"):
        await source.refresh()

    assert set(source.snapshot.services) == {A, B}


async def test_process_that_may_open_no_more_files_keeps_its_objects(open_folder: Path) -> None:
    source = FolderSource(open_folder)
    await source.refresh()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(FolderError, match="would be accepted"):
            await source.refresh()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert set(source.snapshot.services) == {A, B}


async def test_news_of_what_may_not_be_looked_at_is_heard(open_folder: Path) -> None:
    with FolderWatch(open_folder) as watch:
        (open_folder / "c.yaml").write_text(SERVICE.format("c", 80))
        with forbidden(open_folder.parent):
            async with asyncio.timeout(5):
                heard = await watch.wait_for_changes()

    assert heard == {str(open_folder / "c.yaml")}


NEW = SERVICE.format("a", 1)
OLD = NEW.replace("apiVersion: v1", "apiVersion: v0")


@pytest.mark.parametrize(
    "files",
    [
        {"1.yaml": OLD, "2.yaml": NEW},
        {"1.yaml": NEW, "2.yaml": OLD},
        {"1.yaml": OLD + "---\n" + NEW},
        {"1.yaml": NEW + "---\n" + OLD},
    ],
)
async def test_object_of_a_version_that_is_not_read_keeps_its_name_from_nobody(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    source = FolderSource(tmp_path)
    await source.refresh()
    await source.refresh()

    assert port_of(source, A) == 1
    assert not source.snapshot.malformed
    old = next(name for name, text in files.items() if OLD in text)
    (tmp_path / old).unlink()
    await source.refresh()
    assert (A in source.snapshot.services) == (len(files) == 2)
    assert not source.problems


async def test_object_of_which_the_other_version_is_all_there_is_keeps_what_it_gave(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(NEW)
    source = FolderSource(tmp_path)
    await source.refresh()
    path.write_text(OLD)
    await source.refresh()

    assert port_of(source, A) == 1
    assert source.snapshot.malformed[A].problems[0].field == "apiVersion"
