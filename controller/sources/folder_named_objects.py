"""Named Secrets and ConfigMaps of a folder: what the files that a `FolderSource` reads hold of the names that are wanted.

Which file has which name is known of all files; contents are kept of what is wanted only, so a file is read again when one of its
names is wanted. The first file by its path has a name that stands in several.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.resources.reading.fields import metadata_ref
from controller.resources.reading.named_objects import Reference, absent, parse_named_object, unusable_file
from controller.resources.reading.object_ref import ObjectRef
from controller.sources.named_grants import LIMITS, Limits
from controller.sources.named_store import NamedStore, StoredNames

_KINDS = ("Secret", "ConfigMap")


class FolderNamedObjects(StoredNames):
    """A `NamedSource` over a folder, as which it is attached to a `FolderSource`, whose `refresh` reads what is wanted.

    `changed` is called with an object when its state is another one.
    """

    def __init__(self, changed: Callable[[ObjectRef], None], limits: Limits = LIMITS) -> None:
        self._store = NamedStore(changed, limits)
        self._unread: set[str] = set()
        self._refs: dict[str, tuple[ObjectRef, ...]] = {}
        """Names in each file."""
        self._paths: dict[ObjectRef, set[str]] = {}
        """Files that have a name."""

    def want(self, references: Iterable[Reference]) -> None:
        """Have these references' objects; the next `refresh` of the folder reads those that are new."""
        wanted = self._store.want(references)
        self._have_read((*wanted.added, *wanted.reread))

    def take_unread(self) -> set[str]:
        """Return the files that are to be read for names that are wanted, once."""
        unread, self._unread = self._unread, set()
        return unread

    def apply(self, path: str, objects: Sequence[Mapping[str, Any]]) -> None:
        """Take what a file holds now; nothing: it is gone."""
        by_ref: dict[ObjectRef, Mapping[str, Any]] = {}
        for raw in objects:
            kind = raw.get("kind")
            if raw.get("apiVersion") == "v1" and kind in _KINDS:
                by_ref.setdefault(metadata_ref(raw, str(kind)), raw)
        before = self._refs.pop(path, ())
        if by_ref:
            self._refs[path] = tuple(by_ref)
        for ref in before:
            if ref not in by_ref:
                self._paths[ref].discard(path)
                if not self._paths[ref]:
                    del self._paths[ref]
        for ref in by_ref:
            self._paths.setdefault(ref, set()).add(path)
        for ref in dict.fromkeys((*before, *by_ref)):
            if not self._store.is_granted(ref):
                continue
            if ref in by_ref and self._path(ref) == path:
                self._have_read(self._store.put(ref, parse_named_object(ref, by_ref[ref], self._store.keys(ref))))
            elif ref not in by_ref:
                self._have_read((ref,))

    def fail(self, path: str, why: str) -> None:
        """Take note that a file cannot be read; what it held before stays."""
        for ref in self._refs.get(path, ()):
            if self._store.is_granted(ref) and not self._store.knows(ref) and self._path(ref) == path:
                self._store.fail(ref, unusable_file(ref, why))

    def _path(self, ref: ObjectRef) -> str | None:
        """Return the file that has a name, the first by its path."""
        return min(self._paths.get(ref, ()), key=lambda path: Path(path).parts, default=None)

    def _have_read(self, refs: Iterable[ObjectRef]) -> None:
        for ref in refs:
            path = self._path(ref)
            if path is None:
                self._have_read(self._store.put(ref, absent(ref)))
            else:
                self._unread.add(path)
