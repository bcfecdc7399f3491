"""One annotation and everything that is known of it: what the table (`table.py`) has a row of."""

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from controller.resources.annotations.sentences import GUARD_NOT_YET, NOT_YET

OURS = "sluice.dev/"
NGINX = "nginx.ingress.kubernetes.io/"
"""The two prefixes whose keys are all read, or said not to be."""

Kind = Literal["Ingress", "IngressClass"]


class Status(enum.StrEnum):
    """What becomes of an annotation."""

    UNDERSTOOD = "understood"
    HARMLESS = "harmless"
    """What it sets is not there, and nothing is missing."""
    DIFFERENT = "different on purpose"
    """What it asks for is said in another way."""
    NOT_YET = "not supported yet"
    REFUSED = "refused"
    NEVER_EXISTED = "never existed"


class Guard(enum.Enum):
    """Whether an annotation protects what its Ingress serves. Routes whose guard cannot be carried out answer 500."""

    NONE = enum.auto()
    SWITCH = enum.auto()
    """It protects unless its value is empty or says no."""
    TEXT = enum.auto()
    """It protects unless its value is empty."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A value that cannot be read."""

    hint: str
    """The end of a sentence: what would be accepted."""
    closes: bool = False
    """Known and not carried out, and served otherwise it would be something else: the routes answer 500, as with a guard."""


Parse = Callable[[str], Any]
"""Read the text of an annotation; `Refused`: it cannot be read."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """A row of the table."""

    key: str
    """With its prefix."""
    status: Status = Status.UNDERSTOOD
    guard: Guard = Guard.NONE
    says: str = ""
    """Of one that is understood, what it means, for the docs; else what the owner of the object reads, with {name} in it."""
    values: str = ""
    """Of one that is understood: its values, for the docs."""
    parse: Parse | None = None
    rule: tuple[str, ...] = ()
    """The field of a WsRoute's rule that it stands for: the feature is read from it as from a rule."""
    attribute: str = ""
    """The argument of its family's `build`, where it stands for no field of a rule."""
    needs: str = ""
    """Another key without which it says nothing."""
    yields_to: str = ""
    """Another key beside which it does not count."""
    applies_to: Kind = "Ingress"

    @property
    def name(self) -> str:
        """The key without its prefix."""
        return self.key.rpartition("/")[2]

    @property
    def understood(self) -> bool:
        """Whether its value is read."""
        return self.status is Status.UNDERSTOOD

    @property
    def target(self) -> tuple[str, ...]:
        """What it sets: of several annotations with one target the first in the table counts."""
        return self.rule or (self.attribute,)


@dataclass(frozen=True, slots=True)
class Family:
    """Annotations that belong together."""

    title: str
    """For the docs."""
    annotations: tuple[Annotation, ...]
    feature: str = ""
    """Field of `Features` that those that are understood fill."""
    build: Callable[[Mapping[str, Any]], object] | None = None
    """Make the feature of values by `attribute`; None: it is read from a rule."""


_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def ours(rule: str, parse: Parse, values: str, means: str, *, guard: Guard = Guard.NONE, needs: str = "") -> Annotation:
    """Return the annotation of ours for a field of a rule, as in `limits.messages.rate`."""
    return Annotation(
        our_key(rule),
        guard=guard,
        says=means,
        values=values,
        parse=parse,
        rule=tuple(rule.split(".")),
        needs=our_key(needs) if needs else "",
    )


def our_key(rule: str) -> str:
    """Write a field of a rule as a key: `timeouts.maxAge` is `sluice.dev/timeouts-max-age`."""
    return OURS + re.sub("[A-Z]+", lambda word: "-" + word[0].lower(), rule).replace(".", "-")


def not_yet(*names: str, guard: Guard = Guard.NONE) -> tuple[Annotation, ...]:
    """Return annotations of ingress-nginx that are not supported yet."""
    says = NOT_YET if guard is Guard.NONE else GUARD_NOT_YET
    return unread(Status.NOT_YET, says, *names, guard=guard)


def unread(status: Status, says: str, *names: str, guard: Guard = Guard.NONE) -> tuple[Annotation, ...]:
    """Return annotations of ingress-nginx of which the same is said."""
    return tuple(Annotation(NGINX + name, status, guard, says) for name in names)


def read_go_bool(value: str) -> bool | None:
    """Return what ingress-nginx takes a flag for (Go's strconv.ParseBool); None: it is none, and ingress-nginx ignores it."""
    return True if value in _TRUE else False if value in _FALSE else None


def asks(value: str) -> bool:
    """Tell whether a value asks for something: it is not empty, and does not say no."""
    return bool(value.strip()) and read_go_bool(value) is not False and value.lower() != "off"


def protects(annotation: Annotation, value: str) -> bool:
    """Tell whether an annotation asks for protection. What may be meant to, as `enable-modsecurity: "yes"`, does."""
    if annotation.guard is Guard.NONE:
        return False
    return asks(value) if annotation.guard is Guard.SWITCH else bool(value.strip())
