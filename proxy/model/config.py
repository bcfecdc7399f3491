"""The proxy's configuration: routes, upstreams and certificates, as frozen values in the proxy's own words.

A `ProxyConfig` is complete: it names everything the proxy needs and refers to nothing outside itself. Routes are kept by id so
that a change of one is a change of one entry.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from proxy.model.policy import Policy
from proxy.model.sensitive import Sensitive

PathKind = Literal["exact", "prefix", "regex", "expression"]
"""`regex`: the whole path, of a WsRoute. `expression`: the decoded path's beginning, of an Ingress (`proxy.model.expression`)."""
LoadBalancing = Literal["round-robin", "least-connections", "random2", "hash", "ewma"]
"""`hash`: by what the route's policy `HashOn` names. `ewma`: by how fast answers begin; for requests, as sockets answer once."""
Origin = Literal["wsroute", "ingress"]
EndpointState = Literal["ready", "draining", "stopping", "unready"]


class Path(msgspec.Struct, frozen=True):
    """A path condition. A prefix matches by whole segments and is stored without its trailing slash, the root as ``/``.

    Of paths of several kinds on one host the table says which goes first (proxy/routing/table.py).
    """

    kind: PathKind
    value: str


class Pair(msgspec.Struct, frozen=True):
    """A name and the exact value that it must have. Header names are stored in lower case."""

    name: str
    value: str


class Conditions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What must hold beside host and path; all of it."""

    subprotocols: tuple[str, ...] = ()
    """Any of these is offered in Sec-WebSocket-Protocol."""
    headers: tuple[Pair, ...] = ()
    query: tuple[Pair, ...] = ()

    @property
    def count(self) -> int:
        """How many conditions there are: each header and query pair is one, all subprotocols together are one."""
        return len(self.headers) + len(self.query) + bool(self.subprotocols)


class Share(msgspec.Struct, frozen=True):
    """A part of a target's traffic, in proportion to its weight (0..1,000,000; 0 gets nothing)."""

    upstream: str | None
    """Key in `ProxyConfig.upstreams`; None: the reference cannot be resolved, and this share is answered 500."""
    weight: int = 1


class Target(msgspec.Struct, frozen=True):
    """Where matched traffic of one kind goes."""

    shares: tuple[Share, ...]
    load_balancing: LoadBalancing = "round-robin"


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule: what it matches, where it leads, what it asks for. Serves upgrades, ordinary requests, or both."""

    id: str
    """``wsroute/NAMESPACE/NAME/RULE`` or ``ingress/NAMESPACE/NAME/INDEX``; the metric label."""
    origin: Origin
    namespace: str
    name: str
    created: str
    """creationTimestamp as given (RFC 3339, UTC); empty sorts first."""
    index: int
    """Position of the rule in its object."""
    hosts: tuple[str, ...]
    """Lower-case, exact or ``*.suffix`` for one label; the one element ``""`` for any host."""
    path: Path
    conditions: Conditions = Conditions()
    websocket: Target | None = None
    http: Target | None = None
    policies: tuple[Policy, ...] = ()
    fallback: bool = False
    """An Ingress's defaultBackend: serves what no other route of its hosts does."""
    fault: str = ""
    """Not empty: a policy of this route cannot be honoured, so it answers 500. For operators, never shown to clients."""


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """One address that serves an upstream."""

    address: str
    """IP address; a DNS name only for ExternalName."""
    port: int
    state: EndpointState = "ready"
    """Draining endpoints (serving and terminating) are used only while no endpoint is ready; those that are stopping (terminating
    and not serving any more) or unready never are. What an unready one has open stays open."""
    deadline: float = 0.0
    """Unix time at which a terminating endpoint is killed; 0: unknown."""
    pod: str = ""
    """Name of the pod; empty: it is none, or not known."""


class Upstream(msgspec.Struct, frozen=True, omit_defaults=True):
    """The endpoints of one Service port. Its key is ``NAMESPACE/NAME:PORT``, the metric label `service`."""

    endpoints: tuple[Endpoint, ...]
    tls: bool = False
    """Speak TLS to the endpoints; their certificates are not verified."""


class Certificate(msgspec.Struct, frozen=True):
    """A certificate chain with its key, already checked by the controller. Its key is ``NAMESPACE/NAME`` of the Secret."""

    chain: bytes
    """PEM, leaf first."""
    key: Sensitive
    """PEM, unencrypted."""
    not_after: float
    """Unix time of the leaf's expiry."""


class ProxyConfig(msgspec.Struct, frozen=True):
    """Everything the proxy serves."""

    routes: Mapping[str, Route]
    upstreams: Mapping[str, Upstream]
    """By `namespace/service:port`, with the port's number."""
    certificates: Mapping[str, Certificate]
    tls_hosts: Mapping[str, str]
    """Host (exact or ``*.suffix``) to key in `certificates`."""
    default_certificate: str | None = None
    """Key in `certificates`; None: the one that the proxy's supervisor makes at start."""


EMPTY = ProxyConfig(routes={}, upstreams={}, certificates={}, tls_hosts={})
