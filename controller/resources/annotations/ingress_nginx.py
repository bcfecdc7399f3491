"""Annotations of ingress-nginx that are not read: what is said of each, and which of them protect.

All of its last release (1.15.1, annotations-risk.md) that other modules do not read are here, none by what its name begins
with: one that protects and is taken for harmless would leave open what was closed. A value that switches off asks for nothing.
"""

from collections.abc import Mapping, Sequence

_LATER = "is not supported yet; remove it, or keep this Ingress where it is until it is."
_NEVER = "never existed in ingress-nginx; remove it: upgrades work on every path without it."
_NOT_NEEDED = "is not needed: answers and bodies are streamed; remove it."
_GUARD = "is not supported yet, and the routes answer 500 because they are not served without it; remove it to be served."
_SNIPPET = (
    "is refused, as text pasted into a proxy's configuration can read every Secret, and the routes answer 500 because it may "
    "protect them; remove it to be served."
)
_OFF = "is not supported yet, and asks for nothing as it is written; remove it."
_UNKNOWN = "is no annotation of ingress-nginx that is known here; remove it."
_WISHED = (
    "never existed in ingress-nginx, and the routes answer 500 because they would be less limited than written; limit-rps, "
    "limit-rpm or limit-connections would be accepted."
)

_SWITCHES = """
    auth-always-set-cookie auth-keepalive auth-keepalive-share-vars auth-tls-pass-certificate-to-upstream
    auth-tls-verify-client enable-global-auth enable-modsecurity enable-owasp-core-rules limit-rate limit-rate-after
    limit-req proxy-ssl-verify rate-limit ssl-passthrough
"""
"""Guards, and what belongs to one, whose value can say no."""
_TEXTS = """
    auth-cache-duration auth-cache-key auth-keepalive-requests auth-keepalive-timeout auth-method auth-proxy-set-headers
    auth-realm auth-request-redirect auth-response-headers auth-secret auth-secret-type auth-signin
    auth-signin-redirect-param auth-tls-error-page auth-tls-match-cn auth-tls-secret auth-tls-verify-depth auth-type
    auth-url modsecurity-transaction-id proxy-ssl-secret
"""
"""The same with a value that is empty or asks for something. In auth-realm even `off` is a text."""
_SNIPPETS = "auth-snippet configuration-snippet modsecurity-snippet server-snippet stream-snippet"
_HARMLESS = """
    affinity-canary-behavior affinity-mode app-root canary-by-cookie canary-by-header canary-by-header-pattern
    canary-by-header-value canary-weight canary-weight-total connection-proxy-header cors-allow-credentials
    cors-allow-headers cors-allow-methods cors-allow-origin cors-expose-headers cors-max-age custom-headers
    custom-http-errors default-backend disable-proxy-intercept-errors enable-access-log enable-cors enable-opentelemetry
    enable-rewrite-log fastcgi-index fastcgi-params-configmap from-to-www-redirect http2-push-preload mirror-host
    mirror-request-body mirror-target opentelemetry-operation-name opentelemetry-trust-incoming-span permanent-redirect
    permanent-redirect-code preserve-trailing-slash proxy-cookie-domain proxy-cookie-path proxy-next-upstream
    proxy-next-upstream-timeout proxy-next-upstream-tries proxy-redirect-from proxy-redirect-to proxy-ssl-ciphers
    proxy-ssl-name proxy-ssl-protocols proxy-ssl-server-name proxy-ssl-verify-depth satisfy server-alias service-upstream
    session-cookie-change-on-failure session-cookie-conditional-samesite-none session-cookie-domain
    session-cookie-partitioned session-cookie-path session-cookie-secure ssl-ciphers ssl-prefer-server-ciphers
    temporal-redirect temporal-redirect-code upstream-hash-by-subset upstream-hash-by-subset-size upstream-vhost
    use-port-in-redirects use-regex x-forwarded-prefix
"""
"""What protects nothing by itself: `satisfy` only loosens guards that are there, `proxy-ssl-name` and the like need
`proxy-ssl-verify` or `proxy-ssl-secret`, and without CORS browsers let less through."""

INSTEAD: Mapping[str, str] = (
    dict.fromkeys((*_SWITCHES.split(), *_TEXTS.split()), _GUARD)
    | dict.fromkeys(_SNIPPETS.split(), _SNIPPET)
    | dict.fromkeys(("rate-limit", "limit-req"), _WISHED)
    | dict.fromkeys(("websocket-services", "websocket"), _NEVER)
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
    | dict.fromkeys(_HARMLESS.split(), _LATER)
)
"""Keys without their prefix, each with the rest of a sentence about it that begins with the key. Of a guard it is that of one that
asks for something."""

GUARDS = frozenset((*_SWITCHES.split(), *_TEXTS.split(), *_SNIPPETS.split()))
"""Keys that protect, or belong to what does: a route that asks for one of them is not served without it."""
_SWITCHED = frozenset(_SWITCHES.split())
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def read_bool(value: str) -> bool | None:
    """Return what ingress-nginx takes a flag for (Go's strconv.ParseBool); None: it is none, and ingress-nginx ignores it."""
    return True if value in _TRUE else False if value in _FALSE else None


def protects(name: str, value: str) -> bool:
    """Tell whether a key asks for protection. What may be meant to, as `enable-modsecurity: "yes"`, does."""
    return name in GUARDS and (asks(value) if name in _SWITCHED else bool(value.strip()))


def asks(value: str) -> bool:
    """Tell whether a value asks for something: it is not empty, and does not say no."""
    return bool(value.strip()) and read_bool(value) is not False and value.lower() != "off"


def instead_of(name: str, value: str) -> str:
    """Return the rest of the sentence about a key that is not read."""
    if name in GUARDS and not protects(name, value):
        return _OFF
    return INSTEAD.get(name, _UNKNOWN)


def unknown(near: Sequence[str], *, read: bool, guards: bool, asked: bool) -> str:
    """Return the rest of the sentence about a key that ingress-nginx does not have either.

    `near`: what may be meant, without ingress-nginx's prefix; `read`: that means something here; `asked`: its value asks for it.
    """
    known = "is no annotation of ingress-nginx that is known here"
    meant = " or ".join(near)
    if not guards or not asked:
        if near and not read:
            return f"{known}; {meant} may be meant, which {instead_of(near[0], '' if guards else 'true')}"
        return f"{known}; {meant} may be meant." if near else _UNKNOWN
    if near and not read:
        return f"{known}; {meant} may be meant, which {INSTEAD[near[0]]}"
    which = f"{meant} may be meant" if near else "remove it to be served"
    return f"{known}, and the routes answer 500 because it may be meant to protect them; {which}."
