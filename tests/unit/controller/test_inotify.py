"""News of a folder, from the real kernel."""

import asyncio
import logging
import os
import resource
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from asyncinotify import Inotify, Mask, Watch

from controller.sources import inotify
from controller.sources.folder import FolderSource
from controller.sources.inotify import MANY, FolderWatch

LIMIT = 5.0
ANYTHING: frozenset[str] = frozenset()


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[FolderWatch]:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text("a")
    with FolderWatch(tmp_path) as made:
        yield made


async def heard(watch: FolderWatch) -> frozenset[str]:
    async with asyncio.timeout(LIMIT):
        return await watch.wait_for_changes()


def written(folder: Path) -> None:
    (folder / "sub" / "a.yaml").write_text("b")


def made(folder: Path) -> None:
    (folder / "sub" / "b.yaml").write_text("b")


def renamed(folder: Path) -> None:
    (folder / "sub" / "a.yaml").rename(folder / "sub" / "b.yaml")


def gone(folder: Path) -> None:
    (folder / "sub" / "a.yaml").unlink()


@pytest.mark.parametrize(
    ("act", "paths"),
    [
        (written, {"sub/a.yaml"}),
        (made, {"sub/b.yaml"}),
        (renamed, {"sub/a.yaml", "sub/b.yaml"}),
        (gone, {"sub/a.yaml"}),
    ],
)
async def test_change_of_a_file_names_it(watch: FolderWatch, tmp_path: Path, act: Callable[[Path], None], paths: set[str]) -> None:
    act(tmp_path)

    assert await heard(watch) == {str(tmp_path / path) for path in paths}


@pytest.mark.parametrize("folder", [".", "sub", "./sub", "sub/..", "/proc/self/cwd"])
async def test_what_is_heard_are_names_that_the_folders_source_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / folder / "a.json"
    file.write_text("1")
    source = FolderSource(Path(folder))
    with FolderWatch(Path(folder)) as watch:
        await source.refresh()
        file.write_text("{}")
        monkeypatch.setattr(source, "_list", None)
        await source.refresh(await heard(watch))

    assert source.problems == ()


async def test_steps_of_one_writing_are_one_piece_of_news(watch: FolderWatch, tmp_path: Path) -> None:
    written(tmp_path)
    made(tmp_path)
    gone(tmp_path)

    assert await heard(watch) == {str(tmp_path / "sub" / "a.yaml"), str(tmp_path / "sub" / "b.yaml")}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await watch.wait_for_changes()


async def test_everything_is_looked_at_however_much_is_heard(
    watch: FolderWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inotify, "RESCAN_SECONDS", 0.1)
    async with asyncio.timeout(LIMIT):
        while True:
            written(tmp_path)
            if await watch.wait_for_changes() == ANYTHING:
                break


async def test_news_outlives_a_call_that_is_cancelled(watch: FolderWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify, "QUIET_SECONDS", LIMIT)
    monkeypatch.setattr(inotify, "LONGEST_SECONDS", LIMIT)
    written(tmp_path)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await watch.wait_for_changes()
    monkeypatch.setattr(inotify, "LONGEST_SECONDS", 0.01)

    assert await heard(watch) == {str(tmp_path / "sub" / "a.yaml")}


def folder_made(folder: Path) -> None:
    (folder / "more" / "deep").mkdir(parents=True)


def folder_moved(folder: Path) -> None:
    (folder / "sub").rename(folder / "more")
    (folder / "more" / "deep").mkdir()


def folder_linked(folder: Path) -> None:
    (folder.parent / "elsewhere" / "deep").mkdir(parents=True, exist_ok=True)
    (folder / "more").symlink_to(folder.parent / "elsewhere")


def folder_replaced(folder: Path) -> None:
    folder.rename(folder.with_name("old"))
    folder_made(folder)


