"""Annotations of ingress-nginx of which nothing is read, by what they are about."""

from controller.resources.annotations.annotation import Family, Guard, Status, not_yet, unread

_SNIPPET = (
    "the routes of this Ingress answer 500: {name} may protect them, and it is refused because text that is pasted into a proxy's "
    "configuration can read every Secret. Remove it to have them served without what it says."
)

AUTHENTICATION = Family(
    "Authentication",
    (
        *not_yet(
            "auth-cache-duration",
            "auth-cache-key",
            "auth-keepalive-requests",
            "auth-keepalive-timeout",
            "auth-method",
            "auth-proxy-set-headers",
            "auth-realm",  # even `off` is a text here
            "auth-request-redirect",
            "auth-response-headers",
            "auth-secret",
            "auth-secret-type",
            "auth-signin",
            "auth-signin-redirect-param",
            "auth-type",
            "auth-url",
            guard=Guard.TEXT,
        ),
        *not_yet(
            "auth-always-set-cookie",
            "auth-keepalive",
            "auth-keepalive-share-vars",
            "enable-global-auth",
            guard=Guard.SWITCH,
        ),
        *not_yet("satisfy"),  # it only loosens guards that are there
    ),
)

CLIENT_CERTIFICATES = Family(
    "Certificates of clients",
    (
        *not_yet("auth-tls-error-page", "auth-tls-match-cn", "auth-tls-secret", "auth-tls-verify-depth", guard=Guard.TEXT),
        *not_yet("auth-tls-pass-certificate-to-upstream", "auth-tls-verify-client", guard=Guard.SWITCH),
    ),
)

FIREWALL = Family(
    "Firewall",
    (
        *not_yet("enable-modsecurity", "enable-owasp-core-rules", guard=Guard.SWITCH),
        *not_yet("modsecurity-transaction-id", guard=Guard.TEXT),
    ),
)

SNIPPETS = Family(
    "Snippets",
    unread(
        Status.REFUSED,
        _SNIPPET,
        "auth-snippet",
        "configuration-snippet",
        "modsecurity-snippet",
        "server-snippet",
        "stream-snippet",
        guard=Guard.TEXT,
    ),
)

BACKENDS = Family(
    "Backends, and TLS to them",
    (
        *not_yet("proxy-ssl-secret", guard=Guard.TEXT),
        *not_yet("proxy-ssl-verify", "ssl-passthrough", guard=Guard.SWITCH),
        # These need proxy-ssl-verify or proxy-ssl-secret to protect anything.
        *not_yet("proxy-ssl-ciphers", "proxy-ssl-name", "proxy-ssl-protocols", "proxy-ssl-server-name", "proxy-ssl-verify-depth"),
        *not_yet("default-backend", "fastcgi-index", "fastcgi-params-configmap", "upstream-vhost"),
    ),
)

CORS = Family(
    "CORS",  # without it browsers let less through
    not_yet(
        "cors-allow-credentials",
        "cors-allow-headers",
        "cors-allow-methods",
        "cors-allow-origin",
        "cors-expose-headers",
        "cors-max-age",
        "enable-cors",
    ),
)

REDIRECTS = Family(
    "Redirects",
    not_yet(
        "app-root",
        "from-to-www-redirect",
        "permanent-redirect",
        "permanent-redirect-code",
        "preserve-trailing-slash",
        "temporal-redirect",
        "temporal-redirect-code",
        "use-port-in-redirects",
    ),
)

ANSWERS = Family(
    "Requests and answers on their way",
    not_yet(
        "connection-proxy-header",
        "custom-headers",
        "custom-http-errors",
        "disable-proxy-intercept-errors",
        "proxy-cookie-domain",
        "proxy-cookie-path",
        "proxy-next-upstream",
        "proxy-next-upstream-timeout",
        "proxy-next-upstream-tries",
        "proxy-redirect-from",
        "proxy-redirect-to",
    ),
)

BUFFERS = Family(
    "Buffers",
    (
        *unread(
            Status.HARMLESS,
            "{name} has no effect: answers and bodies are streamed. Remove it.",
            "client-body-buffer-size",
            "proxy-buffering",
            "proxy-buffers-number",
            "proxy-busy-buffers-size",
            "proxy-max-temp-file-size",
            "proxy-request-buffering",
        ),
        *unread(
            Status.HARMLESS,
            "{name} has no effect: heads of answers may have 64 KiB, and bodies are streamed. Remove it.",
            "proxy-buffer-size",
        ),
        *unread(Status.HARMLESS, "{name} has no effect: backends are spoken to over HTTP/1.1. Remove it.", "proxy-http-version"),
    ),
)

MIRRORS = Family("Mirrors", not_yet("mirror-host", "mirror-request-body", "mirror-target"))

HOSTS = Family(
    "Hosts and TLS of clients", not_yet("http2-push-preload", "server-alias", "ssl-ciphers", "ssl-prefer-server-ciphers")
)

LOGS = Family(
    "Logs and traces",
    not_yet(
        "enable-access-log",
        "enable-opentelemetry",
        "enable-rewrite-log",
        "opentelemetry-operation-name",
        "opentelemetry-trust-incoming-span",
    ),
)

WEBSOCKETS = Family(
    "WebSockets",
    unread(
        Status.NEVER_EXISTED,
        "{name} never existed in ingress-nginx and has no effect: upgrades work on every path. Remove it.",
        "websocket",
        "websocket-services",
    ),
)

FAMILIES = (
    AUTHENTICATION,
    CLIENT_CERTIFICATES,
    FIREWALL,
    SNIPPETS,
    BACKENDS,
    CORS,
    REDIRECTS,
    ANSWERS,
    BUFFERS,
    MIRRORS,
    HOSTS,
    LOGS,
    WEBSOCKETS,
)
