"""Annotations that guard and cannot be read: the owner is told, and the routes are not served without the guard."""

from collections.abc import Mapping

from controller.resources.reading.fields import Reader, shown
from controller.resources.reading.problems import Reason


class Faults:
    """Collects what is wrong with the guards of one Ingress."""

    __slots__ = ("_annotations", "_reader", "first")

    def __init__(self, reader: Reader, annotations: Mapping[str, str]) -> None:
        self._reader, self._annotations = reader, annotations
        self.first = ""
        """Why the routes answer 500; empty: nothing is wrong."""

    def report(self, key: str, hint: str) -> None:
        """Collect that an annotation cannot be honoured; `hint` says what would be accepted."""
        self.first = self.first or f"{key} cannot be read"
        found = shown(self._annotations[key])
        self._reader.report(
            f"metadata.annotations[{key}]", f"{found} was found, so the routes answer 500; {hint}", Reason.UNSUPPORTED_VALUE
        )
