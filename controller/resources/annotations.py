"""Annotations of Ingresses and IngressClasses. The only reader of annotations.

Three kinds of keys: ours (`sluice.dev/`), ingress-nginx's that we understand, and ingress-nginx's that we do not: each of those is
reported by name with what to do instead, because an annotation that is silently ignored is a security policy that evaporated.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.resources.balance import ANNOTATIONS as BALANCE
from controller.resources.balance import NOTHING, Balance, read_balance
from controller.resources.closing import AGE_HINT, UNWRITTEN, Closing, parse_age, read_closing
from controller.resources.closing import ANNOTATIONS as CLOSING
from controller.resources.fields import TIMEOUT_HINT, Reader, as_mapping, metadata_of, parse_timeout, shown
from controller.resources.guards import GUARD_ANNOTATIONS, Guards, read_guards
from controller.resources.keepalive import KEEPALIVE_ANNOTATIONS, KeepaliveSpec, read_keepalive
from controller.resources.limits import LIMIT_ANNOTATIONS, Limits, read_limits
from controller.resources.message_limits import MESSAGE_ANNOTATIONS, MessageLimitsSpec, read_message_limits
from controller.resources.problems import Reason

OURS = "sluice.dev/"
NGINX = "nginx.ingress.kubernetes.io/"
CLASS = "kubernetes.io/ingress.class"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"

TIMEOUTS = ("connect", "handshake", "response", "idle")
MAX_AGE = "timeouts-max-age"
_TIMEOUTS: Mapping[str, str] = {**{f"timeouts-{name}": name for name in TIMEOUTS}, MAX_AGE: "max_age"}
"""Keys under `sluice.dev/`, and the timeout that each sets."""
_LATER = "is not supported yet; remove it, or keep this Ingress where it is until it is."
_SNIPPET = "is refused: text pasted into a proxy's configuration can read every Secret; remove it."
_NEVER = "never existed in ingress-nginx; remove it: upgrades work on every path without it."
_GUARD = "is not supported yet, and the routes answer 500 because they are not served without it; remove it to be served."
_NOT_NEEDED = "is not needed: answers and bodies are streamed; remove it."

_KNOWN = """
    use-regex affinity-mode affinity-canary-behavior session-cookie-path session-cookie-domain
    session-cookie-secure session-cookie-change-on-failure session-cookie-conditional-samesite-none
    upstream-hash-by-subset upstream-hash-by-subset-size auth-url auth-signin auth-method auth-response-headers
    auth-always-set-cookie auth-cache-key auth-cache-duration auth-type auth-secret auth-secret-type auth-realm
    enable-cors cors-allow-origin cors-allow-methods cors-allow-headers cors-expose-headers
    cors-allow-credentials cors-max-age limit-rate limit-rate-after canary canary-by-header
    canary-by-header-value canary-by-header-pattern canary-by-cookie canary-weight canary-weight-total app-root
    permanent-redirect permanent-redirect-code temporal-redirect temporal-redirect-code from-to-www-redirect
    custom-http-errors default-backend upstream-vhost x-forwarded-prefix connection-proxy-header custom-headers
    proxy-next-upstream proxy-next-upstream-tries proxy-next-upstream-timeout auth-tls-secret
    auth-tls-verify-client auth-tls-verify-depth auth-tls-pass-certificate-to-upstream auth-tls-match-cn
    auth-tls-error-page proxy-ssl-secret proxy-ssl-verify proxy-ssl-name proxy-ssl-server-name
    proxy-ssl-verify-depth proxy-ssl-protocols proxy-ssl-ciphers ssl-passthrough server-alias service-upstream
    satisfy mirror-target mirror-request-body mirror-host enable-access-log enable-opentelemetry
    enable-modsecurity enable-owasp-core-rules http2-push-preload ssl-ciphers ssl-prefer-server-ciphers
