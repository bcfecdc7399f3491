"""TLS sections as certificates: which Secret each host gets, and what is wrong with those that are named.

A host gets the Secret of the oldest object that names one which can be used; an object whose Secret is missing takes no host
from another. An entry of an Ingress without hosts is for the hosts of the object's rules that its certificate is for, and where
a rule is for any host, for the certificate's names; an object that lists a host comes before it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from controller.resources import Ingress, Secret, WsRoute
from controller.resources.kinds.ingress import TlsEntry
from controller.resources.reading.fields import is_host
from controller.resources.reading.object_ref import ObjectRef
from controller.resources.reading.problems import Malformed, Problem, Reason
from proxy.model.config import Certificate

Source = Literal["listed", "rule", "certificate"]
"""Why a host is claimed, in the order in which claims win: it stands under tls, in a rule, or in the certificate alone."""
_RANKS: Mapping[Source, int] = {"listed": 0, "rule": 1, "certificate": 2}
MOST_LISTED = 5
"""Names of a certificate that a message lists."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One object that wants one Secret for one host."""

    created: str
    owner: ObjectRef
    host: str
    secret: str
    """``namespace/name``; empty: the default certificate."""
    field: str
    source: Source = "listed"

    @property
    def order(self) -> tuple[int, str, str, str, str, str]:
        """Sort key: who lists the host, the oldest object, then by namespace, name, kind, and where in the object."""
        return (_RANKS[self.source], self.created, self.owner.namespace, self.owner.name, self.owner.kind, self.field)


def secret_ref(path: str) -> ObjectRef:
    """Return the Secret that ``namespace/name`` names."""
    namespace, _, name = path.partition("/")
    return ObjectRef("Secret", namespace, name)


def names_covering(host: str) -> tuple[str, ...]:
    """Return the names for TLS that cover a host: its own name, and a wildcard for its first label."""
    first, dot, parent = host.partition(".")
    return (host, f"*.{parent}") if dot and first != "*" else (host,)


def covered(host: str, names: Collection[str]) -> bool:
    """Tell whether a host is covered by names for TLS, by its own or by a wildcard for its first label."""
    return any(name in names for name in names_covering(host))


@dataclass(frozen=True, slots=True)
class TlsClaims:
    """What an object claims of TLS."""

    claims: tuple[Claim, ...] = ()
    claims_without_host: tuple[Claim, ...] = ()
    """Of each entry of an Ingress without hosts, a claim without host."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with those entries, beside their Secrets."""


def tls_claims_of(item: Ingress | WsRoute, secrets: Mapping[ObjectRef, Secret]) -> TlsClaims:
    """Return what an object claims of TLS. A WsRoute's Secret is for all its hosts; without hosts it is for none.

    A canary is not served and claims nothing.
    """
    if isinstance(item, WsRoute):
        if not item.secret:
            return TlsClaims()
        secret = f"{item.ref.namespace}/{item.secret}"
        return TlsClaims(
            tuple(Claim(item.created, item.ref, host, secret, "spec.tls.secretName") for host in dict.fromkeys(item.hosts))
        )
    if item.features.canary:
        return TlsClaims()
    listed = tuple(_claim(item, entry, host, "listed") for entry in item.tls for host in entry.hosts)
    without = [_claim(item, entry, "", "rule") for entry in item.tls if not entry.hosts]
    return _claims_without_hosts(item, listed, without, secrets) if without else TlsClaims(listed)


def _claim(item: Ingress, entry: TlsEntry, host: str, source: Source) -> Claim:
    secret = f"{item.ref.namespace}/{entry.secret}" if entry.secret else ""
    return Claim(item.created, item.ref, host, secret, entry.field, source)


