"""Secrets and ConfigMaps that fields of served objects name: references, what is known of the objects, what is said at the fields.

A feature reads its field with `read_reference`, hands the reference to a source (`controller/sources/named_store.py` says how), and
asks `resolve` for the content. Which references are granted is decided in `controller/sources/named_grants.py`; nothing here
does I/O.
"""

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from controller.resources.reading.fields import Reader, as_mapping, is_object_name, printable, shown
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Problem, Reason
from proxy.model.sensitive import Sensitive

NamedKind = Literal["Secret", "ConfigMap"]
MOST_BYTES = 1024 * 1024
"""Bytes of values in one object. The API server takes no more either (k8s.io/kubernetes, MaxSecretSize); a folder could."""
MOST_KEYS = 1000
"""Keys in one object: each takes memory of its own, whatever its value."""
_NOT_FOUND = {"Secret": Reason.SECRET_NOT_FOUND, "ConfigMap": Reason.INVALID_SPEC}
_UNUSABLE = {"Secret": Reason.SECRET_INVALID, "ConfigMap": Reason.INVALID_SPEC}


@dataclass(frozen=True, slots=True)
class Reference:
    """A field that names a Secret or ConfigMap. Of another namespace than its owner's it cannot be."""

    owner: ObjectRef
    created: str
    """creationTimestamp of the owner, comparable as text: the oldest owner's reference is granted first."""
    field: str
    kind: NamedKind
    name: str
    keys: tuple[str, ...] = ()
    """Keys of the object that are needed, nothing else of it is kept; empty: all."""

    @property
    def target(self) -> ObjectRef:
        """The object that is named."""
        return ObjectRef(self.kind, self.owner.namespace, self.name)

    @property
    def order(self) -> tuple[str, str, str, str, str, str, str]:
        """Sort key: the oldest owner, then by its namespace, name, kind, where in it, and what is named."""
        owner = self.owner
        return (self.created, owner.namespace, owner.name, owner.kind, self.field, self.kind, self.name)


@dataclass(frozen=True, slots=True)
class NamedObject:
    """What a Secret or ConfigMap holds, as far as it is needed."""

    ref: ObjectRef
    type: str
    """Of a Secret, such as Opaque; empty: a ConfigMap."""
    data: Mapping[str, Sensitive] = field(default_factory=lambda: MappingProxyType({}))
    """Of `data`, `stringData` and `binaryData`. A ConfigMap is not shown either: people put tokens there too."""

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return sum(len(value.data) for value in self.data.values())