"""

INSTEAD: Mapping[str, str] = (
    dict.fromkeys(("configuration-snippet", "server-snippet", "auth-snippet", "modsecurity-snippet", "stream-snippet"), _SNIPPET)
    | dict.fromkeys(("websocket-services", "rate-limit", "limit-req", "websocket"), _NEVER)
    | dict.fromkeys(
        (
            "proxy-buffering",
            "proxy-request-buffering",
            "proxy-buffer-size",
            "proxy-buffers-number",
            "proxy-busy-buffers-size",
            "proxy-max-temp-file-size",
            "client-body-buffer-size",
            "proxy-http-version",
        ),
        _NOT_NEEDED,
    )
    | dict.fromkeys(
        ("proxy-read-timeout", "proxy-send-timeout"),
        "is not read: sockets may idle 1h; write sluice.dev/timeouts-idle, or sluice.dev/timeouts-response for slow answers.",
    )
    | {
        "proxy-connect-timeout": "is not read; write sluice.dev/timeouts-connect.",
        "backend-protocol": "is not read; set appProtocol of the Service's port to https or kubernetes.io/wss.",
        "proxy-body-size": "is not needed: bodies are streamed and not limited; remove it.",
        "load-balance": "is not read; write sluice.dev/load-balancing-policy.",
        "upstream-hash-by": "is not read; write sluice.dev/load-balancing-policy: Hash, and load-balancing-hash-on-* beside it.",
        "rewrite-target": "is not read; where it puts one prefix in place of another write sluice.dev/rewrite-prefix.",
        "session-cookie-samesite": "is not read; write sluice.dev/affinity-cookie-same-site.",
    }
    | dict.fromkeys(("affinity", "session-cookie-name"), "is not read; write sluice.dev/affinity-cookie-name.")
    | dict.fromkeys(
        ("session-cookie-max-age", "session-cookie-expires"), "is not read; write sluice.dev/affinity-cookie-max-age, a duration."
    )
    | dict.fromkeys(_KNOWN.split(), _LATER)
)
"""Keys of ingress-nginx that are not read, each with the rest of a sentence about it that begins with the key."""

_GUARDS = ("auth-", "limit-", "enable-modsecurity", "enable-owasp", "satisfy")
"""Beginnings of keys that protect: a route that asks for one of them is not served without it."""
_OUR_GUARDS = ("auth", "limits", "origins", "allow-cidr", "deny-cidr")
"""The same of ours: guards of the API (spec/wsroute.md) that do not work yet, and what may be meant for one."""
_READ_ELSEWHERE = GUARD_ANNOTATIONS | LIMIT_ANNOTATIONS | MESSAGE_ANNOTATIONS | KEEPALIVE_ANNOTATIONS
"""Keys of features that read theirs in modules of their own."""


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


def annotations_of(reader: Reader, raw: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations of an object. The API server takes strings only; in a folder, what YAML makes of others counts too."""
    found = reader.mapping(reader.mapping(raw, "metadata", "metadata"), "annotations", "metadata.annotations")
    return {key: value if isinstance(value, str) else _as_text(value) for key, value in found.items() if isinstance(key, str)}


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else shown(value)


def is_default_class(raw: Mapping[str, Any]) -> bool:
    """Tell whether an IngressClass is the cluster's default."""
    return as_mapping(metadata_of(raw).get("annotations")).get(DEFAULT_CLASS) == "true"


def is_guard(name: str) -> bool:
    """Tell whether a key of ingress-nginx protects and is not supported: routes are not served without it."""
    return INSTEAD.get(name) == _LATER and name.startswith(_GUARDS)


def instead_of(name: str) -> str:
    """Return the rest of the sentence about a key of ingress-nginx that is not read."""
    if is_guard(name):
        return _GUARD
    return INSTEAD.get(name, "is no annotation of ingress-nginx that is known here; remove it.")


def read_policy(reader: Reader, annotations: Mapping[str, str]) -> IngressPolicy:
    """Read what an Ingress asks for; what is wrong or not supported is collected. Ours wins where both are set."""
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
                reader.wrong(field, f"{shown(value)} was found, {hint}", Reason.UNSUPPORTED_VALUE)
            else:
                timeouts[_TIMEOUTS[ours]] = seconds
        elif ours in BALANCE:
            balance.append((ours, value))
        elif ours in CLOSING:
            closing = read_closing(reader, field, ours, value, closing)
        elif key in _READ_ELSEWHERE:
            continue
        elif ours.startswith(_OUR_GUARDS):
            fault = fault or f"{key} is not supported"
            reader.wrong(field, f"{ours} {_GUARD}", Reason.UNSUPPORTED_VALUE)
        elif key.startswith(OURS):
            reader.wrong(field, f"there is no such annotation; {_meant(ours)}.", Reason.UNSUPPORTED_VALUE)
        elif key.startswith(NGINX):
            name = key.removeprefix(NGINX)
            if is_guard(name):
                fault = fault or f"{key} is not supported"
            reader.wrong(field, f"{name} {instead_of(name)}", Reason.UNSUPPORTED_VALUE)
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


def _meant(unknown: str) -> str:
    """Say which of our annotations one that is none may stand for."""
    names = [
        "ssl-redirect",
        *_TIMEOUTS,
        *CLOSING,
        *BALANCE,
        *(key.removeprefix(OURS) for key in _READ_ELSEWHERE if key.startswith(OURS)),
    ]
    near = difflib.get_close_matches(unknown, names, 3, 0.5)
    return f"{' or '.join(OURS + name for name in near)} may be meant" if near else "docs/ingress.md lists those that there are"


def _read_flag(reader: Reader, field: str, value: str, *, default: bool) -> bool:
    if value in ("true", "false"):
        return value == "true"
    reader.wrong(field, f'{shown(value)} was found, "true" or "false" would be accepted.', Reason.UNSUPPORTED_VALUE)
    return default
