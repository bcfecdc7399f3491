"""A folder of YAML and JSON as the source of objects, re-read on change.

A file that does not parse keeps the objects that it gave before, and so does an object that cannot be read; both are said.
Names that begin with a dot are skipped, so that a mounted ConfigMap shows each file once.
"""

import asyncio
import errno
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any, Protocol

import yaml

from controller.resources import Malformed, Record, parse_object
from controller.resources.reading.fields import shown
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from controller.sources.snapshot import SourceSnapshot, Store

_log = logging.getLogger("sluice.sources")
SUFFIXES = (".yaml", ".yml", ".json")
MAX_VALUES = 2_000_000
"""Values that a document may have once its aliases are written out."""
INLINE_BYTES = 64 * 1024
"""Files above this are parsed in a thread while the loop goes on."""

Stamp = tuple[int, int, int]
NEVER: Stamp = (0, 0, 0)
TICK = 20_000_000
"""Nanoseconds within which two versions of a file may have one time: the kernel's clock of files ticks, every 10 ms at most."""
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def _stamp(path: str) -> Stamp | None:
    """Return what tells one version of a file from another; None: it is gone. `NEVER`: unknown, reading says why."""
    try:
        stat = Path(path).stat()
    except OSError as error:
        return None if error.errno in _ABSENT else NEVER
    if not S_ISREG(stat.st_mode):
        return None  # reading a pipe would wait for ever
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _parts(path: str) -> tuple[str, ...]:
    """Sort key of paths: folder by folder."""
    return Path(path).parts


