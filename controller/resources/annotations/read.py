"""Annotations of Ingresses and IngressClasses. The only reader of annotations.

Three kinds of keys: ours (`sluice.dev/`), ingress-nginx's that we understand, and ingress-nginx's that we do not: each of those is
reported by name with what to do instead, because an annotation that is silently ignored is a security policy that evaporated.
So may one be that is misspelt: `unknown_annotations` tells which may be meant.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from controller.resources.annotations.ingress_nginx import GUARDS, INSTEAD, asks, instead_of, protects, read_bool, unknown
from controller.resources.annotations.unknown_keys import MOST_NAMED, NGINX, OURS, KnownKeys, Meaning, of_other_controllers
from controller.resources.features.access import GUARD_ANNOTATIONS, Guards, read_guards
from controller.resources.features.close import AGE_HINT, UNWRITTEN, Closing, parse_age, read_closing
from controller.resources.features.close import ANNOTATIONS as CLOSING
from controller.resources.features.keepalive import KEEPALIVE_ANNOTATIONS, KeepaliveSpec, read_keepalive
from controller.resources.features.limits import LIMIT_ANNOTATIONS, Limits, read_limits
from controller.resources.features.load_balancing import ANNOTATIONS as BALANCE
from controller.resources.features.load_balancing import NOTHING, Balance, read_balance
from controller.resources.features.message_limits import MESSAGE_ANNOTATIONS, MessageLimitsSpec, read_message_limits
from controller.resources.reading.fields import TIMEOUT_HINT, Reader, as_mapping, metadata_of, parse_timeout, shown
from controller.resources.reading.problems import Reason

CANARY = NGINX + "canary"
CLASS = "kubernetes.io/ingress.class"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
MOST_KEYS = 10
"""Keys of other controllers that a message names."""

TIMEOUTS = ("connect", "handshake", "response", "idle")
MAX_AGE = "timeouts-max-age"
_TIMEOUTS: Mapping[str, str] = {**{f"timeouts-{name}": name for name in TIMEOUTS}, MAX_AGE: "max_age"}
"""Keys under `sluice.dev/`, and the timeout that each sets."""
_GUARD = "is not supported yet, and the routes answer 500 because they are not served without it; remove it to be served."
_READ_ELSEWHERE = GUARD_ANNOTATIONS | LIMIT_ANNOTATIONS | MESSAGE_ANNOTATIONS | KEEPALIVE_ANNOTATIONS
"""Keys of features that read theirs in modules of their own."""
_READ = (
    {OURS + name: False for name in ("ssl-redirect", *_TIMEOUTS, *CLOSING, *BALANCE)}
    | {NGINX + name: False for name in ("ssl-redirect", "force-ssl-redirect", "canary")}
    | dict.fromkeys(KEEPALIVE_ANNOTATIONS, False)
    | dict.fromkeys(GUARD_ANNOTATIONS | LIMIT_ANNOTATIONS | MESSAGE_ANNOTATIONS, True)
)
KNOWN = KnownKeys(_READ, {NGINX + name: name in GUARDS for name in INSTEAD})


@lru_cache(maxsize=1024)
def meaning_of(unknown_key: str) -> Meaning:
    """Say what a key that is not read may be meant for; thousands of objects may have the same."""
    return KNOWN.meaning(unknown_key)


@dataclass(frozen=True, slots=True)
class IngressPolicy:
    """What the annotations of an Ingress ask for."""

    ssl_redirect: bool = True
    """Redirect to https where the host has a certificate."""
    force_ssl_redirect: bool = False
    """Redirect in any case."""
    timeouts: tuple[tuple[str, float], ...] = ()
    """Timeouts that differ from the defaults: name (connect, handshake, response, idle, max_age) and seconds."""
    fault: str = ""
    """Not empty: a guard was asked for that we do not have or cannot read; the routes answer 500."""
    guards: Guards = field(default_factory=Guards)
    limits: Limits = field(default_factory=Limits)
    closing: Closing = UNWRITTEN
    balance: Balance = NOTHING
    keepalive: KeepaliveSpec | None = None
    message_limits: MessageLimitsSpec | None = None
    canary: bool = False
    """It is a part of the traffic of another Ingress: nothing of it is served, as that part cannot be told yet."""


def annotations_of(reader: Reader, raw: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations of an object. The API server takes strings only; in a folder, what YAML makes of others counts too."""
    found = reader.mapping(reader.mapping(raw, "metadata", "metadata"), "annotations", "metadata.annotations")
    return {key: value if isinstance(value, str) else _as_text(value) for key, value in found.items() if isinstance(key, str)}


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.date):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else shown(value)


def check_strings(reader: Reader, raw: Mapping[str, Any]) -> None:
    """Collect annotations that are no strings, as in a file without quotes, and what they are read as: no cluster takes them.

    One without a value is none of them: the API server reads it as an empty string.
    """
    found = as_mapping(metadata_of(raw).get("annotations"))
    for key, value in found.items():
        if isinstance(key, str) and value is not None and not isinstance(value, str):
            text = shown(_as_text(value))
            message = f"no string was found; it is read as {text}, and a cluster refuses it; {text} in quotes would be accepted."
            reader.report(f"metadata.annotations[{key}]", message, Reason.UNSUPPORTED_VALUE)


