"""Changes of a folder and those below it, by inotify(7): nothing runs while nothing happens, and a change is seen at once."""

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from asyncinotify import Event, Inotify, Mask

from controller.sources.folder import walk

_log = logging.getLogger("sluice.sources")
RESCAN_SECONDS = 30.0
"""How often everything is looked at whatever was seen: the kernel does not tell all, such as of the file that a link leads to,"""
BLIND_SECONDS = 1.0
"""and where it tells nothing."""
QUIET_SECONDS = 0.001
"""A file is written in several steps: it is read when nothing changed for so long,"""
LONGEST_SECONDS = 0.005
"""or after this time at the latest."""
MANY = 500
"""Paths above which looking at everything is cheaper, and events that are taken at once: some write faster than we read."""

_ASKED = Mask.MODIFY | Mask.CLOSE_WRITE | Mask.ATTRIB | Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.DELETE_SELF | Mask.MOVE_SELF
_SHAPE = Mask.ISDIR | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED | Mask.Q_OVERFLOW
"""Folders came or went, or events are lost."""


class FolderWatch:
    """A context in which a folder is watched; the loop of asyncio must run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._inotify: Inotify | None = None
        self._changes = asyncio.Event()
        self._paths: set[str] = set()
        self._places: set[str] = set()
        """Folders that are watched."""
        self._rescan = True
        """Everything is to be looked at: folders may differ from those that are watched."""
        self._warned = False
        self._watched_since = 0.0

    def __enter__(self) -> Self:
        self._watch_again()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    async def wait_for_changes(self) -> frozenset[str]:
        """Wait for changes; return their paths. None of them: anything may have changed."""
        loop = asyncio.get_running_loop()
        due = loop.time() + BLIND_SECONDS if self._inotify is None else self._watched_since + RESCAN_SECONDS
        if self._paths or self._rescan:
            self._changes.set()  # left by a call that was cancelled
        try:
            async with asyncio.timeout_at(due):
                await self._changes.wait()
        except TimeoutError:
            self._rescan = True
        else:
            await self._settle()
        self._changes.clear()
        self._rescan |= loop.time() >= due
        paths, self._paths = frozenset(self._paths), set()
        if not self._rescan:
            return paths
        # A look at everything shows what happened until now, the new watches what happens from now on.
        self._watch_again()
        return frozenset()

    async def _settle(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_SECONDS):
                while self._changes.is_set():
                    self._changes.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(QUIET_SECONDS):
                            await self._changes.wait()

    def _watch_again(self) -> None:
        """Watch what is there now."""
        self._close()
        self._rescan = False
        self._watched_since = asyncio.get_running_loop().time()
        try:
            inotify = self._inotify = Inotify()
            os.set_blocking(inotify.fd, False)  # asyncinotify 4.4 means to, and asks for O_CLOEXEC twice
            for _ in walk(self._folder, entered=self._add):
                pass
            self._places = {str(watch.path) for watch in inotify.watches}
        except OSError as error:  # fs.inotify.max_user_instances or max_user_watches, which other programs use too
            self._close()
            if not self._warned:
                self._warned = True
                _log.warning("folder=%s looked at every second, since inotify(7) fails: %s", self._folder, error.strerror)
            return
        if not inotify.watches:
            self._close()  # the folder is away; looking again finds it
            return
        asyncio.get_running_loop().add_reader(inotify.fd, self._read)

    def _add(self, place: str) -> None:
        """Watch a folder before it is read: what comes into it later is seen."""
        if self._inotify is not None:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                self._inotify.add_watch(place, _ASKED | Mask.ONLYDIR)

    def _close(self) -> None:
        inotify, self._inotify = self._inotify, None
        if inotify is not None:
            asyncio.get_running_loop().remove_reader(inotify.fd)
            inotify.close()

    def _read(self) -> None:
        if self._inotify is None:
            return
        with contextlib.suppress(BlockingIOError):
            for _ in range(MANY):
                if not self._rescan and (event := self._inotify.sync_get()) is not None:
                    self._apply_event(event)
            self._rescan = True
        if self._rescan:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)  # new watches take the place of these
        self._changes.set()

    def _apply_event(self, event: Event) -> None:
        watch, name = event.watch, event.name
        if watch is None or name is None or event.mask & _SHAPE:
            self._rescan = True
            return
        path = str(watch.path / name)
        # A mounted ConfigMap is swapped behind a link whose name has two dots; other links may lead to folders.
        linked = event.mask & (Mask.CREATE | Mask.MOVED_TO) and os.path.islink(path)  # noqa: PTH114  `Path` raises where it may not look
        if name.name.startswith("..") or linked or path in self._places:
            self._rescan = True
        self._paths.add(path)
        self._rescan |= len(self._paths) > MANY
