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

    @property
    def cookie_key(self) -> str:
        """What keys a cookie's digests: the uid of the object, which all pods of the proxy know, and clients do not.

        In a folder, where objects have none, the name stands for it: addresses are no secret there.
        """
        return self.uid or str(self.owner)