def read_policy(reader: Reader, annotations: Mapping[str, str]) -> IngressPolicy:
    """Read what an Ingress asks for; what is wrong or not supported is collected. Ours wins where both are set."""
    if _read_canary(reader, annotations):
        return IngressPolicy(canary=True)
    ssl_redirect, force, timeouts = True, False, dict[str, float]()
    guards, fault = read_guards(reader, annotations)
    limits, unreadable = read_limits(reader, annotations)
    message_limits, illegible = read_message_limits(reader, annotations)
    fault = fault or unreadable or illegible
    closing = UNWRITTEN
    balance: list[tuple[str, str]] = []
    for key in sorted(annotations, key=lambda key: (key.startswith(OURS), key)):
        value = annotations[key]
        field = f"metadata.annotations[{key}]"
        ours = key.removeprefix(OURS) if key.startswith(OURS) else ""
        if key in (OURS + "ssl-redirect", NGINX + "ssl-redirect"):
            ssl_redirect = _read_flag(reader, field, value, default=ssl_redirect)
        elif key == NGINX + "force-ssl-redirect":
            force = _read_flag(reader, field, value, default=force)
        elif ours in _TIMEOUTS:
            parse, hint = (parse_age, AGE_HINT) if ours == MAX_AGE else (parse_timeout, TIMEOUT_HINT)
            seconds = parse(value)
            if seconds is None:
                reader.report(field, f"{shown(value)} was found, {hint}", Reason.UNSUPPORTED_VALUE)
            else:
                timeouts[_TIMEOUTS[ours]] = seconds
        elif ours in BALANCE:
            balance.append((ours, value))
        elif ours in CLOSING:
            closing = read_closing(reader, field, ours, value, closing)
        elif key in _READ_ELSEWHERE or key == CANARY:
            continue
        elif key.startswith(OURS):
            if meaning_of(key).guards:
                fault = fault or f"{key} is not supported"
            reader.report(field, _no_such(key), Reason.UNSUPPORTED_VALUE)
        elif key.startswith(NGINX):
            name = key.removeprefix(NGINX)
            if protects(name, value) or (name not in INSTEAD and meaning_of(key).guards and asks(value)):
                fault = fault or f"{key} is not supported"
            reader.report(field, f"{name} {_instead_of(key, name, value)}", Reason.UNSUPPORTED_VALUE)
    _tell_of_other_controllers(reader, annotations)
    if OURS + "ssl-redirect" in annotations and not ssl_redirect:
        force = False
    placing = read_balance(reader, balance)
    return IngressPolicy(
        ssl_redirect,
        force,
        tuple(sorted(timeouts.items())),
        fault,
        guards,
        limits,
        closing=closing,
        balance=placing,
        keepalive=read_keepalive(reader, annotations),
        message_limits=message_limits,
    )


def _read_canary(reader: Reader, annotations: Mapping[str, str]) -> bool:
    """Tell whether an Ingress is a canary. ingress-nginx ignores what is no flag, and the other annotations of a canary."""
    value = annotations.get(CANARY, "")
    canary = read_bool(value)
    field = f"metadata.annotations[{CANARY}]"
    if canary:
        message = (
            "canary is not supported yet, and this Ingress is not served because it could take all traffic of another; "
            "remove it, or give the backends of a WsRoute weights."
        )
        reader.report(field, message, Reason.UNSUPPORTED_VALUE)
    elif canary is None and value:
        message = f'{shown(value)} was found, so this Ingress is served as no canary; "true" or "false" would be accepted.'
        reader.report(field, message, Reason.UNSUPPORTED_VALUE)
    return canary is True


def _no_such(key: str) -> str:
    """Say that a key of ours does not exist, and which one may be meant."""
    meaning = meaning_of(key)
    near = [one for one in meaning.near if KNOWN.is_read(one)]
    if meaning.guards:
        if not near:
            return f"{key.removeprefix(OURS)} {_GUARD}"
        return (
            "there is no such annotation, and the routes answer 500 because it may be meant to protect them; "
            f"{' or '.join(near)} may be meant."
        )
    which = f"{' or '.join(near)} may be meant" if near else "docs/ingress.md lists those that there are"
    return f"there is no such annotation; {which}."


def _instead_of(key: str, name: str, value: str) -> str:
    """Return the rest of the sentence about a key under ingress-nginx's prefix that is not read."""
    if name in INSTEAD:
        return instead_of(name, value)
    meaning = meaning_of(key)
    read = any(KNOWN.is_read(one) for one in meaning.near)
    near = [one.removeprefix(NGINX) for one in meaning.near if KNOWN.is_read(one) or not read]
    return unknown(near, read=read, guards=meaning.guards, asked=asks(value))


def _tell_of_other_controllers(reader: Reader, annotations: Mapping[str, str]) -> None:
    """Say once which keys of other controllers are not read, and of those with a misspelt prefix what may be meant."""
    found = of_other_controllers(annotations)
    keys = found + [key for key in sorted(annotations) if "/" not in key and KNOWN.without_prefix(key)]
    if not keys:
        return
    more = len(keys) - MOST_KEYS
    named = ", ".join(keys[:MOST_KEYS]) + (f" and {more} more" if more > 0 else "")
    meant = list(dict.fromkeys(one for key in keys for one in KNOWN.without_prefix(key)))[:MOST_NAMED]
    near = f"; {' or '.join(meant)} may be meant" if meant else ""
    message = f"{named}: not read, as only keys under {OURS} and {NGINX} are{near}."
    reader.report("metadata.annotations", message, Reason.UNSUPPORTED_VALUE)


def _read_flag(reader: Reader, field: str, value: str, *, default: bool) -> bool:
    if value in ("true", "false"):
        return value == "true"
    reader.report(field, f'{shown(value)} was found, "true" or "false" would be accepted.', Reason.UNSUPPORTED_VALUE)
    return default
