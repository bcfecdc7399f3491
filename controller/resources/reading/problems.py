"""Problems of users' objects: values that are collected, never exceptions and never only a log line."""

import enum
from dataclasses import dataclass

from controller.resources.reading.object_ref import ObjectRef


class Reason(enum.StrEnum):
    """Why an object is not served as written (docs/troubleshooting.md, 'Every reason')."""

    HOST_CONFLICT = "HostConflict"
    ROUTE_CONFLICT = "RouteConflict"
    INVALID_SPEC = "InvalidSpec"
    UNSUPPORTED_VALUE = "UnsupportedValue"
    BACKEND_NOT_FOUND = "BackendNotFound"
    PORT_NOT_FOUND = "PortNotFound"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105  a reason, not a secret
    SECRET_INVALID = "SecretInvalid"  # noqa: S105  a reason, not a secret
    REF_NOT_PERMITTED = "RefNotPermitted"
    KIND_FORBIDDEN = "KindForbidden"
    """Of a kind, not of an object: it may not be watched. The two below are of kinds too."""
    KIND_ABSENT = "KindAbsent"
    KIND_UNREACHABLE = "KindUnreachable"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong. The message is a sentence: the field, what was found, what would be accepted."""

    ref: ObjectRef
    reason: Reason
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """An object that could not be read, with everything that is wrong with it."""

    ref: ObjectRef
    problems: tuple[Problem, ...]
    class_name: str | None = None
    """Its spec.ingressClassName, as far as it could be read: an object of another class is not ours."""
    legacy_class: str | None = None
    """Its annotation kubernetes.io/ingress.class."""
    generation: int = 0
    fault: str = ""
    """Why what is held of it answers 500: this version asks for a guard that cannot be carried out. Empty: it asks for none."""