@dataclass(frozen=True, slots=True)
class NamedProblem:
    """Why an object cannot be had, whoever names it: what follows the object in a sentence."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class NamedState:
    """What is known of a named object. Neither content nor problem: it is being read.

    Both: the content is what was read last, and it may be old.
    """

    content: NamedObject | None = None
    problem: NamedProblem | None = None


PENDING = NamedState()


def read_reference(
    reader: Reader, place: str, written: str, kind: NamedKind, *, created: str, keys: Collection[str] = ()
) -> Reference | None:
    """Read a field that names an object of the owner's namespace, as ``name`` or ``namespace/name``; None: it names none.

    What is wrong is collected by the reader. Nothing else gets as far as a request to the API server.
    """
    own = reader.ref.namespace
    namespace, slash, name = written.rpartition("/")
    if slash and namespace != own and is_object_name(namespace) and is_object_name(name):
        sentence = f'{shown(written)} was found, which is of another namespace; a {kind} of namespace "{own}" would be accepted.'
        reader.report(place, sentence, Reason.REF_NOT_PERMITTED)
        return None
    if (slash and namespace != own) or not is_object_name(name):
        reader.report(place, f"{shown(written)} was found, the name of a {kind} would be accepted.")
        return None
    return Reference(reader.ref, created, place, kind, name, tuple(sorted(set(keys))))


def parse_named_object(ref: ObjectRef, raw: Mapping[str, Any], keys: Collection[str] | None) -> NamedObject | NamedProblem:
    """Read an object, of any type; `keys`: those that are kept, None: all. Never raises, whatever the object looks like."""
    texts = as_mapping(raw.get("stringData" if ref.kind == "Secret" else "data"))
    encoded = as_mapping(raw.get("data" if ref.kind == "Secret" else "binaryData"))
    names = {str(name) for source in (encoded, texts) for name in source if keys is None or name in keys}
    if len(names) > MOST_KEYS:
        return _unusable(ref, f"holds {len(names)} keys; at most {MOST_KEYS} would be accepted.")
    data: dict[str, Sensitive] = {}
    for name in sorted(names):
        value = _text(texts[name]) if name in texts else _decoded(encoded.get(name))
        if value is None:
            what = "text would be accepted" if name in texts else "base64 would be accepted"
            return _unusable(ref, f"cannot be used: data[{printable(name)[:253]}] cannot be read, {what}.")
        data[name] = Sensitive(value)
    type_ = raw.get("type") if ref.kind == "Secret" else ""
    parsed = NamedObject(ref, type_ if isinstance(type_, str) else "", MappingProxyType(data))
    if parsed.size > MOST_BYTES:
        return _unusable(ref, f"holds {parsed.size} bytes; at most {MOST_BYTES} would be accepted.")
    return parsed


def _text(value: object) -> bytes | None:
    # A lone surrogate is JSON and no UTF-8.
    return value.encode(errors="surrogatepass") if isinstance(value, str) else None


def _decoded(value: object) -> bytes | None:
    if value is None:
        return b""  # Go writes a value of no bytes so
    try:
        return base64.b64decode("".join(value.split()), validate=True) if isinstance(value, str) else None
    except (binascii.Error, ValueError):
        return None


def _unusable(ref: ObjectRef, text: str) -> NamedProblem:
    return NamedProblem(_UNUSABLE[ref.kind], text)


def unusable_file(ref: ObjectRef, why: str) -> NamedProblem:
    """Return the problem of an object in a file that cannot be read."""
    return _unusable(ref, f"cannot be read, its file has at {why}; YAML or JSON would be accepted.")


def response_too_large(ref: ObjectRef, most: int, what: str) -> NamedProblem:
    """Return the problem of an object that is too large as JSON, whatever its values hold; `what`: the part of it that is."""
    return _unusable(ref, f"is too large: {what} takes more than {most} bytes as JSON; less would be accepted.")


def absent(ref: ObjectRef) -> NamedProblem:
    """Return the problem of an object that is not there."""
    return NamedProblem(_NOT_FOUND[ref.kind], f"was not found; a {ref.kind} of this namespace would be accepted.")


def forbidden(ref: ObjectRef, answer: str) -> NamedProblem:
    """Return the problem of an object that the API server lets us not read; `answer`: its words."""
    rights = f"the right to get, list and watch {ref.kind}s in this namespace would be accepted"
    return NamedProblem(Reason.REF_NOT_PERMITTED, f'may not be read, the API server says "{answer}"; {rights}.')


def unreachable(ref: ObjectRef, answer: str) -> NamedProblem:
    """Return the problem of an object of which nothing is known, as the API server does not say; `answer`: what it did instead."""
    return NamedProblem(_UNUSABLE[ref.kind], f'cannot be read now, the API server says "{answer}"; it is asked again.')


def problem_of(owner: ObjectRef, place: str, target: ObjectRef, problem: NamedProblem) -> Problem:
    """Say at a field what is wrong with the object that it names."""
    return Problem(owner, problem.reason, place, printable(f'{place}: {target.kind} "{target.path}" {problem.text}'))


def resolve(reference: Reference, states: Mapping[ObjectRef, NamedState]) -> tuple[NamedObject | None, Problem | None]:
    """Return what a reference names and what is to be said of it at its field.

    Neither: it is being read, which takes moments. Both: what was read last is used, and may be old. A feature that guards must
    serve nothing without content.
    """
    state = states.get(reference.target, PENDING)
    problem = None if state.problem is None else problem_of(reference.owner, reference.field, reference.target, state.problem)
    return state.content, problem