def _claims_without_hosts(
    item: Ingress, listed: tuple[Claim, ...], without: list[Claim], secrets: Mapping[ObjectRef, Secret]
) -> TlsClaims:
    """Find the hosts of entries without hosts. While a certificate is not known, its entry is for every host of the rules.

    So nothing goes in clear that will not later, and no host is said to be left out before that is known.
    """
    hosts = dict.fromkeys((*(path.host for path in item.paths), *item.bare_hosts))
    taken = {claim.host for claim in listed}
    waiting = [host for host in hosts if host and not covered(host, taken)]
    claims: list[Claim] = []
    left: list[tuple[Claim, tuple[str, ...]]] = []
    for entry in without:
        secret = secrets.get(secret_ref(entry.secret)) if entry.secret else None
        names = None if secret is None else secret.names
        claims += (replace(entry, host=host) for host in waiting if names is None or covered(host, names))
        if names is None:
            continue
        if "" in hosts or not hosts:
            fresh = (name for name in names if is_host(name) and name not in taken and name not in hosts)
            claims += (replace(entry, host=name, source="certificate") for name in fresh)
        left.append((entry, names))
    served = {claim.host for claim in claims}
    missing = [host for host in waiting if host not in served]
    problems = tuple(_left_out(entry, names, missing) for entry, names in left if missing or not names)
    return TlsClaims((*listed, *claims), tuple(without), problems)


def _left_out(entry: Claim, names: Sequence[str], missing: Sequence[str]) -> Problem:
    """Say which hosts the certificate of an entry without hosts does not cover."""
    hosts = f"{_join_names(missing)} of the rules" if missing else "any host"
    message = (
        f'{entry.field}: the certificate of Secret "{entry.secret}" is for {_join_names(names)}, and no hosts stand beside it: it '
        f"is not served for {hosts}, nor are requests redirected to https; one for these hosts too would be accepted."
    )
    return Problem(entry.owner, Reason.SECRET_INVALID, entry.field, message)


def check_secret(claim: Claim, secrets: Mapping[ObjectRef, Secret], malformed: Mapping[ObjectRef, Malformed]) -> Problem | None:
    """Say what is wrong with the Secret of a claim. One that became unreadable keeps its last good certificate."""
    if not claim.secret:
        return None
    ref = secret_ref(claim.secret)
    malformed_secret = malformed.get(ref)
    if malformed_secret is not None:
        kept = "its last good certificate stays" if ref in secrets else "the default certificate is served"
        message = f'{claim.field}: Secret "{claim.secret}" cannot be used, {kept}: {malformed_secret.problems[0].message}'
        return Problem(claim.owner, Reason.SECRET_INVALID, claim.field, message)
    if ref not in secrets:
        message = (
            f'{claim.field}: Secret "{claim.secret}" of type kubernetes.io/tls was not found, the default certificate is served; '
            "a Secret of this namespace would be accepted."
        )
        return Problem(claim.owner, Reason.SECRET_NOT_FOUND, claim.field, message)
    return check_dates(claim.owner, claim.field, secrets[ref])


def check_dates(owner: ObjectRef, field: str, secret: Secret) -> Problem | None:
    """Say that a certificate has ended or has not begun, as far as the clock was looked at (`sources/certificate_dates.py`)."""
    if not secret.misdated:
        return None
    message = f'{field}: the certificate of Secret "{secret.ref.path}" {secret.misdated}; one that is valid now would be accepted.'
    return Problem(owner, Reason.SECRET_INVALID, field, message)


def check_names(claim: Claim, secret: Secret) -> Problem | None:
    """Say that the Secret that serves a claim has a certificate for other hosts. It is served: no other fits better."""
    if secret.names is None or covered(claim.host, secret.names):
        return None
    message = (
        f'{claim.field}: the certificate of Secret "{claim.secret}" is for {_join_names(secret.names)}: it is served for host '
        f'"{claim.host}" too, where clients refuse it; one for that host would be accepted.'
    )
    return Problem(claim.owner, Reason.SECRET_INVALID, claim.field, message)


def _join_names(names: Sequence[str]) -> str:
    if not names:
        return "no DNS name"
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def check_default(default: str, secrets: Mapping[ObjectRef, Secret], malformed: Mapping[ObjectRef, Malformed]) -> Problem | None:
    """Say what is wrong with the Secret of the default certificate; None: nothing, or there is to be none."""
    if not default:
        return None
    field, ref = "--default-certificate", secret_ref(default)
    malformed_secret = malformed.get(ref)
    if malformed_secret is not None:
        kept = "its last good certificate stays" if ref in secrets else "one made at start is served"
        message = f'{field}: Secret "{default}" cannot be used, {kept}: {malformed_secret.problems[0].message}'
        return Problem(ref, Reason.SECRET_INVALID, field, message)
    if ref in secrets:
        return check_dates(ref, field, secrets[ref])
    message = f'{field}: Secret "{default}" of type kubernetes.io/tls was not found, one made at start is served.'
    return Problem(ref, Reason.SECRET_NOT_FOUND, field, message)