@pytest.mark.parametrize("act", [folder_made, folder_moved, folder_linked, folder_replaced])
async def test_folder_that_comes_may_be_about_anything_and_is_watched(
    watch: FolderWatch, tmp_path: Path, act: Callable[[Path], None]
) -> None:
    act(tmp_path)

    assert await heard(watch) == ANYTHING
    (tmp_path / "more" / "deep" / "c.yaml").write_text("c")
    assert await heard(watch) == {str(tmp_path / "more" / "deep" / "c.yaml")}


async def test_folder_that_comes_while_watches_are_set_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_watch = Inotify.add_watch

    def add(self: Inotify, path: str, mask: Mask) -> Watch:
        (tmp_path / "late").mkdir(exist_ok=True)
        return add_watch(self, path, mask)

    monkeypatch.setattr(Inotify, "add_watch", add)
    with FolderWatch(tmp_path) as watch:
        (tmp_path / "late" / "a.yaml").write_text("a")

        assert await heard(watch) == {str(tmp_path / "late" / "a.yaml")}


@pytest.mark.parametrize("act", [Path.unlink, lambda path: path.rename(path.with_name(".away"))])
async def test_folder_of_two_names_goes_by_the_first_that_is_left(tmp_path: Path, act: Callable[[Path], None]) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "up").symlink_to("..")
    (tmp_path / "alias").symlink_to("real")
    with FolderWatch(tmp_path) as watch:
        (tmp_path / "real" / "a.yaml").write_text("a")

        assert await heard(watch) == {str(tmp_path / "alias" / "a.yaml")}
        act(tmp_path / "alias")
        assert await heard(watch) == ANYTHING
        (tmp_path / "real" / "a.yaml").write_text("b")
        assert await heard(watch) == {str(tmp_path / "real" / "a.yaml")}


async def test_configmap_that_is_swapped_behind_its_link_may_be_about_anything(tmp_path: Path) -> None:
    for name in ("..1", "..2"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a.yaml").write_text(name)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "sub").symlink_to("..data/sub")
    with FolderWatch(tmp_path) as watch:
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

        assert await heard(watch) == ANYTHING
        (tmp_path / "..2" / "sub" / "a.yaml").write_text("c")
        assert await heard(watch) == {str(tmp_path / "sub" / "a.yaml")}


async def test_very_many_paths_are_about_anything(watch: FolderWatch, tmp_path: Path) -> None:
    for number in range(MANY + 1):
        (tmp_path / f"{number}.yaml").touch()

    found: set[str] = set()
    while (news := await heard(watch)) != ANYTHING:
        found |= news
    assert len(found) <= MANY


async def test_more_events_than_are_taken_at_once_are_about_anything(watch: FolderWatch, tmp_path: Path) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.touch()
    other.touch()
    for _ in range(MANY // 2 + 1):
        os.utime(one)
        os.utime(other)

    assert await heard(watch) == ANYTHING
    written(tmp_path)
    assert await heard(watch) == {str(tmp_path / "sub" / "a.yaml")}


def there_again(folder: Path) -> None:
    folder.mkdir()


async def test_folder_that_is_away_is_looked_for(watch: FolderWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify, "BLIND_SECONDS", 0.01)
    shutil.rmtree(tmp_path)

    assert await heard(watch) == ANYTHING
    assert await heard(watch) == ANYTHING
    there_again(tmp_path)
    assert await heard(watch) == ANYTHING
    (tmp_path / "a.yaml").write_text("a")
    assert await heard(watch) == {str(tmp_path / "a.yaml")}


async def test_folder_that_the_kernel_does_not_watch_is_looked_at_every_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inotify, "BLIND_SECONDS", 0.01)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with FolderWatch(tmp_path) as watch:
            assert await heard(watch) == ANYTHING
            assert await heard(watch) == ANYTHING
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert await heard(watch) == ANYTHING
            (tmp_path / "a.yaml").write_text("a")
            assert await heard(watch) == {str(tmp_path / "a.yaml")}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("looked at every second, since inotify(7) fails: Too many open files")
