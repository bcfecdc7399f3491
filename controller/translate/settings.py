"""What the operator of the controller decided about the translation."""

from dataclasses import dataclass

from controller.translate.ingress_class import CONTROLLER


@dataclass(frozen=True, slots=True)
class TranslateSettings:
    """What the operator of the controller decided."""

    default_certificate: str = ""
    """``namespace/name`` of a Secret; empty: the proxy makes one."""
    host_ownership: bool = False
    """The first namespace to claim a host keeps it."""
    allow_external_name: bool = False
    allow_loopback: bool = False
    """Endpoints on this machine's loopback may be used: standalone only."""
    own_addresses: frozenset[str] = frozenset()
    """Addresses of the proxy's own pod: endpoints there would lead back to it."""
    note_endpoints: bool = False
    """Services without an endpoint that is ready are noted: not in a cluster, where rollouts have them, and sizes of none."""
    implicit_class: bool = False
    """Where no IngressClass is ours, one named sluice is assumed: standalone only."""
    controller_name: str = CONTROLLER
    """What IngressClasses that are ours name as their controller."""