def translate_certificate(secret: Secret) -> Certificate:
    """Make the certificate of a Secret."""
    return Certificate(secret.chain, secret.key, secret.not_after)


class TlsHosts:
    """Stage: the Secret of every host."""

    __slots__ = ("_claims", "_dirty", "_late", "listed", "secrets")

    def __init__(self) -> None:
        self._claims: dict[str, dict[ObjectRef, tuple[Claim, ...]]] = {}
        self._late: dict[str, dict[ObjectRef, tuple[Problem, ...]]] = {}
        """Problems of claims for hosts that have another Secret, by host and owner."""
        self._dirty: set[str] = set()
        self.listed: set[str] = set()
        """Hosts that stand in some tls section, with or without a Secret that can be used."""
        self.secrets: dict[str, str] = {}
        """Host to the Secret that it gets."""

    def replace(self, owner: ObjectRef, old: Collection[Claim], new: Collection[Claim]) -> None:
        """Let an object claim `new` instead of `old`."""
        for host in {claim.host for claim in old}:
            known = self._claims.get(host, {})
            known.pop(owner, None)
            if not known:
                self._claims.pop(host, None)
            self._dirty.add(host)
        for claim in new:
            known = self._claims.setdefault(claim.host, {})
            known[owner] = (*known.get(owner, ()), claim)
            self._dirty.add(claim.host)

    def mark_dirty(self, hosts: Iterable[str]) -> None:
        """Have hosts decided anew: Secrets that are named for them came or went."""
        self._dirty.update(hosts)

    def resolve(self, usable: Callable[[str], bool]) -> tuple[set[ObjectRef], set[str]]:
        """Decide dirty hosts anew; return objects whose problems differ, and hosts that came to be listed or ceased to be."""
        claimants: set[ObjectRef] = set()
        listing_changed: set[str] = set()
        for host in self._dirty:
            claims = [claim for of_owner in self._claims.get(host, {}).values() for claim in of_owner]
            if bool(claims) != (host in self.listed):
                listing_changed.add(host)
                (self.listed.add if claims else self.listed.discard)(host)
            winner = min((claim for claim in claims if claim.secret and usable(claim.secret)), key=_order, default=None)
            late: dict[ObjectRef, tuple[Problem, ...]] = {}
            if winner is None:
                self.secrets.pop(host, None)
            else:
                self.secrets[host] = winner.secret
                for claim in claims:
                    if claim.secret and claim.secret != winner.secret and usable(claim.secret):
                        late[claim.owner] = (*late.get(claim.owner, ()), _late_claim(claim, winner))
            before = self._late.get(host, {})
            claimants.update(owner for owner in (*before, *late) if before.get(owner) != late.get(owner))
            if late:
                self._late[host] = late
            else:
                self._late.pop(host, None)
        self._dirty.clear()
        return claimants, listing_changed

    def problems(self, claims: Iterable[Claim]) -> list[Problem]:
        """Return what is wrong with claims for hosts that have another Secret."""
        return [
            problem
            for claim in claims
            for problem in self._late.get(claim.host, {}).get(claim.owner, ())
            if problem.field == claim.field
        ]


def _order(claim: Claim) -> tuple[int, str, str, str, str, str]:
    return claim.order


def _late_claim(claim: Claim, winner: Claim) -> Problem:
    by = "by another entry of this object" if winner.owner == claim.owner else f'by {winner.owner.kind} "{winner.owner.path}"'
    message = (
        f'{claim.field}: host "{claim.host}" has the certificate of Secret "{winner.secret}" already, which is named {by}; '
        "the same Secret would be accepted."
    )
    return Problem(claim.owner, Reason.ROUTE_CONFLICT, claim.field, message)
