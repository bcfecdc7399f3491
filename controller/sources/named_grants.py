"""Which named Secrets and ConfigMaps are read and kept: a pure function of the references, and of the sizes of what was read.

Grants go by the age of the objects that name, as hosts and paths do: the oldest keeps its place. So whoever is over a limit is
refused, and nothing that came later, in whatever namespace, takes a grant away. The decision depends on no history, so that every
replica and every start makes the same one. What that leaves: an object keeps its age when it is edited, and so does its reference
when what it names grows. Within a namespace that is its own affair; the limits of all namespaces together take eight of them that
are full, with older objects, to be felt by a younger one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from controller.resources.reading.named_objects import NamedProblem, Reference
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Reason

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read. Bytes are those of values that are kept."""

    names_of_namespace: int = 100
    names: int = 1000
    bytes_of_namespace: int = 8 * MEBIBYTE
    bytes: int = 64 * MEBIBYTE


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Grants:
    """Which names are followed."""

    granted: Mapping[ObjectRef, frozenset[str] | None] = field(default_factory=lambda: MappingProxyType({}))
    """Keys that are needed of each, None: all; in the order of their ages."""
    refused: Mapping[ObjectRef, NamedProblem] = field(default_factory=lambda: MappingProxyType({}))


def grant(references: Iterable[Reference], limits: Limits = LIMITS) -> Grants:
    """Decide which names are followed."""
    granted: dict[ObjectRef, frozenset[str] | None] = {}
    refused: dict[ObjectRef, NamedProblem] = {}
    of_namespace: dict[str, int] = {}
    for reference in sorted(references, key=_order):
        target = reference.target
        if target in granted:
            known = granted[target]
            granted[target] = None if known is None or not reference.keys else known | frozenset(reference.keys)
            continue
        if target in refused:
            continue
        count = of_namespace.get(target.namespace, 0)
        if count >= limits.names_of_namespace:
            refused[target] = _too_many(limits.names_of_namespace, "in this namespace")
        elif len(granted) >= limits.names:
            refused[target] = _too_many(limits.names, "in all namespaces")
        else:
            of_namespace[target.namespace] = count + 1
            granted[target] = frozenset(reference.keys) if reference.keys else None
    return Grants(MappingProxyType(granted), MappingProxyType(refused))


def refuse_bytes(
    order: Sequence[ObjectRef], sizes: Mapping[ObjectRef, int], limits: Limits = LIMITS
) -> dict[ObjectRef, NamedProblem]:
    """Decide whose bytes are not kept. `order`: the granted names, the oldest first; `sizes`: of those that were read."""
    refused: dict[ObjectRef, NamedProblem] = {}
    of_namespace: dict[str, int] = {}
    total = 0
    for ref in order:
        size = sizes.get(ref, 0)
        own = of_namespace.get(ref.namespace, 0)
        if own + size > limits.bytes_of_namespace:
            refused[ref] = _too_large(limits.bytes_of_namespace, "in this namespace")
        elif total + size > limits.bytes:
            refused[ref] = _too_large(limits.bytes, "in all namespaces")
        else:
            of_namespace[ref.namespace] = own + size
            total += size
    return refused


def _order(reference: Reference) -> tuple[str, ...]:
    return reference.order


# No message counts what is over a limit: thousands of statuses would be written anew with each change of the count.
def _too_many(most: int, where: str) -> NamedProblem:
    reason = f"{most} others are named before it {where}, by the oldest objects first, and more are not read"
    return NamedProblem(Reason.REF_NOT_PERMITTED, f"is not read: {reason}; one of these would be accepted.")


def _too_large(most: int, where: str) -> NamedProblem:
    reason = f"with what is named before it {where}, by the oldest objects first, it is more than {most / MEBIBYTE:g} MiB"
    return NamedProblem(Reason.REF_NOT_PERMITTED, f"is not kept: {reason}; less would be accepted.")