def walk(
    folder: Path, failed: Callable[[OSError], None] = lambda _: None, entered: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and those below it, links followed, with the names of what is no folder; names with a dot are left out.

    A folder of several names is met under the first of them, so a link to one above has an end. `failed` is called for what cannot
    be read, `entered` for a folder before it is read.
    """
    met: set[tuple[int, int]] = set()
    waiting = [str(folder)]
    while waiting:
        place = waiting.pop()
        try:
            stat = Path(place).stat()
        except OSError as error:
            failed(error)
            continue
        if (stat.st_dev, stat.st_ino) in met:
            continue
        met.add((stat.st_dev, stat.st_ino))
        entered(place)
        folders: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        (folders if _is_folder(entry, failed) else names).append(entry.name)
        except OSError as error:
            failed(error)
            continue
        yield place, names
        waiting += (str(Path(place, name)) for name in sorted(folders, reverse=True))


def _is_folder(entry: os.DirEntry[str], failed: Callable[[OSError], None]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        failed(error)
        return False


class FolderError(Exception):
    """The folder cannot be read; the message is a sentence."""


class FileSyntaxError(Exception):
    """A file is no YAML or JSON; the message says which line is wrong."""


@dataclass(slots=True)
class _File:
    stamp: Stamp
    refs: tuple[ObjectRef, ...] = ()
    problem: Problem | None = None


class _Loader(yaml.CSafeLoader):
    """YAML's safe loader, but for keys that stand twice in one mapping: which of them was meant cannot be known."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  PyYAML's
        """Make a mapping of a node."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag == "tag:yaml.org,2002:str":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {twice!r} stands twice")
    return mapping


def _unfolds(document: object) -> bool:
    """Tell whether a document is small as a tree too: aliases can make a few lines into more than any memory holds."""
    left = MAX_VALUES
    waiting = [document]
    while waiting and left > 0:
        value = waiting.pop()
        left -= 1
        if isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
    return left > 0


def read_objects(path: Path) -> list[Mapping[str, Any]]:
    """Read every object of a file, Lists taken apart; raises `FileSyntaxError` or OSError."""
    text = path.read_bytes()
    try:
        documents = (
            [json.loads(text, object_pairs_hook=_once)] if path.suffix == ".json" else list(yaml.load_all(text, Loader=_Loader))
        )
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark is not None else "some line"
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise FileSyntaxError(f"{line}: {problem}") from None
    except json.JSONDecodeError as error:
        raise FileSyntaxError(f"line {error.lineno}: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise FileSyntaxError(f"some line: {' '.join(str(error).split())}") from None
    if b"&" in text and not all(map(_unfolds, documents)):
        raise FileSyntaxError(f"some line: its aliases unfold to more than {MAX_VALUES} values")
    objects: list[Mapping[str, Any]] = []
    for number, document in enumerate(documents):
        if (
            isinstance(document, Mapping)
            and str(document.get("kind", "")).endswith("List")
            and isinstance(document.get("items"), list)
        ):
            objects += [item for item in document["items"] if isinstance(item, Mapping)]
        elif isinstance(document, Mapping):
            objects.append(document)
        elif document is not None:
            begins = 1 if path.suffix == ".json" else _line(text, number)
            raise FileSyntaxError(f"line {begins}: {shown(document)} was found where an object would be accepted")
    return objects


def _line(text: bytes, number: int) -> int:
    """Tell where a document of a file begins; only a fault asks, so the file is read again."""
    nodes = list(yaml.compose_all(text, Loader=_Loader))
    return nodes[number].start_mark.line + 1


class RawSink(Protocol):
    """Takes what files hold as it was read."""

    def apply(self, path: str, objects: Sequence[Mapping[str, Any]]) -> None:
        """Take what a file holds now; nothing: it is gone."""

    def fail(self, path: str, why: str) -> None:
        """Take that a file cannot be read."""

    def take_unread(self) -> set[str]:
        """Return the files that are to be read for the sink's own sake, once."""


class FolderSource:
    """The objects of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._store = Store()
        self._files: dict[str, _File] = {}
        """By path, as texts: thousands of `Path` take megabytes."""
        self._owners: dict[ObjectRef, str] = {}
        self._faulty: set[str] = set()
        """Files with a problem."""
        self._stale: set[str] = set()
        """Files that are read again whatever the hints say."""
        self._skipped: list[str] = []
        """Kinds of objects that are none of ours, until they are logged."""
        self._logged_kinds = False
        self._raw: RawSink | None = None

    def attach(self, sink: RawSink) -> None:
        """Let a sink have the raw objects of every file, beginning with the next `refresh`."""
        self._raw = sink
        self._stale.update(self._files)

    @property
    def snapshot(self) -> SourceSnapshot:
        """What the folder says now."""
        return self._store.snapshot()

    @property
    def only_endpoints(self) -> bool:
        """Whether nothing but EndpointSlices changed since the last snapshot."""
        return self._store.pending == {"endpoint_slices"}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Of files, not of objects."""
        problems = (self._files[path].problem for path in sorted(self._faulty, key=_parts))
        return tuple(problem for problem in problems if problem is not None)

    def _list(self) -> dict[str, Stamp]:
        failed: list[OSError] = []
        places = list(walk(self.folder, failed.append))
        if not places:
            raise FolderError(f"{self.folder} is no folder that can be read; a folder with YAML or JSON files would be accepted.")
        paths = [str(Path(place, name)) for place, names in places for name in names if name.endswith(SUFFIXES)]
        for error in failed:
            # What a folder gave stays while it cannot be read, unless its files are gone.
            below = f"{Path(error.filename)}{os.sep}"
            paths += [path for path in self._files if path.startswith(below)]
        return {path: stamp for path in paths if (stamp := _stamp(path)) is not None}

    def _files_among(self, hints: Iterable[str]) -> dict[str, Stamp | None] | None:
        """Return the files that hints name, those that are gone without a stamp; None: only looking at everything will do."""
        stamps: dict[str, Stamp | None] = {}
        top = str(self.folder / "_").removesuffix("_")  # nothing for the folder "."
        for hint in hints:
            if not hint.startswith(top):
                return None
            parts = Path(hint.removeprefix(top)).parts
            if any(part.startswith("..") for part in parts):
                return None  # a mounted ConfigMap is swapped behind a link of this kind
            if any(part.startswith(".") for part in parts):
                continue
            if not hint.endswith(SUFFIXES) or os.path.islink(hint):  # noqa: PTH114  `Path` raises where it may not look
                return None
            stamps[hint] = _stamp(hint)
        return stamps

    async def refresh(self, hints: Iterable[str] = ()) -> bool:
        """Read what changed; True: objects or problems differ from before. Raises `FolderError` where there is no folder.

        `hints`: paths that changed; only these are looked at, unless they are no plain files. None: everything is.
        """
        now = time.time_ns()
        if self._raw is not None:
            self._stale |= self._raw.take_unread()
        hinted = self._files_among(hints) if hints else None
        if hinted is None:
            listed: dict[str, Stamp | None] = {**self._list()}
            gone = [path for path in self._files if path not in listed]
        else:
            listed = {path: _stamp(path) for path in self._stale} | hinted
            gone = [path for path, stamp in listed.items() if stamp is None and path in self._files]
        changed = False
        for path in gone:
            changed |= self._apply_file(path, None)
        listed.update((path, _stamp(path)) for path in self._stale if path not in listed)
        for path in sorted(listed, key=_parts):
            stamp = listed[path]
            if stamp is None:
                continue
            known = self._files.get(path)
            if known is not None and known.stamp == stamp != NEVER and path not in self._stale:
                continue
            changed |= await self._read(path, stamp, now)
        while self._raw is not None and (unread := self._raw.take_unread()):
            for path in sorted(unread, key=_parts):
                if (stamp := _stamp(path)) is not None:
                    changed |= await self._read(path, stamp, now)
        self._log_skipped_kinds()
        return changed

    async def _read(self, path: str, stamp: Stamp, now: int) -> bool:
        """Read a file, found with a stamp at a time (Unix, in nanoseconds)."""
        sure = stamp if abs(now - stamp[0]) > TICK else NEVER
        large = stamp[1] > INLINE_BYTES
        try:
            objects = await asyncio.to_thread(read_objects, Path(path)) if large else read_objects(Path(path))
        except FileSyntaxError as error:
            return self._keep_objects(path, sure, error)
        except OSError as error:  # no look at the file tells when it is over
            return self._keep_objects(path, NEVER, error)
        return self._apply_file(path, sure, objects)

    def _keep_objects(self, path: str, stamp: Stamp, error: Exception) -> bool:
        """Keep what a file gave before."""
        ref = ObjectRef("File", "", self._within(path))
        kept = self._files.get(path)
        stays = "the objects that it gave before stay" if kept is not None and kept.refs else "it gives no objects"
        problem = Problem(ref, Reason.INVALID_SPEC, "", f"{error}; {stays}, YAML or JSON would be accepted.")
        if kept is None:
            kept = self._files[path] = _File(stamp)
        changed = kept.problem != problem
        kept.stamp, kept.problem = stamp, problem
        self._faulty.add(path)
        self._stale.discard(path)
        if self._raw is not None:
            self._raw.fail(path, str(error))
        return changed

    def _within(self, path: str) -> str:
        return os.path.relpath(path, self.folder)

    def _apply_file(self, path: str, stamp: Stamp | None, objects: Sequence[Mapping[str, Any]] = ()) -> bool:
        """Take what a file gives now; without a stamp it is gone."""
        old = self._files.pop(path, None)
        changed = old is not None and old.problem is not None
        file = _File(stamp or NEVER)
        refs: dict[ObjectRef, None] = {}
        for raw in objects:
            record = parse_object(raw)
            if record is None:
                self._skipped.append(str(raw.get("kind")))
                continue
            owner = self._owners.setdefault(record.ref, path)
            if (owner != path or record.ref in refs) and not self._replaces_malformed(record, owner, path):
                twice = f"{record.ref} is in {self._within(owner)} already; an object of another name would be accepted."
                file.problem = Problem(record.ref, Reason.INVALID_SPEC, "metadata.name", f"metadata.name: {twice}")
                changed = True
                continue
            refs[record.ref] = None
            changed |= self._store.apply(record)
        for ref in old.refs if old is not None else ():
            if ref not in refs:
                del self._owners[ref]
                changed |= self._store.remove(ref)
        file.refs = tuple(refs)
        self._stale.discard(path)
        self._faulty.discard(path)
        if self._raw is not None:
            self._raw.apply(path, objects)
        if stamp is not None:
            self._files[path] = file
            if file.problem is not None:
                self._faulty.add(path)
        if changed:
            self._retry_duplicates(path)
        return changed

    def _replaces_malformed(self, record: Record | Malformed, owner: str, path: str) -> bool:
        """Let an object that is read have the name of one whose apiVersion is not, in another file or further up in this one."""
        if isinstance(record, Malformed) or self._store.malformed_fields(record.ref) != ("apiVersion",):
            return False
        if owner != path:
            before = self._files[owner]
            before.refs = tuple(ref for ref in before.refs if ref != record.ref)
            self._owners[record.ref] = path
            self._stale.add(owner)  # the name is taken then
        return True

    def _retry_duplicates(self, path: str) -> None:
        """Let files that gave way to another be read again: the other may be gone."""
        for other in self._faulty:
            problem = self._files[other].problem
            if other != path and problem is not None and problem.field == "metadata.name":
                self._stale.add(other)

    def _log_skipped_kinds(self) -> None:
        skipped, self._skipped = self._skipped, []
        if skipped and not self._logged_kinds:
            self._logged_kinds = True
            _log.info("skipped=%d kinds=%s", len(skipped), ",".join(sorted(set(skipped))))
