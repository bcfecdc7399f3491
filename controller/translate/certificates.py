"""TLS sections as certificates: which Secret a host gets, and what is wrong with the ones that are named."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.resources import Ingress, Secret, WsRoute
from controller.resources.problems import Malformed, Problem, Reason
from controller.resources.refs import ObjectRef
from proxy.model.config import Certificate


@dataclass(frozen=True, slots=True)
class Claim:
    """One object that wants one Secret for one host."""

    created: str
    owner: ObjectRef
    host: str
    secret: str
    """``namespace/name``; empty: the default certificate."""
    field: str


def claims_of(item: Ingress | WsRoute) -> tuple[Claim, ...]:
    """Return what an object wants of TLS. A WsRoute's Secret is for all its hosts; without hosts it is for none."""
    if isinstance(item, WsRoute):
        if not item.secret:
            return ()
        secret = f"{item.ref.namespace}/{item.secret}"
        return tuple(Claim(item.created, item.ref, host, secret, "spec.tls.secretName") for host in item.hosts)
    return tuple(
        Claim(item.created, item.ref, host, f"{item.ref.namespace}/{entry.secret}" if entry.secret else "", entry.field)
        for entry in item.tls
        for host in entry.hosts
    )


def check_secret(claim: Claim, secrets: Mapping[ObjectRef, Secret], malformed: Mapping[ObjectRef, Malformed]) -> Problem | None:
    """Say what is wrong with the Secret of a claim. One that became unreadable keeps its last good certificate."""
    if not claim.secret:
        return None
    namespace, _, name = claim.secret.partition("/")
    ref = ObjectRef("Secret", namespace, name)
    bad = malformed.get(ref)
    if bad is not None:
        kept = "its last good certificate stays" if ref in secrets else "the default certificate is served"
        message = f'{claim.field}: Secret "{claim.secret}" cannot be used, {kept}: {bad.problems[0].message}'
        return Problem(claim.owner, Reason.SECRET_INVALID, claim.field, message)
    if ref not in secrets:
        message = (
            f'{claim.field}: Secret "{claim.secret}" of type kubernetes.io/tls was not found, the default certificate is served; '
            "a Secret of this namespace would be accepted."
        )
        return Problem(claim.owner, Reason.SECRET_NOT_FOUND, claim.field, message)
    return None


def settle_claims(claims: Iterable[Claim]) -> tuple[dict[str, str], list[Problem]]:
    """Give each host the Secret of the oldest object that names one; return host to Secret, and what the others are told."""
    winners: dict[str, Claim] = {}
    problems: list[Problem] = []
    for claim in sorted(
        claims, key=lambda claim: (claim.created, claim.owner.namespace, claim.owner.name, claim.owner.kind, claim.field)
    ):
        if not claim.secret:
            continue
        winner = winners.setdefault(claim.host, claim)
        if winner.secret != claim.secret:
            message = (
                f'{claim.field}: host "{claim.host}" has the certificate of Secret "{winner.secret}" already, '
                f"named by {winner.owner}; the same Secret would be accepted."
            )
            problems.append(Problem(claim.owner, Reason.HOST_CONFLICT, claim.field, message))
    return {host: claim.secret for host, claim in winners.items()}, problems


def translate_certificate(secret: Secret) -> Certificate:
    """Make the certificate of a Secret."""
    return Certificate(secret.chain, secret.key, secret.not_after)
