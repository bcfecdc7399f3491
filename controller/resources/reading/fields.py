"""Reading raw objects: typed access to fields that collects what is wrong, and the value types they share."""

import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason

HOST = re.compile(r"(\*\.)?([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
MAX_SECONDS = 87600 * 3600.0
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
# The sequences are those that the API server refuses in Exact and Prefix paths (k8s.io/kubernetes, validateHTTPIngressPath).
_ODD_PATH = re.compile(r"[^!-~]|[?#\\]|//|/\.{1,2}(?:/|$)|%2[fF]|%(?![0-9A-Fa-f]{2})|%00")
_DURATION = re.compile(r"([0-9]+)(\.[0-9]+)?(ms|s|m|h)")
_UNITS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
# The largest stays below 2^60, as far as the proxy counts.
_SIZE = re.compile(r"([0-9]{1,9})(k|M|G|Ki|Mi|Gi)|[0-9]{1,12}", re.ASCII)
_MULTIPLES = {"k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)


def _nanoseconds(text: str) -> int | None:
    """Count as Go's time.ParseDuration does, which the CRD's rules ask: fractions of a nanosecond are none."""
    parts = _DURATION.findall(text)
    if not parts or len(text) > 32 or "".join(whole + part + unit for whole, part, unit in parts) != text:
        return None
    total: int = sum(
        int(whole) * _UNITS[unit] + int(part[1:] or 0) * _UNITS[unit] // 10 ** len(part[1:]) for whole, part, unit in parts
    )
    return total


def parse_duration(text: str) -> float | None:
    """Parse a duration as Kubernetes writes it (500ms, 30s, 1h30m, 0s) into seconds; None: it is none."""
    total = _nanoseconds(text)
    return None if total is None else total / 10**9


def parse_timeout(text: str) -> float | None:
    """Parse a duration above zero and of at most ten years; None: it is none."""
    total = _nanoseconds(text)
    return total / 10**9 if total is not None and 0 < total <= MAX_SECONDS * 10**9 else None


TIMEOUT_HINT = "a duration above zero and of at most 87600h, such as 30s or 1h, would be accepted."


def parse_size(value: str | float) -> int | None:
    """Parse a size in bytes as Kubernetes writes quantities (65536, 64Ki, 1M); None: it is none."""
    text = str(value).removesuffix(".0")
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    return int(match[1]) * _MULTIPLES[match[2]] if match[2] else int(text)


def parse_count(text: str, most: int) -> int | None:
    """Parse a whole number from 1 to `most`; None: it is none."""
    return int(text) if _COUNT.fullmatch(text) is not None and 1 <= int(text) <= most else None


def is_host(text: str) -> bool:
    """Tell whether text is a host in lower case, exact or with a wildcard for its first label."""
    return len(text) <= 253 and HOST.fullmatch(text) is not None and (not text.startswith("*.") or len(text) > 2)


def printable(text: str) -> str:
    """Return a text as it may stand in one line: everything else escaped."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def shown(value: object) -> str:
    """Show what was found, short and on one line."""
    if value is None:
        return "nothing"
    text = f'"{printable(value)}"' if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def is_literal_path(path: str) -> bool:
    """Tell whether a path can stand in an Exact or Prefix rule: what Kubernetes refuses there, and what no request can hold."""
    return path.startswith("/") and _ODD_PATH.search(path) is None


_UNWRITABLE = re.compile(r"[^!-~]")


def encoded_path(path: str) -> str:
    """Return a path as requests write it: spaces, and what is not ASCII, encoded."""
    return path if _UNWRITABLE.search(path) is None else quote(path, safe=_WRITABLE)


_WRITABLE = "".join(map(chr, range(0x21, 0x7F)))
PATH_HINT = (
    "a path that begins with / and has no empty or dot segments, encoded slashes, broken escapes, spaces, ? or # would be accepted."
)


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return a mapping; an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def metadata_of(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metadata of an object, whatever the object looks like."""
    return as_mapping(raw.get("metadata"))


class Reader:
    """Reads one raw object; what is wrong is collected in `problems`."""

    __slots__ = ("problems", "ref")

    def __init__(self, ref: ObjectRef) -> None:
        self.ref = ref
        self.problems: list[Problem] = []

    def report(self, field: str, sentence: str, reason: Reason = Reason.INVALID_SPEC) -> None:
        """Collect a problem with a field. What stands in the object never breaks a line of a log."""
        field = printable(field)
        self.problems.append(Problem(self.ref, reason, field, printable(f"{field}: {sentence}")))

    def mapping(self, raw: Mapping[str, Any], name: str, path: str) -> Mapping[str, Any]:
        """Return an object; empty where it is absent or wrong."""
        value = raw.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.report(path, f"{shown(value)} was found, an object would be accepted.")
            return {}
        return value

    def items(self, raw: Mapping[str, Any], name: str, path: str) -> Sequence[Any]:
        """Return a list; empty where it is absent or wrong."""
        value = raw.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            self.report(path, f"{shown(value)} was found, a list would be accepted.")
            return ()
        return value

    def objects(self, raw: Mapping[str, Any], name: str, path: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return a list of objects, each with its path."""
        objects = []
        for number, item in enumerate(self.items(raw, name, path)):
            place = f"{path}[{number}]"
            if isinstance(item, Mapping):
                objects.append((place, item))
            else:
                self.report(place, f"{shown(item)} was found, an object would be accepted.")
        return objects

    def text(self, raw: Mapping[str, Any], name: str, path: str, *, required: bool = False) -> str:
        """Return a string; empty where it is absent or wrong."""
        value = raw.get(name)
        if value is None:
            if required:
                self.report(path, "nothing was found, a string is required.")
            return ""
        if not isinstance(value, str):
            self.report(path, f"{shown(value)} was found, a string would be accepted.")
            return ""
        return value

    def number(self, raw: Mapping[str, Any], name: str, path: str) -> int | None:
        """Return a whole number; None where it is absent or wrong."""
        value = raw.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            self.report(path, f"{shown(value)} was found, a whole number would be accepted.")
            return None
        return value


def is_object_name(text: str) -> bool:
    """Tell whether text can name an object of most kinds: a DNS subdomain in lower case (Kubernetes, Object Names and IDs)."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def check_names(reader: Reader, raw: Mapping[str, Any], *, namespaced: bool = True) -> None:
    """Collect what is wrong with an object's name and namespace (Kubernetes, Object Names and IDs)."""
    metadata = metadata_of(raw)
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not is_object_name(name):
        reader.report("metadata.name", f"{shown(name)} was found, a lower-case DNS name would be accepted.")
    if namespaced and namespace is not None and (not isinstance(namespace, str) or DNS_LABEL.fullmatch(namespace) is None):
        reader.report("metadata.namespace", f"{shown(namespace)} was found, a lower-case DNS label would be accepted.")


def metadata_ref(raw: Mapping[str, Any], kind: str, *, namespaced: bool = True) -> ObjectRef:
    """Name an object, as far as it names itself."""
    metadata = metadata_of(raw)
    name, namespace = metadata.get("name"), metadata.get("namespace")
    return ObjectRef(
        kind,
        (printable(namespace)[:253] if isinstance(namespace, str) and namespace else "default") if namespaced else "",
        printable(name)[:253] if isinstance(name, str) and name else "(no name)",
    )


def read_created(raw: Mapping[str, Any]) -> str:
    """Return the creationTimestamp, comparable as text; empty: none."""
    value: Any = metadata_of(raw).get("creationTimestamp")
    if isinstance(value, str):
        return value
    # YAML reads an unquoted timestamp as a date.
    return str(value.strftime("%Y-%m-%dT%H:%M:%SZ")) if hasattr(value, "strftime") else ""


def read_generation(raw: Mapping[str, Any]) -> int:
    """Return the generation; 0: none."""
    value = metadata_of(raw).get("generation")
    return value if isinstance(value, int) else 0


def read_uid(raw: Mapping[str, Any]) -> str:
    """Return the uid; empty: none."""
    value = metadata_of(raw).get("uid")
    return value if isinstance(value, str) else ""
