"""Reading raw objects: typed access to fields that collects what is wrong, and the value types they share."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from controller.resources.problems import Problem, Reason
from controller.resources.refs import ObjectRef

HOST = re.compile(r"(\*\.)?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float | None:
    """Parse a duration as Kubernetes writes it (500ms, 30s, 1h30m, 0s) into seconds; None: it is none."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text or len(text) > 32:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def is_host(text: str) -> bool:
    """Tell whether text is a host in lower case, exact or with a wildcard for its first label."""
    return len(text) <= 253 and HOST.fullmatch(text) is not None and (not text.startswith("*.") or len(text) > 2)


def shown(value: object) -> str:
    """Show what was found, short."""
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 80 else text[:77] + "..."


class Reader:
    """Reads one raw object; what is wrong is collected in `problems`."""

    __slots__ = ("problems", "ref")

    def __init__(self, ref: ObjectRef) -> None:
        self.ref = ref
        self.problems: list[Problem] = []

    def wrong(self, field: str, sentence: str, reason: Reason = Reason.INVALID_SPEC) -> None:
        """Collect a problem with a field."""
        self.problems.append(Problem(self.ref, reason, field, f"{field}: {sentence}"))

    def mapping(self, raw: Mapping[str, Any], name: str, path: str) -> Mapping[str, Any]:
        """Return an object; empty where it is absent or wrong."""
        value = raw.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.wrong(path, f"{shown(value)} was found, an object would be accepted.")
            return {}
        return value

    def items(self, raw: Mapping[str, Any], name: str, path: str) -> Sequence[Any]:
        """Return a list; empty where it is absent or wrong."""
        value = raw.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            self.wrong(path, f"{shown(value)} was found, a list would be accepted.")
            return ()
        return value

    def objects(self, raw: Mapping[str, Any], name: str, path: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return a list of objects, each with its path."""
        found = []
        for number, item in enumerate(self.items(raw, name, path)):
            place = f"{path}[{number}]"
            if isinstance(item, Mapping):
                found.append((place, item))
            else:
                self.wrong(place, f"{shown(item)} was found, an object would be accepted.")
        return found

    def text(self, raw: Mapping[str, Any], name: str, path: str, *, required: bool = False) -> str:
        """Return a string; empty where it is absent or wrong."""
        value = raw.get(name)
        if value is None:
            if required:
                self.wrong(path, "nothing was found, a string is required.")
            return ""
        if not isinstance(value, str):
            self.wrong(path, f"{shown(value)} was found, a string would be accepted.")
            return ""
        return value

    def number(self, raw: Mapping[str, Any], name: str, path: str) -> int | None:
        """Return a whole number; None where it is absent or wrong."""
        value = raw.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong(path, f"{shown(value)} was found, a whole number would be accepted.")
            return None
        return value

    def flag(self, raw: Mapping[str, Any], name: str, path: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = raw.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(path, f"{shown(value)} was found, true or false would be accepted.")
            return default
        return value


def metadata_ref(raw: Mapping[str, Any], kind: str, *, namespaced: bool = True) -> ObjectRef:
    """Name an object, as far as it names itself."""
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    name, namespace = metadata.get("name"), metadata.get("namespace")
    return ObjectRef(
        kind,
        (namespace if isinstance(namespace, str) and namespace else "default") if namespaced else "",
        name if isinstance(name, str) and name else "(no name)",
    )


def read_created(raw: Mapping[str, Any]) -> str:
    """Return the creationTimestamp, comparable as text; empty: none."""
    value: Any = raw["metadata"].get("creationTimestamp") if isinstance(raw.get("metadata"), Mapping) else None
    if isinstance(value, str):
        return value
    # YAML reads an unquoted timestamp as a date.
    return str(value.strftime("%Y-%m-%dT%H:%M:%SZ")) if hasattr(value, "strftime") else ""


def read_generation(raw: Mapping[str, Any]) -> int:
    """Return the generation; 0: none."""
    value = raw["metadata"].get("generation") if isinstance(raw.get("metadata"), Mapping) else None
    return value if isinstance(value, int) else 0
