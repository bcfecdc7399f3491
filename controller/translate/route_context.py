"""What policies depend on beside what a route asks for."""

from dataclasses import dataclass

from controller.resources.reading.object_ref import ObjectRef
from proxy.model.config import Path


@dataclass(frozen=True, slots=True)
class RouteContext:
    """Where a route comes from, and what it matches."""

    owner: ObjectRef
    uid: str
    path: Path
    pods_by_host: bool = False
    """The first label of the host names the pod, where one is named; else the path does."""
